"""What the command `darkroom` can do, one module each; imported when it is asked for."""

"""The hosts that `darkroom install` supports: their configuration files and entries."""

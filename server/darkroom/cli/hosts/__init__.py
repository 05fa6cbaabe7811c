"""The hosts that `darkroom install` knows: where their files are, and how an entry looks there."""

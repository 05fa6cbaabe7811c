"""Tests: they mirror `server/` and `tools/`."""

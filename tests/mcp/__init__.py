"""Tests of `darkroom.mcp`."""

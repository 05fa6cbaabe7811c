"""Tests of `darkroom.engine.arguments`."""

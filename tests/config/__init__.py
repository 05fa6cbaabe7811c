"""Tests of `darkroom.config`."""

"""Tests of `darkroom.core`."""

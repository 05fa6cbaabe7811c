"""Tests of `darkroom.providers`."""

"""Tests of `darkroom.jobs`."""

"""Tests of `darkroom.cli.hosts`."""

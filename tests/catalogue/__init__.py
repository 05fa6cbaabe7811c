"""Tests of `darkroom.catalogue`."""

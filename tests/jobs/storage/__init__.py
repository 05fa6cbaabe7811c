"""Tests of `darkroom.jobs.storage`."""

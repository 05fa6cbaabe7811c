"""Tests of `darkroom.providers.client`."""

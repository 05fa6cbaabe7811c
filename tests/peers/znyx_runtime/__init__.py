"""ZNYX's open-source runtime as a peer."""

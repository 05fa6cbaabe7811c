"""ZNYX: policy evaluation of what goes into and comes out of models."""

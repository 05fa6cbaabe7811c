"""ZNYX: policy evaluation of the inputs and outputs of models."""

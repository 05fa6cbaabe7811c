"""Claid: image editing."""

"""fal: a queue in front of about 1,200 models."""

"""Tests of the project itself: documents, promises, packaging, the shape of the code."""

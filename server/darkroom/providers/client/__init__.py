"""Requests to providers within their rate limits, and guarded downloads."""

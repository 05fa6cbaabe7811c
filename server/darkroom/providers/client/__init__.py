"""Requests to providers: sent in their turn, once where they cost something; and downloads."""

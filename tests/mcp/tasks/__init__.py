"""The Tasks extension over the jobs of the shipped server."""

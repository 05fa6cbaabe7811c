"""Local files as inputs of jobs."""

"""The machine of jobs, proved through the shipped server on virtual time."""

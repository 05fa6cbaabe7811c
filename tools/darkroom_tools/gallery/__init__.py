"""The gallery: results as an interactive page, in hosts with Apps."""

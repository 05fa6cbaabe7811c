"""Tools that belong to no provider: jobs, batches, results, spending, set-up."""

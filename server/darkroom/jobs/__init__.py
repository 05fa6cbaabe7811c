"""The life of a job: model, journal, submission, polling, spending."""

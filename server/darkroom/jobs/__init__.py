"""The life of a job: what it is, where it is kept, who moves it on."""

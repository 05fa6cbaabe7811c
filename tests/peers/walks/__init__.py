"""The demo's walk, told to other people's clients; each prints what it saw as one JSON object."""

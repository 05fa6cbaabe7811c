"""The providers' tools through the shipped server, against their emulators, on virtual time."""

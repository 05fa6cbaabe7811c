"""The promise under fire: nothing is paid twice, and nothing paid for is lost.

Faults at every operation, histories of chance, processes killed at any instant, secrets looked for
everywhere. The emulators say what really happened; the journal is held to it.
"""

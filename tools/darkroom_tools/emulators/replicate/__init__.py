"""The emulator of Replicate."""

"""The emulator of Claid."""

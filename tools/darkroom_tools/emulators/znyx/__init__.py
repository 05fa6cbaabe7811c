"""The emulator of ZNYX."""

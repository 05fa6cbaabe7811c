"""The emulator of Zyng."""

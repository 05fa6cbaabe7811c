"""The emulator of fal."""

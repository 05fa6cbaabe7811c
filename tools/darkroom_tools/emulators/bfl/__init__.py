"""The emulator of Black Forest Labs."""

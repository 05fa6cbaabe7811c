"""The emulator of ZSky."""

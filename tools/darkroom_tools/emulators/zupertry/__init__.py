"""The emulator of Zuper Try-On."""

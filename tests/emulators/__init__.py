"""Each emulator beside the documents of its provider."""

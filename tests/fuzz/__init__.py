"""Whatever is sent to the wire: the server lives, and says nothing but protocol."""

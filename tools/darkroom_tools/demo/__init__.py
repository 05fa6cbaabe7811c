"""The demo: a real server process, a real client, and what they made, on one page."""

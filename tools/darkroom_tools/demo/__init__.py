"""The demo: a real server process, a real client, and a page with their results."""

"""Results: downloaded, named, shown, copied, and read as resources."""

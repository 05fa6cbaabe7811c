"""The stores (SQLite and memory), and the lease that tells which processes are alive."""

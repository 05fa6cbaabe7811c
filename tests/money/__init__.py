"""Money: caps, approval, the ledger, settling what is unknown, and keys that are replaced."""

"""What others made, beside what stands in for it here."""

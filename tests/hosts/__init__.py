"""What hosts use beside tools: prompts, completions, progress, filters, installation."""

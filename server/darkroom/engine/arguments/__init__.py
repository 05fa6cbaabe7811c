"""Arguments of tools: their schemas, their validation, and messages about mistakes."""

"""Arguments of tools: their schemas, their validation, and the words for what is wrong."""

"""Stand-ins for the providers: one Starlette application each, held to the provider's documents.

They share no code with the provider modules that call them, so that a misreading of the documents
has to be made twice before a test can miss it.
"""

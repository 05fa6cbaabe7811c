"""Many start calls as one: the grammar, the plan, the rows, and how far they are.

grammar    from what the model wrote to a list of items
plan       the items as rows: validated, priced, timed; nothing is sent
batch      starting, checking, cancelling and retrying a batch
tracker    waking those who wait for a batch
manifest   the list of inputs, states and files beside the results
"""

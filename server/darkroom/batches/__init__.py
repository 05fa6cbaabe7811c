"""Many start calls as one: the grammar, the plan, the rows, and how far they are.

grammar    from what the model wrote to a list of items
plan       the items as rows: validated, priced, timed; nothing is sent
opening    starting a batch: the caps, the person's approval, one write, the queues
report     how far a batch is, and waiting for a change that matters
changing   cancelling a batch; running again what of it failed
batch      one door to all of them, and what follows by itself: manifests, second stages
tracker    waking those who wait for a batch
manifest   the list of inputs, states and files beside the results
"""

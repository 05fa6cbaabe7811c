"""Many start calls as one: the grammar, the plan, the rows, and how far they are."""

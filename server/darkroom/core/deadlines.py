"""The time of one call, and its shares. Every call answers within `CALL_SECONDS`.

Hosts give up after 60 s, and a call that they believe lost is repeated. Each share ends early enough
for what follows it in the same call.
"""

from __future__ import annotations

CALL_SECONDS = 45.0
"""What is promised: by then the host has the answer."""

ANSWER_SECONDS = 43.0
"""By then the answer is made; the rest is for writing it. What was sent goes on."""

READ_SECONDS = 40.0
"""For a read at a provider, its permits and repetitions included."""

PERSON_SECONDS = 40.0
"""For the person's answer, where the host is asked in the middle of the call; then it is a no."""

SENDING_SECONDS = 40.0
"""For the request of a start to leave and its answer to come; after that the job is shown as it is."""

PLAN_SECONDS = 40.0
"""For looking at all items of a batch; after that nothing is started."""

EVALUATION_SECONDS = 35.0
"""For evaluating all texts of a batch; after that nothing is started."""

CANCEL_SECONDS = 35.0
"""For cancelling what runs of a batch; after that it goes on in the background."""

PERMIT_SECONDS = 10.0
"""For the permit of a request that changes something; the request has a deadline of its own."""

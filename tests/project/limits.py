"""The limits on what comes in, as `docs/security.md` shows them: read from the code, not typed."""

from __future__ import annotations

from darkroom.core import foreign
from darkroom.core.byte_budget import LARGEST_FILE_BYTES
from darkroom.engine.batches import grammar
from darkroom.jobs import bounds
from darkroom.mcp.http import connections, sessions
from darkroom.providers import messages
from darkroom.providers.client import fetch, http
from darkroom.results import decoder, downloads, picture_child

MEBI, KIBI = 1024 * 1024, 1024


def size(count: float) -> str:
    """Return a number of bytes as text."""
    return f"{count / MEBI:g} MiB" if count >= MEBI else f"{count / KIBI:g} KiB"


def rows() -> list[tuple[str, str, str]]:
    """Return what is limited, to how much, and what becomes of the rest."""
    further = size(downloads.FURTHER_BYTES)
    redirects = f"{fetch.MAX_REDIRECTS} redirects"
    return [
        ("a provider's answer", size(http.ANSWER_LIMIT_BYTES), "cannot be understood"),
        (
            "lists, objects and commas of an answer; its depth",
            f"{messages.MOST_VALUES:,}; {messages.DEEPEST}",
            "cannot be understood",
        ),
        (
            "what a getter or a list hands on",
            f"{foreign.MOST_CHARACTERS:,} characters",
            "left out, and named",
        ),
        (
            "the cost that a provider names for a job",
            f"{bounds.MOST_COST:,.0f}, finite, not negative",
            "not counted, with a warning; the estimate stands",
        ),
        (
            "outputs of a job of one request; of a job of many",
            f"{bounds.MOST_OUTPUTS}; as many as were asked for",
            "not looked at, with a warning",
        ),
        (
            "a download",
            f"{size(LARGEST_FILE_BYTES)}, {fetch.DEADLINE_SECONDS} s, {redirects}",
            "not kept",
        ),
        (
            "the files of a job together",
            f"{size(LARGEST_FILE_BYTES)}, and {further} for each output beyond the first",
            "not downloaded, with a warning",
        ),
        (
            "decoding a picture, in a process of its own",
            f"{decoder.LONGEST_SECONDS:g} s, {size(picture_child.MOST_MEMORY_BYTES)}",
            "a card with the reason",
        ),
        (
            "jobs of a batch; their arguments together",
            f"{grammar.MOST_ITEMS:,}; {grammar.MOST_CHARACTERS:,} characters",
            "refused before anything is sent",
        ),
        (
            "a request over HTTP, head and body",
            f"{connections.REQUEST_SECONDS:g} s",
            "the connection is closed",
        ),
        (
            "connections without a token",
            f"{connections.MOST_STRANGERS}",
            "the oldest is closed",
        ),
        (
            "descriptors kept for accepted work",
            f"{connections.RESERVED_DESCRIPTORS}",
            "newcomers are closed",
        ),
        ("sessions of hosts", f"{sessions.MOST_SESSIONS}", "the least recently used ends"),
        (
            "lines in the log for what strangers cause",
            f"one in {connections.LOG_SECONDS:g} s",
            "counted in the next",
        ),
    ]

"""Where arguments send results to: only hosts and storages that the configuration names."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from darkroom.core.nested import texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TARGET = re.compile(
    r"(?:[a-z][a-z0-9+.-]*:)?[/\\]{2}([^/\\?#\s]*)|[^\s@/]+@([^\s@/]+)", re.IGNORECASE
)
"""An address of any scheme, or of a mailbox."""

SHOWN_CHARACTERS = 80


def outward_mistakes(
    argument: str, value: object, allowed: Iterable[str], setting: str
) -> Iterator[str]:
    """Name the hosts and storages that a value would send something to and that are not allowed.

    ``value`` may be text or an object; ``setting`` is the key that names those that are.
    """
    known = {name.lower() for name in allowed}
    found = dict.fromkeys(host for _, text in texts(value) for host in _hosts(text))
    for host in found:
        if host and host not in known:
            yield (
                f"{argument}: {json.dumps(host[:SHOWN_CHARACTERS])} may receive no results; leave "
                f"it out, or ask the person to name it in {setting}"
            )


def _hosts(text: str) -> Iterator[str]:
    for match in _TARGET.finditer(text):
        host = (match[1] if match[1] is not None else match[2]).rpartition("@")[2].lower()
        yield re.sub(r":\d*$", "", host)

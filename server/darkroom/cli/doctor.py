"""`darkroom doctor`: checks whether everything that is configured works."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import anyio

from darkroom.cli.context import prepare
from darkroom.cli.diagnosis import examine, in_words
from darkroom.core.errors import ConfigurationError
from darkroom.core.foreign import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from darkroom.cli.diagnosis import CredentialFinding, Findings, ProviderFinding

GOOD, BAD, NONE = "ok  ", "BAD ", "-   "


def run(options: argparse.Namespace) -> int:
    """Check and print; return 0 only if everything that is configured works."""
    try:
        context = prepare(sandbox=options.sandbox, report_templates=False, everything=True)
        findings = anyio.run(examine, context)
    except ConfigurationError as error:
        return _cannot_tell(str(error).splitlines(), as_json=options.json)
    except Exception as error:  # noqa: BLE001 -- whatever is broken, this command says so
        return _cannot_tell([f"nothing more can be said: {in_words(error)}"], as_json=options.json)
    if options.json:
        _write(json.dumps({"ok": findings.ok, **asdict(findings)}, indent=2, ensure_ascii=False))
    else:
        _write("\n".join(report(findings)))
    return 0 if findings.ok else 1


def _cannot_tell(mistakes: list[str], *, as_json: bool) -> int:
    """Print why the checks cannot be made."""
    if as_json:
        _write(json.dumps({"ok": False, "problems": mistakes}, indent=2))
    else:
        _write("\n".join(f"{BAD}{mistake}" for mistake in mistakes))
    return 1


def report(findings: Findings) -> Iterable[str]:
    """Return the lines that a person reads."""
    where = " on the sandbox" if findings.sandbox else ""
    yield f"Darkroom {findings.version}, Python {findings.python}{where}"
    yield ""
    file = findings.configuration_file or "none (DARKROOM_CONFIG is not set)"
    yield f"{GOOD}configuration file: {file}"
    for key, value in findings.changed_settings.items():
        yield f"      {key} = {json.dumps(value, ensure_ascii=False)}"
    for folder in findings.folders:
        state = folder.problem or ("writable" if folder.exists else "will be made")
        yield f"{BAD if folder.problem else GOOD}{folder.purpose} folder: {folder.path}: {state}"
    yield f"{GOOD}token for `serve --http`: {findings.http_token_file}"
    if findings.other_servers:
        yield f"{GOOD}servers running on this state folder: {findings.other_servers}"
    for problem in findings.problems:
        yield f"{BAD}{problem}"
    for provider in findings.providers:
        yield ""
        yield from _provider(provider)
    yield ""
    configured = [provider for provider in findings.providers if provider.configured]
    if not findings.ok:
        yield "Something that is configured does not work: see the lines that begin with BAD."
    elif not configured:
        yield "No provider has a credential yet. Without one: darkroom serve --sandbox"
    else:
        yield "Everything that is configured works."


def _provider(provider: ProviderFinding) -> Iterable[str]:
    mark = BAD if provider.problems else GOOD if provider.configured else NONE
    yield f"{mark}{provider.title} ({provider.name})"
    for credential in provider.credentials:
        yield f"      {credential.variable}: {_credential(credential)}"
    if not provider.configured:
        yield f"      {provider.documentation}"
    else:
        tried = {"yes": "reachable", "no": "not reachable", "not tried": "not tried"}
        source = "" if provider.base_url_from == "default" else f" (from {provider.base_url_from})"
        yield f"      {provider.base_url}{source}: {tried[provider.reachable]}"
        if provider.limits:
            yield f"      limits: {', '.join(provider.limits)}"
    for note in provider.notes:
        yield f"      {note}"
    for problem in provider.problems:
        yield f"      {BAD.strip()}: {problem}"


def _credential(credential: CredentialFinding) -> str:
    if not credential.found:
        return credential.problem or "not set"
    accepted = {"yes": "accepted", "no": "refused", "not tried": "not tried"}
    source = f"from the file {credential.file}" if credential.file else "from the environment"
    words = [f"{credential.masked} {source}", f"{credential.mode} key" if credential.mode else ""]
    return ", ".join([*filter(None, words), accepted[credential.accepted]])


def _write(text: str) -> None:
    sys.stdout.write(printable(text) + "\n")

"""Readers of ZNYX's responses. A response that cannot be understood never counts as allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from darkroom.providers import PolicyVerdict, UnreadableError, read_json, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from darkroom.providers import JsonObject, JsonValue, Params, Response

NOT_MODIFIED = 304

BY_SEVERITY = ("BLOCK", "REDACT", "TRANSFORM", "WARN", "ALLOW")
"""EvaluationResponse.decision, from the worst to the best; an unknown one is worse than all."""

AS_IT_IS = frozenset({"ALLOW", "WARN"})
WHEN_CLEANED = frozenset({"REDACT", "TRANSFORM"})
CLEANED = ("sanitized_text", "sanitized_tool_args")


# --- evaluations ---


def evaluation(response: Response, params: Params) -> JsonObject:
    """Return the EvaluationResponse with ``allowed``, without the many fields that are null.

    REDACT and TRANSFORM allow the sanitized text; if the response has none (as for a tool's
    result), they allow nothing.
    """
    del params
    if not isinstance(response.body, dict) or "decision" not in response.body:
        raise UnreadableError("no decision")
    fields = cast("JsonObject", without_null(response.body))
    decision = fields.get("decision")
    cleaned = any(name in fields for name in CLEANED)
    allowed = decision in AS_IT_IS or (decision in WHEN_CLEANED and cleaned)
    return {"allowed": allowed, **fields}


def verdict(result: JsonObject) -> PolicyVerdict:
    """Return the decision about a text; a sanitized text is sent instead of it."""
    decision = str(result.get("decision"))
    rules = tuple(
        str(hit.get("rule_id") or hit.get("message") or "")
        for hit in reading.objects(result.get("rule_hits"))
    )
    allowed = result.get("allowed") is True
    text = reading.text(result, "sanitized_text") if decision in WHEN_CLEANED else None
    if decision in WHEN_CLEANED and text is None:
        allowed = False
    hit = f" ({', '.join(rules[:3])})" if rules else ""
    note = None
    if decision in WHEN_CLEANED:
        note = f"ZNYX said {decision}{hit}: the cleaned text was sent"
    elif decision == "WARN":
        note = f"ZNYX warns{hit}"
    return PolicyVerdict(allowed=allowed, text=text, rules=rules, note=note)


def stream(response: Response, params: Params) -> JsonObject:
    """Return the decision about a stream: its worst window, because there is no sanitized text.

    The provider's ``final_decision`` is always ALLOW or BLOCK.
    """
    del params
    decisions: list[str] = []
    hits: list[JsonValue] = []
    done: JsonObject | None = None
    for name, fields in events(response.body):
        if name == "done":
            done = fields
            decisions.append(str(fields.get("final_decision")))
        elif name in ("guardrail", "block"):
            decisions.append(str(fields.get("decision")))
            hits.extend(reading.objects(fields.get("rule_hits")))
    if done is None:
        raise UnreadableError("the stream ended before it was done")
    worst = min(decisions, key=lambda each: BY_SEVERITY.index(each) if each in BY_SEVERITY else -1)
    summary: JsonObject = {"allowed": worst in AS_IT_IS, "decision": worst, "rule_hits": hits}
    return {**summary, **cast("JsonObject", without_null(done))}


def events(body: JsonValue) -> Iterator[tuple[str, JsonObject]]:
    """Read ``text/event-stream``: the names of the events and their JSON objects."""
    if not isinstance(body, str):
        raise UnreadableError("no event stream")
    for block in body.replace("\r\n", "\n").split("\n\n"):
        lines = [line.partition(":") for line in block.split("\n")]
        data = "\n".join(value.removeprefix(" ") for name, _, value in lines if name == "data")
        if not data:
            continue
        event = next((value.strip() for name, _, value in lines if name == "event"), "message")
        fields = read_json(data)
        if not isinstance(fields, dict):
            raise UnreadableError(f"no object in {event}")
        yield event, fields


def without_null(value: JsonValue) -> JsonValue:
    """Leave out members that are null, at any depth."""
    if isinstance(value, dict):
        return {name: without_null(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_null(inner) for inner in value]
    return value


# --- bundles, tokens, traces ---


def latest_bundle(response: Response, params: Params) -> JsonObject:
    """Return the bundle, or ``not_modified`` if it has not changed."""
    if response.status == NOT_MODIFIED:
        return {"not_modified": True}
    return required(response, params)


def required(response: Response, params: Params) -> JsonObject:
    """Return the provider's object; anything else is not understood."""
    del params
    if not isinstance(response.body, dict):
        raise UnreadableError("no object")
    return response.body


def listed(name: str) -> Callable[[Response, Params], JsonObject]:
    """Read a list: an array, or an object with an array under ``name`` or ``items``."""

    def read(response: Response, params: Params) -> JsonObject:
        del params
        body = response.body
        if not isinstance(body, dict):
            entries, more = body, {}
        else:
            more = {key: value for key, value in body.items() if key not in (name, "items")}
            entries = body.get(name, body.get("items"))
        if not isinstance(entries, list):
            raise UnreadableError(f"no list of {name}")
        shown = [
            {**one, "raw_key": "[hidden]"} if "raw_key" in one else one
            for one in reading.objects(entries)
        ]
        return {**more, name: [*shown]}

    return read

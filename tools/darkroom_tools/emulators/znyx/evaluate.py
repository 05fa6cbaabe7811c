"""How the ZNYX emulator judges a text: a few patterns, answered in the runtime's own shape.

Shapes, decision order, window arithmetic and the hash formulas are those of the open-source
runtime (znyx-runtime 1.2.4); tests/peers compares them. What is looked for is far less.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

from pydantic import BaseModel, Field

from darkroom_tools.emulators.znyx.requests import JsonObject

if TYPE_CHECKING:
    from collections.abc import Callable

SECRETS = (
    ("stripe_secret", re.compile(r"\bsk_live_\w{8,}")),
    ("aws_access_key", re.compile(r"\bAKIA[0-9A-Z]{16}\b")),
)
OVERRIDE = re.compile(
    r"\bignore(?:\s+(?:all|any|the|your|my|previous|prior))+\s+(?:rules|instructions)\b",
    re.IGNORECASE,
)
PERSONAL = (
    ("email", re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")),
    ("phone", re.compile(r"(?<!\w)\+?\d(?:[\s.()-]?\d){8,14}(?!\w)")),
)
FORCED = re.compile(r"\[sandbox:([A-Z_]+)\]")
"""Invented: ``[sandbox:WARN]`` in a text makes that the decision, known to the provider or not."""

# Risks: a secret and a denied tool as the runtime gives them, per personal item likewise.
SECRET_RISK = 100
OVERRIDE_RISK = 90  # invented: the runtime adds up patterns; one alone is a WARN there
PERSONAL_RISK = 30
DENIED_TOOL_RISK = 40
FORCED_RISK = 50
MAX_RISK = 100

PRECEDENCE = ("BLOCK", "REDACT", "TRANSFORM", "WARN", "ALLOW")
PREVIEW_CHARACTERS = 80


class Scoped(BaseModel):
    """The fields that every evaluation shares."""

    request_id: str
    tenant_id: str
    app_id: str
    agent_id: str = "default"
    env: str = "prod"
    metadata: dict[str, object] | None = None
    trace_id: str | None = None
    session_id: str | None = None
    span_id: str | None = None


class TextRequest(Scoped):
    """Body of evaluate input and evaluate output."""

    text: str


class ToolRequest(Scoped):
    """Body of evaluate tool."""

    tool_name: str
    tool_args: dict[str, object]
    tool_result: str | None = None


class StreamRequest(Scoped):
    """Body of evaluate stream; an inline ``policy`` is ignored, as the runtime does."""

    request_id: str = "stream-0"
    tenant_id: str = "default"
    app_id: str = "default"
    context: Literal["input", "output"] = "output"
    chunks: list[str]
    window_size: int = Field(default=200, ge=50, le=2000)
    overlap: int = Field(default=40, ge=0, le=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one detector found; ``text`` is the cleaned text where it changed something."""

    detector: str
    decision: str = "ALLOW"
    risk: int = 0
    hits: list[JsonObject] = field(default_factory=list[JsonObject])
    text: str | None = None
    user_message: str | None = None
    developer_message: str | None = None

    def timing(self) -> JsonObject:
        """Return the entry of ``detector_results``; no model takes part, so most of it is null."""
        return {
            "detector_name": self.detector,
            "decision": self.decision,
            "risk_score": self.risk,
            "latency_ms": 0,
            "rule_hits": self.hits,
            "transformed": self.text is not None,
            "confidence": None,
            "calibrated_score": None,
            "label_scores": None,
            "model_version": None,
            "execution_mode": None,
            "fallback_path": None,
            "external_egress": False,
            "threshold": None,
            "layer_results": [],
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """The worst of some outcomes, and the text after all of them."""

    outcomes: list[Outcome]

    @property
    def worst(self) -> Outcome:
        """Return the outcome that decides; a decision nobody knows outranks all."""
        return min(
            self.outcomes,
            key=lambda one: PRECEDENCE.index(one.decision) if one.decision in PRECEDENCE else -1,
            default=Outcome(detector="none"),
        )

    @property
    def risk(self) -> int:
        """Return the highest risk."""
        return max((one.risk for one in self.outcomes), default=0)

    @property
    def hits(self) -> list[JsonObject]:
        """Return every rule that was hit."""
        return [hit for one in self.outcomes for hit in one.hits]

    @property
    def text(self) -> str | None:
        """Return the cleaned text; None where nothing was cleaned."""
        return next((one.text for one in reversed(self.outcomes) if one.text is not None), None)


def canonical_json(value: object) -> str:
    """Write JSON as the provider hashes it: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def policy_hash(policies: JsonObject, scope_policies: JsonObject | None = None) -> str:
    """Return the hash of a bundle: over its policies and its policies by scope."""
    content = canonical_json({"policies": policies, "scope_policies": scope_policies or {}})
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


def policy_version(policy: JsonObject) -> str:
    """Return the short hash that evaluations name."""
    return hashlib.sha256(canonical_json(policy).encode()).hexdigest()[:16]


def judge_text(text: str, policy: JsonObject) -> Verdict:
    """Let the detectors of ``policy`` look at ``text``, each at what the one before left over."""
    outcomes: list[Outcome] = []
    for name, detect in _DETECTORS.items():
        # invented: a detector that the policy does not name is on
        if _section(policy, name).get("enabled", True):
            outcomes.append(detect(text))
            text = outcomes[-1].text or text
    return Verdict(outcomes)


def judge_tool(call: ToolRequest, policy: JsonObject) -> tuple[Verdict, Verdict]:
    """Judge a tool call: the verdict, and what the text detectors say about its result."""
    denied = _section(policy, "tools").get("denied", [])
    outcomes: list[Outcome] = []
    if isinstance(denied, list) and call.tool_name in cast("list[object]", denied):
        outcomes.append(
            Outcome(
                detector="tools",
                decision="BLOCK",
                risk=DENIED_TOOL_RISK,
                hits=[_hit("tools.denied", "high", f"{call.tool_name} is a denied tool")],
                user_message="This tool may not be used.",
                developer_message=f"The policy denies {call.tool_name}.",
            )
        )
    result = Verdict([])
    if call.tool_result is not None:
        found = judge_text(call.tool_result, policy).outcomes
        result = Verdict([one for one in found if one.detector != "tools"])
    return Verdict([*outcomes, *result.outcomes]), result


def answer(
    asked: Scoped, verdict: Verdict, *, policy: JsonObject, trace_id: str, latency_ms: int
) -> JsonObject:
    """Return the EvaluationResponse for a text; all its keys are always there."""
    return {
        "request_id": asked.request_id,
        "decision": verdict.worst.decision,
        "risk_score": verdict.risk,
        "policy_version": policy_version(policy),
        "rule_hits": verdict.hits,
        "sanitized_text": verdict.text,
        "sanitized_tool_args": None,
        "user_message": verdict.worst.user_message,
        "developer_message": verdict.worst.developer_message,
        "latency_ms": latency_ms,
        "trace_id": trace_id,
        "session_id": asked.session_id,
        "span_id": asked.span_id,
        "detector_results": [one.timing() for one in verdict.outcomes],
        "quality": None,
        "field_errors": [],
        "remediation": None,
        "pending_review_id": None,
    }


def answer_tool(
    asked: ToolRequest, *, policy: JsonObject, trace_id: str, latency_ms: int
) -> JsonObject:
    """Return the EvaluationResponse for a tool call.

    As the runtime does: only a tool's result has ``detector_results``, and a REDACT of it comes
    without a cleaned text.
    """
    verdict, result = judge_tool(asked, policy)
    whole = answer(asked, verdict, policy=policy, trace_id=trace_id, latency_ms=latency_ms)
    timings = [{**one.timing(), "transformed": False} for one in result.outcomes]
    return {**whole, "sanitized_text": None, "detector_results": timings}


class Stream:
    """A text in windows: nothing is released before the window around it was judged.

    A window overlaps the one before by ``overlap`` characters, at most half of itself. Only BLOCK
    holds text back: REDACT and WARN release it as it came, and ``final_decision`` is ALLOW.
    """

    def __init__(self, asked: StreamRequest, policy: JsonObject) -> None:
        self._size = asked.window_size
        self._step = asked.window_size - min(asked.overlap, asked.window_size // 2)
        self._policy = policy
        self._released: list[str] = []
        self._windows: list[Verdict] = []
        self.blocked = False

    @property
    def verdict(self) -> Verdict:
        """Return what all windows found together."""
        return Verdict([one for window in self._windows for one in window.outcomes])

    def run(self, chunks: list[str]) -> list[tuple[str, JsonObject]]:
        """Return every event of the stream, ``done`` last."""
        events: list[tuple[str, JsonObject]] = []
        waiting, pushed = "", 0
        taken = 0
        for chunk in chunks:
            waiting, pushed, taken = waiting + chunk, pushed + len(chunk), taken + 1
            while len(waiting) >= self._size and not self.blocked:
                events += self._window(waiting[: self._size], waiting[: self._step])
                waiting = waiting[self._step :]
            if self.blocked:
                break
        if waiting and not self.blocked:
            events += self._window(waiting, waiting)
        done: JsonObject = {
            "total_chunks": taken,
            "windows_evaluated": len(self._windows),
            "final_decision": "BLOCK" if self.blocked else "ALLOW",
            "max_risk_score": self.verdict.risk,
            "total_rule_hits": len(self.verdict.hits),
            "total_latency_ms": 0,
            "full_text_length": pushed,
            "released_text_length": sum(map(len, self._released)),
        }
        return [*events, ("done", done)]

    def _window(self, text: str, released: str) -> list[tuple[str, JsonObject]]:
        verdict = judge_text(text, self._policy)
        self._windows.append(verdict)
        self.blocked = verdict.worst.decision == "BLOCK"
        data: JsonObject = {
            "window_index": len(self._windows),
            "decision": verdict.worst.decision,
            "risk_score": verdict.risk,
            "rule_hits": [
                {"rule_id": hit["rule_id"], "message": hit["message"]} for hit in verdict.hits
            ],
            "latency_ms": 0,
        }
        if self.blocked:
            return [("block", data)]
        short = len(text) <= PREVIEW_CHARACTERS
        data["text_preview"] = text if short else text[:PREVIEW_CHARACTERS] + "..."
        self._released.append(released)
        chunk: JsonObject = {"text": released, "chunk_index": len(self._released)}
        return [("guardrail", data), ("chunk", chunk)]


def server_sent(events: list[tuple[str, JsonObject]]) -> str:
    """Write events as ``text/event-stream``."""
    return "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)


def _hit(rule_id: str, severity: str, message: str) -> JsonObject:
    return {"rule_id": rule_id, "severity": severity, "message": message}


def _section(policy: JsonObject, name: str) -> JsonObject:
    section = policy.get(name)
    return cast("JsonObject", section) if isinstance(section, dict) else {}


def _secrets(text: str) -> Outcome:
    hits: list[JsonObject] = []
    for name, pattern in SECRETS:
        text, count = pattern.subn("[REDACTED]", text)
        hits += [_hit(f"secrets.{name}", "high", f"A {name} stands in the text")] * count
    if not hits:
        return Outcome(detector="secrets")
    return Outcome(
        detector="secrets",
        decision="REDACT",
        risk=SECRET_RISK,
        hits=hits,
        text=text,
        user_message="A key was masked.",
        developer_message=f"Keys masked: {len(hits)}",
    )


def _jailbreak(text: str) -> Outcome:
    if not OVERRIDE.search(text):
        return Outcome(detector="jailbreak")
    return Outcome(
        detector="jailbreak",
        decision="BLOCK",
        risk=OVERRIDE_RISK,
        hits=[_hit("jailbreak.override", "high", "The text tells the model to drop its rules")],
        user_message="This text goes against the policy.",
        developer_message="An order to drop the rules was found.",
    )


def _pii(text: str) -> Outcome:
    hits: list[JsonObject] = []
    for name, pattern in PERSONAL:
        text, count = pattern.subn(f"[{name.upper()}]", text)
        hits += [_hit(f"pii.{name}", "medium", f"A personal {name} stands in the text")] * count
    if not hits:
        return Outcome(detector="pii")
    return Outcome(
        detector="pii",
        decision="REDACT",
        risk=min(MAX_RISK, PERSONAL_RISK * len(hits)),
        hits=hits,
        text=text,
        developer_message=f"Personal items masked: {len(hits)}",
    )


def _tools(text: str) -> Outcome:
    # invented: in a text, this detector carries the forced decision; the runtime has nothing here
    forced = FORCED.search(text)
    if forced is None:
        return Outcome(detector="tools")
    decision = forced[1]
    return Outcome(
        detector="tools",
        decision=decision,
        risk=FORCED_RISK,
        hits=[_hit("tools.forced", "low", f"The text asked the sandbox for {decision}")],
        text=FORCED.sub("", text) if decision in ("TRANSFORM", "REDACT") else None,
        developer_message="The decision was forced by the text.",
    )


_DETECTORS: dict[str, Callable[[str], Outcome]] = {
    "secrets": _secrets,
    "jailbreak": _jailbreak,
    "pii": _pii,
    "tools": _tools,
}

"""ZNYX's traces: what every evaluation leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from darkroom_tools.emulators.kit import Clock, Handler, ProviderError
from darkroom_tools.emulators.znyx.requests import DAY_SECONDS, JsonObject, timestamp, validated

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from darkroom_tools.emulators.znyx.bundles import Bundle, Environment
    from darkroom_tools.emulators.znyx.evaluate import Scoped
    from darkroom_tools.emulators.znyx.tokens import Tokens

DEFAULT_LIMIT = 50
MAX_LIMIT = 200


class TraceQuery(BaseModel):
    """Query of list traces."""

    decision: str | None = None
    session_id: str | None = None
    detector_name: str | None = None
    project_id: str | None = None
    environment: str | None = None
    days: int | None = Field(default=None, ge=1)  # invented: without it, nothing is too old
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    offset: int = Field(default=0, ge=0)


@dataclass(frozen=True, slots=True)
class Trace:
    """One evaluation as it is remembered; a list shows its summary."""

    at: float
    summary: JsonObject
    detail: JsonObject
    detectors: frozenset[str]

    def matches(self, query: TraceQuery, now: float) -> bool:
        """Tell whether a list with this query shows the trace."""
        return (
            query.decision in (None, self.summary["decision"])
            and query.session_id in (None, self.summary["session_id"])
            and query.project_id in (None, self.summary["app_id"])  # the page: "project (app_id)"
            and query.environment in (None, self.detail["env"])
            and (query.detector_name is None or query.detector_name in self.detectors)
            and (query.days is None or self.at >= now - query.days * DAY_SECONDS)
        )


class Traces:
    """The traces of the organisation; see ZnyxEmulator for the switches."""

    def __init__(
        self,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        tokens: Tokens,
        limit_above_max: Literal["refuse", "clamp"],
        found_by: Literal["trace_id", "id"],
    ) -> None:
        self._clock = clock
        self._new_id = new_id
        self._tokens = tokens
        self._limit_above_max = limit_above_max
        self._found_by = found_by
        self._kept: list[Trace] = []

    def operations(self) -> list[tuple[str, str, str, Handler]]:
        """Return the operations on traces; any token of the organisation may read them."""
        path = "/v1/orgs/{org_id}/traces"
        return [
            ("GET", path, "traces.list", self._list),
            ("GET", path + "/{trace_id}", "traces.get", self._get),
        ]

    def keep(
        self,
        asked: Scoped,
        answer: JsonObject,
        *,
        context: str,
        text: str,
        environment: Environment,
        bundle: Bundle,
    ) -> None:
        """Remember an evaluation by what was asked and answered."""
        results = cast("list[JsonObject]", answer["detector_results"])
        hits = cast("list[JsonObject]", answer["rule_hits"])
        # invented: a list shows what stands up to created_at on the page of get trace
        summary: JsonObject = {
            "id": self._new_id(),
            "request_id": asked.request_id,
            "trace_id": answer["trace_id"],
            "session_id": asked.session_id,
            "context": context,
            "decision": answer["decision"],
            "risk_score": answer["risk_score"],
            "policy_version": answer["policy_version"],
            "latency_ms": answer["latency_ms"],
            "rule_hit_ids": [hit["rule_id"] for hit in hits],
            "tenant_id": asked.tenant_id,
            "app_id": asked.app_id,
            "agent_id": asked.agent_id,
            "created_at": timestamp(self._clock()),
        }
        detail: JsonObject = {
            "span_id": asked.span_id,
            "input_text": text,
            "policy_hash": bundle.hash,
            "detector_results": results,
            "quality_scores": None,
            "metadata": asked.metadata,
            "env": environment.name,
            "replays": [],
        }
        detectors = frozenset(cast("str", one["detector_name"]) for one in results)
        self._kept.append(Trace(self._clock(), summary, detail, detectors))

    async def _list(self, request: Request) -> Response:
        self._tokens.caller(request, "read")
        asked = dict(request.query_params)
        if self._limit_above_max == "clamp" and asked.get("limit", "").isdecimal():
            asked["limit"] = str(min(int(asked["limit"]), MAX_LIMIT))
        query = validated(TraceQuery, asked, "query")
        found = [trace for trace in self._kept if trace.matches(query, self._clock())]
        found.reverse()  # invented: newest first
        page = found[query.offset : query.offset + query.limit]
        return JSONResponse(
            {
                "total": len(found),
                "limit": query.limit,
                "offset": query.offset,
                "traces": [trace.summary for trace in page],
            }
        )

    async def _get(self, request: Request) -> Response:
        self._tokens.caller(request, "read")
        for trace in reversed(self._kept):
            if trace.summary[self._found_by] == request.path_params["trace_id"]:
                return JSONResponse({**trace.summary, **trace.detail})
        raise ProviderError(404, {"detail": "Trace not found"})

"""ZNYX's stand-in: evaluations here; tokens, bundles and traces in the modules beside this one.

Errors come in three shapes, as they do there: ``detail`` is a string, an object with ``error`` and
``message``, or the list of a failed validation.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, cast

from starlette.responses import JSONResponse, Response

from darkroom_tools.emulators.kit import Clock, Emulator, Fetch, Handler, Offload, ProviderError
from darkroom_tools.emulators.znyx import evaluate
from darkroom_tools.emulators.znyx.bundles import Bundle, Bundles, Environment, Project
from darkroom_tools.emulators.znyx.requests import JsonObject, read_body
from darkroom_tools.emulators.znyx.tokens import SCOPES, KeyType, Token, Tokens
from darkroom_tools.emulators.znyx.traces import Traces

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

Plan = Literal["starter", "growth", "enterprise"]

ORG_ID = "5a9d0f6e-0000-4000-8000-000000000001"
PROJECT_ID = "5a9d0f6e-0000-4000-8000-000000000002"
EMPTY_PROJECT_ID = "5a9d0f6e-0000-4000-8000-000000000003"
"""A second project of the same organisation, with nothing published."""
ENVIRONMENT_IDS = {
    "dev": "5a9d0f6e-0000-4000-8000-000000000004",
    "staging": "5a9d0f6e-0000-4000-8000-000000000005",
    "prod": "5a9d0f6e-0000-4000-8000-000000000006",
}
TEST_RUNTIME_TOKEN = "gr_sandbox_runtime_000000000000"  # noqa: S105 -- opens the sandbox only
"""Of PROJECT_ID in prod."""
TEST_CI_TOKEN = "gr_sandbox_ci_00000000000000000"  # noqa: S105 -- opens the sandbox only
"""Of PROJECT_ID."""
TEST_ADMIN_TOKEN = "gr_sandbox_admin_00000000000000"  # noqa: S105 -- opens the sandbox only

FIRST_POLICIES: JsonObject = {
    "secrets": {"enabled": True, "action": "REDACT"},
    "jailbreak": {"enabled": True},
    "pii": {"enabled": True, "action": "REDACT"},
    "tools": {"enabled": True, "denied": ["delete_database"]},
}
"""Version 1, active in every environment of PROJECT_ID."""

EVALUATIONS_PER_MONTH: dict[Plan, int | None] = {
    "starter": 1_000,
    "growth": 250_000,
    "enterprise": None,
}
MAX_LATENCY_MS = 9  # invented: the runtime's own are of this order
KEY_DIGITS = 40  # invented


class ZnyxEmulator(Emulator):
    """ZNYX with one organisation, two projects and three environments in each.

    Parameters
    ----------
    plan, evaluations_per_month: the plan, and another monthly number than the plan's.
    overage: Growth goes on beyond its number (for $0.30 per 1,000) instead of answering 429.
    quota_detail: the shape of the 429's ``detail``; no page shows it.
    key_prefix: of new keys; the introduction says only that some begin with ``gr_``.
    scopes: what each kind of token may do.
    other_org_status: the introduction says 404, the reference pages 403.
    rotation_keeps_id: the page says "deactivate old, create new", and that only the key changes.
    publish_activates: what is published is active at once, as the 404 of bundles/latest implies.
    bundle_versions: how many versions an environment may hold; None is no limit.
    signing_fails: publish answers 500, as with a missing signing key.
    quoted_etag: the ETag has the quotes of RFC 9110; the page shows the bare hash.
    limit_above_max: what happens to a ``limit`` above 200.
    trace_found_by: which of a trace's two ids the path of get trace means.
    billing_is_null: the billing summary is ``null``, as in the page's example.
    """

    name = "znyx"

    def __init__(
        self,
        *,
        clock: Clock,
        base_url: str,
        fetch: Fetch,
        seed: int = 0,
        time_scale: float = 1.0,
        offload: Offload | None = None,
        plan: Plan = "growth",
        evaluations_per_month: int | None = None,
        overage: bool = True,
        quota_detail: Literal["object", "string"] = "object",
        key_prefix: str = "gr_",
        scopes: Mapping[KeyType, tuple[str, ...]] = SCOPES,
        other_org_status: Literal[403, 404] = 404,
        rotation_keeps_id: bool = False,
        publish_activates: bool = True,
        bundle_versions: int | None = None,
        signing_fails: bool = False,
        quoted_etag: bool = False,
        limit_above_max: Literal["refuse", "clamp"] = "refuse",
        trace_found_by: Literal["trace_id", "id"] = "trace_id",
        billing_is_null: bool = False,
    ) -> None:
        self._plan: Plan = plan
        self._included = EVALUATIONS_PER_MONTH[plan]
        if evaluations_per_month is not None:
            self._included = evaluations_per_month
        self._overage = overage
        self._quota_detail = quota_detail
        self._billing_is_null = billing_is_null
        self._evaluated: dict[tuple[int, int], int] = {}
        self._projects: dict[str, Project] = {}
        self._tokens = Tokens(
            org_id=ORG_ID,
            clock=clock,
            new_key=lambda: key_prefix + self.hex_id(KEY_DIGITS),
            projects=self._projects,
            scopes=scopes,
            other_org_status=other_org_status,
            rotation_keeps_id=rotation_keeps_id,
        )
        self._bundles = Bundles(
            clock=clock,
            new_id=self._uuid,
            projects=self._projects,
            tokens=self._tokens,
            publish_activates=publish_activates,
            versions=bundle_versions,
            signing_fails=signing_fails,
            quoted_etag=quoted_etag,
        )
        self._traces = Traces(
            clock=clock,
            new_id=self._uuid,
            tokens=self._tokens,
            limit_above_max=limit_above_max,
            found_by=trace_found_by,
        )
        super().__init__(
            clock=clock,
            base_url=base_url,
            fetch=fetch,
            seed=seed,
            time_scale=time_scale,
            offload=offload,
        )
        self._furnish()

    def _furnish(self) -> None:
        for project_id in (PROJECT_ID, EMPTY_PROJECT_ID):
            ids = ENVIRONMENT_IDS if project_id == PROJECT_ID else {}
            environments = {
                name: Environment(ids.get(name) or self._uuid(), name) for name in ENVIRONMENT_IDS
            }
            self._projects[project_id] = Project(project_id, environments)
        for environment in self._projects[PROJECT_ID].environments.values():
            environment.activate(self._bundles.add(environment, FIRST_POLICIES))
        prod = ENVIRONMENT_IDS["prod"]
        self._tokens.issue("runtime", PROJECT_ID, prod, raw_key=TEST_RUNTIME_TOKEN)
        self._tokens.issue("ci", PROJECT_ID, raw_key=TEST_CI_TOKEN)
        self._tokens.issue("admin", raw_key=TEST_ADMIN_TOKEN)

    def operations(self) -> list[tuple[str, str, str, Handler]]:
        """Return the operations under the names of the reference pages."""
        return [
            ("POST", "/v1/evaluate/input", "runtime.evaluateInput", self._evaluate_text),
            ("POST", "/v1/evaluate/output", "runtime.evaluateOutput", self._evaluate_text),
            ("POST", "/v1/evaluate/tool", "runtime.evaluateTool", self._evaluate_tool),
            ("POST", "/v1/evaluate/stream", "runtime.evaluateStream", self._evaluate_stream),
            ("GET", "/v1/billing/summary", "billing.summary", self._billing_summary),
            *self._bundles.operations(),
            *self._tokens.operations(),
            *self._traces.operations(),
        ]

    def not_found(self) -> ProviderError:
        """Return the web framework's own answer to an unknown path."""
        return ProviderError(404, {"detail": "Not Found"})

    async def _evaluate_text(self, request: Request) -> Response:
        token = self._tokens.caller(request, "evaluate")
        asked = await read_body(request, evaluate.TextRequest)
        environment, bundle = self._policy_for(token, asked.env)
        answer = evaluate.answer(
            asked,
            evaluate.judge_text(asked.text, bundle.policies),
            policy=bundle.policies,
            trace_id=self._count_evaluation(asked),
            latency_ms=self._latency(),
        )
        context = request.url.path.rsplit("/", 1)[-1]
        self._traces.keep(
            asked, answer, context=context, text=asked.text, environment=environment, bundle=bundle
        )
        return JSONResponse(answer)

    async def _evaluate_tool(self, request: Request) -> Response:
        token = self._tokens.caller(request, "evaluate")
        asked = await read_body(request, evaluate.ToolRequest)
        environment, bundle = self._policy_for(token, asked.env)
        answer = evaluate.answer_tool(
            asked,
            policy=bundle.policies,
            trace_id=self._count_evaluation(asked),
            latency_ms=self._latency(),
        )
        # invented: the trace of a tool call has the tool's name for a text
        self._traces.keep(
            asked,
            answer,
            context="tool",
            text=asked.tool_name,
            environment=environment,
            bundle=bundle,
        )
        return JSONResponse(answer)

    async def _evaluate_stream(self, request: Request) -> Response:
        token = self._tokens.caller(request, "evaluate")
        asked = await read_body(request, evaluate.StreamRequest)
        environment, bundle = self._policy_for(token, asked.env)
        trace_id = self._count_evaluation(asked)  # invented: a stream counts once
        stream = evaluate.Stream(asked, bundle.policies)
        events = stream.run(asked.chunks)
        # invented: a stream leaves one trace, of all its windows
        answer = evaluate.answer(
            asked, stream.verdict, policy=bundle.policies, trace_id=trace_id, latency_ms=0
        )
        self._traces.keep(
            asked,
            answer,
            context=asked.context,
            text="".join(asked.chunks),
            environment=environment,
            bundle=bundle,
        )
        return Response(
            evaluate.server_sent(events),
            media_type="text/event-stream",
            headers={"cache-control": "no-cache"},
        )

    def _policy_for(self, token: Token, env: str) -> tuple[Environment, Bundle]:
        project = self._projects[cast("str", token.project_id)]
        # invented: a token without an environment goes by the env of the request
        environment = project.by_id(token.environment_id) or project.environments.get(env)
        if environment is None or environment.active is None:
            raise ProviderError(503, {"detail": "Policy unavailable (fail-closed)"})
        return environment, environment.active

    def _count_evaluation(self, asked: evaluate.Scoped) -> str:
        """Count and charge one evaluation, return its trace id; 429 when the month has none left."""
        used = self._evaluated.get(self._month(), 0)
        billed_beyond = self._plan == "growth" and self._overage
        if self._included is not None and used >= self._included and not billed_beyond:
            message = "Monthly evaluation quota hit for your plan"
            # invented: the code
            coded = {"error": "quota_exceeded", "message": message}
            detail = coded if self._quota_detail == "object" else message
            raise ProviderError(429, {"detail": detail})
        self._evaluated[self._month()] = used + 1
        trace_id = asked.trace_id or self._uuid()
        self.charge(trace_id, 1, "evaluations")
        return trace_id

    async def _billing_summary(self, request: Request) -> Response:
        self._tokens.caller(request, "org:admin")
        if self._billing_is_null:
            return JSONResponse(None)
        year, month = self._month()
        used = self._evaluated.get((year, month), 0)
        included = self._included
        # invented: the whole shape; the page says "any"
        return JSONResponse(
            {
                "plan": self._plan,
                "evaluations_included": included,
                "evaluations_used": used,
                "evaluations_remaining": None if included is None else max(0, included - used),
                "period_start": f"{year}-{month:02}-01T00:00:00Z",
                "period_end": f"{year + month // 12}-{month % 12 + 1:02}-01T00:00:00Z",
            }
        )

    def _month(self) -> tuple[int, int]:
        # invented: the quota's month is the calendar month in UTC
        now = datetime.fromtimestamp(self.clock(), UTC)
        return now.year, now.month

    def _latency(self) -> int:
        return round(self.random.randint(1, MAX_LATENCY_MS) * self.time_scale)

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

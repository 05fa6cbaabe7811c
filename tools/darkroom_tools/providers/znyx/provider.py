"""ZNYX: policy checks of texts, tool calls and streams. Source: https://pprd.znyx.ai/docs/api."""

from __future__ import annotations

from urllib.parse import quote

from pydantic import Field

from darkroom.providers import (
    CHANGES,
    DESTROYS,
    READS,
    CallOperation,
    Cost,
    Credential,
    Hints,
    Limits,
    Params,
    Policy,
    Provider,
    ProviderSettings,
    Request,
    Secret,
)
from darkroom_tools.providers.znyx import responses as znyx_answers
from darkroom_tools.providers.znyx.arguments import (
    CreateToken,
    EvaluateStream,
    EvaluateText,
    EvaluateTool,
    GetTrace,
    LatestBundle,
    ListTokens,
    ListTraces,
    OfBundle,
    OfEnv,
    OfToken,
    PublishBundle,
    Scope,
    creation,
    place_missing,
    placed,
    policies_said,
    scope_missing,
    scoped,
    stream_body,
    token_place_missing,
)

NAME, TITLE = "znyx", "ZNYX"

# --- tokens ("Authentication"), the least powerful first ---

RUNTIME, CI, ADMIN = "ZNYX_RUNTIME_TOKEN", "ZNYX_CI_TOKEN", "ZNYX_ADMIN_TOKEN"
ANY = (RUNTIME, CI, ADMIN)


class Settings(ProviderSettings):
    """The default organisation and project."""

    org_id: str | None = Field(
        default=None, description="Organisation of calls that name none (ZNYX_ORG_ID sets it too)."
    )
    project_id: str | None = Field(
        default=None, description="Project of calls that name none (ZNYX_PROJECT_ID sets it too)."
    )


BEGINNING = "gr_"
"""The beginning of "some tokens"; a new one is in ``raw_key``."""

VARIABLES = {"ZNYX_ORG_ID": "org_id", "ZNYX_PROJECT_ID": "project_id"}

# --- operations: evaluations ---

EVALUATES = Hints(read_only=False, destructive=False, idempotent=True, open_world=True)
"""They count against the month's quota, and are "safe to retry" ("Idempotency")."""

ONE_EVALUATION = Cost(1, "evaluations")


def evaluates(name: str, title: str, what: str, path: str, params: type[Scope]) -> CallOperation:
    """Declare an evaluation that is answered with one EvaluationResponse."""
    return CallOperation(
        name=name,
        title=title,
        description=f"Check {what} against the policy. Go on only if allowed, with what is sanitized.",
        params=params,
        hints=EVALUATES,
        method="POST",
        path=path,
        credential=RUNTIME,
        bind=scoped,
        check=scope_missing,
        personal=True,
        cost=ONE_EVALUATION,
        statuses={429: "quota_exhausted"},  # "Monthly evaluation quota hit for your plan"
        result=znyx_answers.evaluation,
    )


EVALUATE_INPUT = evaluates(
    "znyx_evaluate_input", "Evaluate an input", "a prompt", "/v1/evaluate/input", EvaluateText
)
EVALUATE_OUTPUT = evaluates(
    "znyx_evaluate_output", "Evaluate an output", "an answer", "/v1/evaluate/output", EvaluateText
)
EVALUATE_TOOL = evaluates(
    "znyx_evaluate_tool", "Evaluate a tool call", "a tool call", "/v1/evaluate/tool", EvaluateTool
)
EVALUATE_STREAM = CallOperation(
    name="znyx_evaluate_stream",
    title="Evaluate a stream",
    description="Check a long text in chunks against the policy. Use it only if allowed.",
    params=EvaluateStream,
    hints=EVALUATES,
    method="POST",
    path="/v1/evaluate/stream",
    credential=RUNTIME,
    prepare=lambda params, settings: Request(
        method="POST",
        path="/v1/evaluate/stream",
        body=stream_body(params, settings),
        headers={"accept": "text/event-stream"},
    ),
    personal=True,
    cost=ONE_EVALUATION,
    statuses={429: "quota_exhausted"},
    result=znyx_answers.stream,
)

# --- operations: bundles ---

ENVIRONMENT = "/v1/orgs/{org_id}/projects/{project_id}/envs/{env}"
BUNDLES = f"{ENVIRONMENT}/bundles"

GET_LATEST_BUNDLE = CallOperation(
    name="znyx_get_latest_bundle",
    title="Get the latest bundle",
    description="Return the active policy bundle of the runtime token, "
    "or not_modified; refresh returns it anyway.",
    params=LatestBundle,
    hints=READS,
    path="/v1/bundles/latest",
    credential=RUNTIME,
    prepare=lambda params, _: Request(
        method="GET",
        path="/v1/bundles/latest",
        headers={"cache-control": "no-cache"} if params.refresh else {},
    ),
    conditional=True,
    accepts=frozenset({304}),
    result=znyx_answers.latest_bundle,
)

LIST_BUNDLES = CallOperation(
    name="znyx_list_bundles",
    title="List bundles",
    description="List an environment's bundle versions. Then call znyx_get_bundle.",
    params=OfEnv,
    hints=READS,
    path=BUNDLES,
    credential=CI,
    bind=placed,
    check=place_missing,
    result=znyx_answers.listed("bundles"),
)

GET_BUNDLE = CallOperation(
    name="znyx_get_bundle",
    title="Get a bundle",
    description="Return one bundle version with its policies.",
    params=OfBundle,
    hints=READS,
    path=f"{BUNDLES}/{{version}}",
    credential=CI,
    bind=placed,
    check=place_missing,
    result=znyx_answers.required,
)

PUBLISH_BUNDLE = CallOperation(
    name="znyx_publish_bundle",
    title="Publish a bundle",
    description="Publish policies as an environment's next bundle version. "
    "Then call znyx_activate_bundle.",
    params=PublishBundle,
    hints=CHANGES,
    method="POST",
    path=f"{BUNDLES}/publish",
    credential=CI,
    bind=placed,
    check=place_missing,
    repeatable=False,
    asks="Publish new policies to {env} of project {project_id}?",
    summary=policies_said,
    result=znyx_answers.required,
)

ACTIVATE_BUNDLE = CallOperation(
    name="znyx_activate_bundle",
    title="Activate a bundle",
    description="Make a published bundle version the one that an environment goes by.",
    params=OfBundle,
    hints=CHANGES,
    method="POST",
    path=f"{BUNDLES}/{{version}}/activate",
    credential=CI,
    bind=placed,
    check=place_missing,
    repeatable=False,
    asks="Make bundle version {version} the active one in {env} of project {project_id}?",
    result=znyx_answers.required,
)

PROMOTE_BUNDLE = CallOperation(
    name="znyx_promote_bundle",
    title="Promote a bundle",
    description="Copy the active bundle of dev to staging, or of staging (env) to prod.",
    params=OfEnv,
    hints=CHANGES,
    method="POST",
    path=f"{ENVIRONMENT}/promote",
    credential=CI,
    bind=placed,
    check=place_missing,
    repeatable=False,
    asks="Promote the active bundle of {env} in project {project_id} to the next environment?",
    result=znyx_answers.required,
)

# --- operations: tokens, traces, billing ---

LIST_TOKENS = CallOperation(
    name="znyx_list_tokens",
    title="List tokens",
    description="List the organisation's tokens, without the keys themselves.",
    params=ListTokens,
    hints=READS,
    path="/v1/orgs/{org_id}/tokens",
    credential=ADMIN,
    bind=placed,
    check=place_missing,
    result=znyx_answers.listed("tokens"),
)

CREATE_TOKEN = CallOperation(
    name="znyx_create_token",
    title="Create a token",
    description="Create a token; its key goes into a new file, whose path is the result.",
    params=CreateToken,
    hints=CHANGES,
    method="POST",
    path="/v1/orgs/{org_id}/tokens/{token_type}",
    credential=ADMIN,
    prepare=creation,
    bind=placed,
    check=token_place_missing,
    repeatable=False,
    asks="Create a new {token_type} token in organisation {org_id}?",
    secret=Secret(field="raw_key", prefix=BEGINNING),
    if_lost="look with znyx_list_tokens for a token that nobody holds, and revoke it",
    result=znyx_answers.required,
)

ROTATE_TOKEN = CallOperation(
    name="znyx_rotate_token",
    title="Rotate a token",
    description="Replace a token's key; the old one dies at once and the new one goes into a file.",
    params=OfToken,
    hints=DESTROYS,
    method="POST",
    path="/v1/orgs/{org_id}/tokens/{key_id}/rotate",
    credential=ADMIN,
    prepare=lambda params, _: Request(
        method="POST",
        path=f"/v1/orgs/{quote(params.org_id or '', safe='')}/tokens/{params.key_id}/rotate",
    ),
    bind=placed,
    check=place_missing,
    repeatable=False,
    asks="Replace the key of token {key_id}? The present one stops working everywhere at once.",
    secret=Secret(field="raw_key", prefix=BEGINNING),
    if_lost="the old key may be dead: tell the person to try it, and to rotate again if it is",
    result=znyx_answers.required,
)

REVOKE_TOKEN = CallOperation(
    name="znyx_revoke_token",
    title="Revoke a token",
    description="Make a token stop working for good. znyx_list_tokens shows which there are.",
    params=OfToken,
    hints=DESTROYS,
    method="DELETE",
    path="/v1/orgs/{org_id}/tokens/{key_id}",
    credential=ADMIN,
    bind=placed,
    check=place_missing,
    repeatable=False,
    asks="Revoke token {key_id}? Whatever uses it stops working at once.",
    result=lambda _, params: {"key_id": params.key_id, "revoked": True},
)

LIST_TRACES = CallOperation(
    name="znyx_list_traces",
    title="List traces",
    description="List past evaluations. Then call znyx_get_trace.",
    params=ListTraces,
    hints=READS,
    path="/v1/orgs/{org_id}/traces",
    credential=ANY,
    bind=placed,
    check=place_missing,
    result=znyx_answers.listed("traces"),
)

GET_TRACE = CallOperation(
    name="znyx_get_trace",
    title="Get a trace",
    description="Return everything about one past evaluation.",
    params=GetTrace,
    hints=READS,
    path="/v1/orgs/{org_id}/traces/{trace_id}",
    credential=ANY,
    bind=placed,
    check=place_missing,
    result=znyx_answers.required,
)

GET_BILLING_SUMMARY = CallOperation(
    name="znyx_get_billing_summary",
    title="Get billing summary",
    description="Return plan, usage and what is left of the allowance.",
    params=Params,
    hints=READS,
    path="/v1/billing/summary",
    credential=ADMIN,
)

PROVIDER = Provider(
    name=NAME,
    title=TITLE,
    documentation="https://pprd.znyx.ai/docs/api",
    base_url="https://api.znyx.ai",
    base_url_variable="ZNYX_BASE_URL",
    base_url_suffix="/v1",
    credentials=tuple(Credential(variable=variable) for variable in ANY),
    settings=Settings,
    units=("evaluations",),
    variables=VARIABLES,
    limits=lambda _: Limits(),  # quotas by plan, no rates
    statuses={423: "suspended"},  # "account locked" after too many logins; a token never logs in
    refusals=frozenset({400, 401, 403, 404, 409, 422, 423, 429}),  # "Errors"
    operations=(
        EVALUATE_INPUT,
        EVALUATE_OUTPUT,
        EVALUATE_TOOL,
        EVALUATE_STREAM,
        GET_LATEST_BUNDLE,
        LIST_BUNDLES,
        GET_BUNDLE,
        PUBLISH_BUNDLE,
        ACTIVATE_BUNDLE,
        PROMOTE_BUNDLE,
        CREATE_TOKEN,
        LIST_TOKENS,
        REVOKE_TOKEN,
        ROTATE_TOKEN,
        LIST_TRACES,
        GET_TRACE,
        GET_BILLING_SUMMARY,
    ),
    policy=Policy(
        operation=EVALUATE_INPUT.name,
        arguments=lambda text: {"text": text},
        verdict=znyx_answers.verdict,
    ),
    probe=GET_LATEST_BUNDLE.name,
)

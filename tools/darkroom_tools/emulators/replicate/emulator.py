"""Replicate's API of predictions, as its reference shows it.

A prompt with BLOCKED_TRIGGER fails as flagged, with FAIL_TRIGGER as interrupted, with EMPTY_TRIGGER
succeeds without a picture, as some models do when their checker takes everything out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

from starlette.responses import JSONResponse, Response

from darkroom_tools.emulators import pictures
from darkroom_tools.emulators.kit import (
    Clock,
    Emulator,
    Fetch,
    Handler,
    Offload,
    ProviderError,
    iso,
    never_finishes,
    read_json_object,
)
from darkroom_tools.emulators.windows import SlidingWindow

if TYPE_CHECKING:
    from starlette.requests import Request

TEST_KEY = "r8_sandbox_not_a_real_token"

BLOCKED_TRIGGER = "blocked-output"
FAIL_TRIGGER = "fails-in-processing"
EMPTY_TRIGGER = "empty-output"

CREATED_PER_MINUTE = 600
KEPT_SECONDS = 3600
LONGEST_RUN_SECONDS = 1800
STARTING_SHARE = 0.2
SECONDS, SHORTEST, LONGEST = 8.0, 0.7, 1.4
PAGE = 100
DIGITS = 64
ACCEPTED, CREATED = 202, 201

PRICES = {"black-forest-labs/flux-schnell": 0.003}
ONE_ADDRESS = frozenset({"black-forest-labs/flux-1.1-pro", "black-forest-labs/flux-kontext-pro"})
"""Models whose output is one address; of the others it is a list."""


@dataclass(slots=True, kw_only=True)
class _Prediction:
    id: str
    model: str
    version: str
    input: dict[str, object]
    created_at: float
    starts_at: float
    ends_at: float
    cancelled_at: float | None = None
    files: list[bytes] | None = None

    @property
    def prompt(self) -> str:
        return str(self.input.get("prompt", ""))

    def status(self, now: float) -> str:
        if self.cancelled_at is not None:
            return "aborted" if self.cancelled_at < self.starts_at else "canceled"
        if now < self.starts_at:
            return "starting"
        if now < self.ends_at:
            return "processing"
        failed = BLOCKED_TRIGGER in self.prompt or FAIL_TRIGGER in self.prompt
        return "failed" if failed else "succeeded"


class ReplicateEmulator(Emulator):
    """Replicate.

    Beside what every emulator takes:

    created_status: HTTP status of a prediction that was created and waits.
    created_per_minute: further ones are throttled.
    retry_after: a 429 has the header, or only a text that says it.
    no_credit: predictions are refused with 402.
    output_shape: a model's output is as it is declared, or an object that holds addresses.
    """

    name = "replicate"

    def __init__(
        self,
        *,
        clock: Clock,
        base_url: str,
        fetch: Fetch,
        seed: int = 0,
        time_scale: float = 1.0,
        offload: Offload | None = None,
        created_status: int = CREATED,  # invented: of one that waits, 202 is as likely
        created_per_minute: int = CREATED_PER_MINUTE,
        retry_after: bool = True,
        no_credit: bool = False,
        output_shape: Literal["declared", "object"] = "declared",
    ) -> None:
        super().__init__(
            clock=clock,
            base_url=base_url,
            fetch=fetch,
            seed=seed,
            time_scale=time_scale,
            offload=offload,
        )
        self.predictions: dict[str, _Prediction] = {}
        self.no_credit = no_credit
        self._created_status = created_status
        self._window = SlidingWindow(created_per_minute, 60)
        self._retry_after = retry_after
        self._output_shape = output_shape

    def operations(self) -> list[tuple[str, str, str, Handler]]:
        """Return the operations, and where outputs are downloaded."""
        return [
            ("POST", "/v1/predictions", "create", self._create_version),
            (
                "POST",
                "/v1/models/{owner}/{name}/predictions",
                "create_official",
                self._create_model,
            ),
            ("GET", "/v1/predictions", "list", self._list),
            ("GET", "/v1/predictions/{id}", "get", self._get),
            ("POST", "/v1/predictions/{id}/cancel", "cancel", self._cancel),
            ("GET", "/v1/account", "account", self._account),
            ("GET", "/delivery/{id}/{index:int}.png", "download", self._download),
        ]

    def not_found(self) -> ProviderError:
        """Return the answer to a path that there is not."""
        return _problem(404, "Not found", "The requested resource could not be found.")

    async def _create_version(self, request: Request) -> Response:
        body = await self._body(request)
        version = body.get("version")
        if not isinstance(version, str):
            raise self._invalid("version", "version is required")
        if len(version.rpartition(":")[2]) != DIGITS and "/" not in version:
            raise _problem(
                422, "Invalid version or not permitted", "The specified version does not exist"
            )
        return self._created(request, "", version, body)

    async def _create_model(self, request: Request) -> Response:
        body = await self._body(request)
        if request.path_params["name"] == "no-such-model":
            raise self.not_found()
        model = f"{request.path_params['owner']}/{request.path_params['name']}"
        return self._created(request, model, "hidden", body)

    async def _body(self, request: Request) -> dict[str, object]:
        self._authorise(request)
        wait = self._window.wait(self.clock())
        if wait:
            seconds = math.ceil(wait)
            detail = f"Request was throttled. Your rate limit resets in ~{seconds}s."
            headers = {"retry-after": str(seconds)} if self._retry_after else {}
            raise ProviderError(429, {"detail": detail, "status": 429}, headers)
        body = await read_json_object(request)
        if body is None or not isinstance(body.get("input"), dict):
            raise self._invalid("input", "input is required")
        if self.no_credit:
            what = "You have insufficient credit to run this model."
            raise _problem(402, "Insufficient credit", what)
        return body

    def _created(
        self, request: Request, model: str, version: str, body: dict[str, object]
    ) -> Response:
        fields = cast("dict[str, object]", body["input"])
        if not isinstance(fields.get("prompt", ""), str):
            raise self._invalid("prompt", "Invalid type. Expected: string")
        now = self.clock()
        took = SECONDS * self.random.uniform(SHORTEST, LONGEST) * self.time_scale
        prediction = _Prediction(
            id=self.hex_id(26),
            model=model,
            version=version,
            input=fields,
            created_at=now,
            starts_at=now + took * STARTING_SHARE,
            ends_at=now + (LONGEST_RUN_SECONDS * 10 if never_finishes(request) else took),
        )
        self.predictions[prediction.id] = prediction
        self.charge(prediction.id, PRICES.get(model, 0.04), "usd")  # invented: when it is created
        return JSONResponse(self._shown(prediction), status_code=self._created_status)

    def _shown(self, prediction: _Prediction) -> dict[str, object]:
        now, status = self.clock(), prediction.status(self.clock())
        over = status in {"succeeded", "failed", "canceled", "aborted"}
        removed = over and now > prediction.ends_at + KEPT_SECONDS
        base = f"{self.base_url}/v1/predictions/{prediction.id}"
        shown: dict[str, object] = {
            "id": prediction.id,
            "model": prediction.model,
            "version": prediction.version,
            "input": {} if removed else prediction.input,
            "output": None,
            "error": None,
            "logs": "",
            "status": status,
            "created_at": iso(prediction.created_at, digits=6),
            "data_removed": removed,
            "source": "api",
            "urls": {"get": base, "cancel": f"{base}/cancel"},
        }
        if status == "processing":
            share = (now - prediction.starts_at) / (prediction.ends_at - prediction.starts_at)
            shown["logs"] = f" {int(share * 100)}%|###       | 3/28"
        if over:
            shown["completed_at"] = iso(prediction.ends_at, digits=6)
            shown["metrics"] = {"predict_time": round(prediction.ends_at - prediction.starts_at, 2)}
        if status == "failed":
            flagged = "The input or output was flagged as sensitive. Please try again. (E005)"
            interrupted = "Prediction interrupted; please retry (code: PA)"
            shown["error"] = flagged if BLOCKED_TRIGGER in prediction.prompt else interrupted
        if status == "succeeded" and not removed:
            shown["output"] = self._output(prediction)
        return shown

    def _output(self, prediction: _Prediction) -> object:
        if EMPTY_TRIGGER in prediction.prompt:
            return []
        count = cast("int", prediction.input.get("num_outputs", 1))
        base = f"{self.base_url}/delivery/{prediction.id}"
        listed = [f"{base}/{index}.png" for index in range(count)]
        if self._output_shape == "object":
            return {"images": listed, "text": "done"}
        return listed[0] if prediction.model in ONE_ADDRESS else listed

    async def _list(self, request: Request) -> Response:
        self._authorise(request)
        newest = sorted(self.predictions.values(), key=lambda each: -each.created_at)[:PAGE]
        results = [self._shown(each) for each in newest]
        return JSONResponse({"next": None, "previous": None, "results": results})

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._shown(self._find(request)))

    async def _cancel(self, request: Request) -> Response:
        prediction, now = self._find(request), self.clock()
        if prediction.status(now) in {"starting", "processing"}:
            prediction.cancelled_at = now
            prediction.ends_at = now
        return JSONResponse(self._shown(prediction))

    async def _account(self, request: Request) -> Response:
        self._authorise(request)
        return JSONResponse({"type": "user", "username": "sandbox", "name": "Sandbox"})

    async def _download(self, request: Request) -> Response:
        prediction = self.predictions.get(request.path_params["id"])
        if prediction is None or self.clock() > prediction.ends_at + KEPT_SECONDS:
            return Response(status_code=404)
        if prediction.files is None:
            prediction.files = await self.offload(partial(_draw, prediction.input))
        return Response(prediction.files[request.path_params["index"]], media_type="image/png")

    def _find(self, request: Request) -> _Prediction:
        self._authorise(request)
        prediction = self.predictions.get(request.path_params["id"])
        if prediction is None:
            raise self.not_found()
        return prediction

    @staticmethod
    def _authorise(request: Request) -> None:
        if request.headers.get("authorization") != f"Bearer {TEST_KEY}":
            what = "You did not pass a valid authentication token"
            raise _problem(401, "Unauthenticated", what)

    @staticmethod
    def _invalid(field: str, description: str) -> ProviderError:
        error = _problem(422, "Input validation failed", f"- input.{field}: {description}")
        fields = [{"type": "required", "field": field, "description": description}]
        return ProviderError(
            422, {**cast("dict[str, object]", error.body), "invalid_fields": fields}
        )


def _problem(status: int, title: str, detail: str) -> ProviderError:
    return ProviderError(status, {"title": title, "detail": detail, "status": status})


def _draw(fields: dict[str, object]) -> list[bytes]:
    seed = cast("int", fields.get("seed", 7))
    count = cast("int", fields.get("num_outputs", 1))
    made: list[bytes] = []
    for index in range(count):
        image = pictures.scene(str(fields.get("prompt", "a picture")), seed + index, 768, 512)
        made.append(pictures.encode(pictures.stamp(image, "replicate"), "png"))
    return made

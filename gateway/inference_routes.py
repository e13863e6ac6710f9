"""The routes of the Open Inference Protocol. ``gateway.inference`` has its words, ``gateway.answer`` the doing.

A model's name may have slashes, so the longer paths come first.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway import documents
from gateway.answer import Completion, respond
from gateway.desk import Desk
from gateway.dialect import Dialect, Wrapping
from gateway.errors import ApiError
from gateway.inference import (
    EXTENSIONS,
    GenerateEnvelope,
    GenerateRequest,
    InferEnvelope,
    InferRequest,
    generated,
    inferred,
    metadata,
)
from gateway.models import Target
from gateway.responses import JsonResponse

STREAM: documents.Responses = {200: {"description": "the answer", "content": {"text/event-stream": documents.EVENTS}}}
BINARY = "inference-header-content-length"  # the header of Triton's binary tensors


@dataclass(frozen=True, slots=True)
class _Generate(Completion):
    """A completion in another envelope."""

    def envelope(self, dialect: Dialect, target: Target, request_id: str, created: int) -> Wrapping:
        return GenerateEnvelope(target.model.name, target.model.fingerprint, bool(self.body.stream))


@dataclass(frozen=True, slots=True)
class _Infer(Completion):
    """A completion of several prompts, in another envelope."""

    id: str | None

    def envelope(self, dialect: Dialect, target: Target, request_id: str, created: int) -> Wrapping:
        return InferEnvelope(target.model.name, target.model.fingerprint, self.id)


def routes(desk: Desk) -> APIRouter:
    """All of ``/v2``."""
    router = APIRouter(prefix="/v2", tags=["open inference protocol"], responses=documents.PLAIN_ERRORS)
    _server_routes(router, desk)
    _text_routes(router, desk)
    _model_routes(router, desk)
    return router


def _server_routes(router: APIRouter, desk: Desk) -> None:
    @router.get("", responses=documents.told(documents.ServerTold))
    @router.get("/", include_in_schema=False)
    async def server() -> Response:
        """Who answers here."""
        return JsonResponse({"name": "shoal", "version": desk.version, "extensions": list(EXTENSIONS)})

    @router.get("/health/live", responses=documents.told(documents.Live))
    async def live() -> Response:
        """Whether the process answers at all."""
        return JsonResponse({"live": True})

    @router.get("/health/ready", responses=documents.probed(documents.Ready))
    async def ready() -> Response:
        """Whether requests would be answered."""
        is_ready = desk.models.ready and not desk.draining
        return JsonResponse({"live": True, "ready": is_ready}, 200 if is_ready else 503)


def _text_routes(router: APIRouter, desk: Desk) -> None:
    @router.post("/models/{name:path}/versions/{version}/generate", responses=documents.told(documents.Generated))
    async def generate_version(name: str, version: str, body: GenerateRequest, request: Request) -> Response:
        return await generate(f"{name}@{version}", body, request)

    @router.post("/models/{name:path}/versions/{version}/generate_stream", responses=STREAM)
    async def generate_stream_version(name: str, version: str, body: GenerateRequest, request: Request) -> Response:
        return await generate_stream(f"{name}@{version}", body, request)

    @router.post("/models/{name:path}/versions/{version}/infer", responses=documents.told(documents.Inferred))
    async def infer_version(name: str, version: str, body: InferRequest, request: Request) -> Response:
        return await infer(f"{name}@{version}", body, request)

    @router.post("/models/{name:path}/generate", responses=documents.told(documents.Generated))
    async def generate(name: str, body: GenerateRequest, request: Request) -> Response:
        """The answer to one text, whole."""
        asked = generated(body, name, stream=False)
        return await respond(desk, request, asked, _Generate(asked))

    @router.post("/models/{name:path}/generate_stream", responses=STREAM)
    async def generate_stream(name: str, body: GenerateRequest, request: Request) -> Response:
        """The answer to one text as it comes: server-sent events, the last with ``"done": true``."""
        asked = generated(body, name, stream=True)
        return await respond(desk, request, asked, _Generate(asked))

    @router.post("/models/{name:path}/infer", responses=documents.told(documents.Inferred))
    async def infer(name: str, body: InferRequest, request: Request) -> Response:
        """The answers to a tensor of texts (BYTES, as JSON)."""
        if BINARY in request.headers:
            raise ApiError(400, "binary tensors are not supported; send the data as JSON", code="unsupported_parameter")
        asked = inferred(body, name)
        return await respond(desk, request, asked, _Infer(asked, body.id))


def _model_routes(router: APIRouter, desk: Desk) -> None:
    @router.get("/models/{name:path}/versions/{version}/ready", responses=documents.probed(documents.Ready))
    async def version_ready(name: str, version: str, request: Request) -> Response:
        return await model_ready(f"{name}@{version}", request)

    @router.get("/models/{name:path}/ready", responses=documents.probed(documents.Ready))
    async def model_ready(name: str, request: Request) -> Response:
        """Whether every Block of the model has somebody."""
        target = desk.models.resolve(name, request.state.request_id)
        is_ready = desk.models.complete(target) and not desk.draining
        return JsonResponse({"name": target.model.name, "ready": is_ready}, 200 if is_ready else 503)

    @router.get("/models/{name:path}/versions/{version}", responses=documents.told(documents.ModelTold))
    async def version(name: str, version: str, request: Request) -> Response:
        return await model(f"{name}@{version}", request)

    @router.get("/models/{name:path}", responses=documents.told(documents.ModelTold))
    async def model(name: str, request: Request) -> Response:
        """What the model takes and gives."""
        target = desk.models.resolve(name, request.state.request_id)
        return JsonResponse(metadata(target, desk.models.versions(target)))

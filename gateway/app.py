"""The app: FastAPI routes over a Desk. Each route is a line or two; what they do is in ``gateway.answer`` and below."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import cache

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from gateway import answer, documents, inference_routes
from gateway.answer import encode, encode_chat, told
from gateway.desk import Desk
from gateway.dialect import Json
from gateway.errors import ApiError, of_error, of_validation
from gateway.metrics import OPENMETRICS
from gateway.models import Target
from gateway.mount import Mounted
from gateway.pages import add_pages
from gateway.porch import Porch, is_open
from gateway.responses import JsonResponse, Vanished, error_response, while_connected
from gateway.schema import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest
from swarm.errors import ShoalError

METRICS: documents.Responses = {200: {"content": {OPENMETRICS: {"schema": {"type": "string"}}}}}
LEARN_S = 5.0  # how long a list of models waits for one that is not known yet

log = logging.getLogger("gateway.app")


def build_app(desk: Desk, dashboard: ASGIApp | None = None) -> ASGIApp:
    """What uvicorn serves."""
    app = FastAPI(
        title="Shoal gateway", version=desk.version, docs_url=None, redoc_url=None, responses=documents.ERRORS
    )
    _handle_errors(app)
    _text_routes(app, desk)
    _model_routes(app, desk)
    _house_routes(app, desk)
    app.include_router(inference_routes.routes(desk))
    add_pages(app)
    if desk.keyring:
        _document_keys(app)
    porch = Porch(app, desk)
    return porch if dashboard is None else Mounted(porch, app.routes, dashboard)


def _text_routes(app: FastAPI, desk: Desk) -> None:
    @app.post("/v1/completions", tags=["text"], responses=documents.told(documents.Completion, events=True))
    async def completions(body: CompletionRequest, request: Request) -> Response:
        return await answer.complete(desk, request, body)

    @app.post("/v1/chat/completions", tags=["text"], responses=documents.told(documents.ChatCompletion, events=True))
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        return await answer.chat(desk, request, body)

    @app.post("/tokenize", tags=["tokens"], responses=documents.told(documents.Tokens))
    async def tokenize(body: TokenizeRequest, request: Request) -> Response:
        if (body.prompt is None) == (body.messages is None):
            raise ApiError(400, "give a prompt or messages", param="prompt")
        with desk.admit(request), told():
            served = await desk.models.served(desk.models.resolve(body.model, request.state.request_id))
            if body.prompt is not None:
                tokens = await encode(served, body.prompt, special=body.add_special_tokens is not False)
            else:
                tokens = await encode_chat(served, body.messages or ())
        found: Json = {
            "count": len(tokens), "max_model_len": desk.models.max_model_len(served), "tokens": list(tokens)
        }  # fmt: skip
        if body.return_token_strs:
            found["token_strs"] = [served.codec.decode((token_id,)) for token_id in tokens]
        return JsonResponse(found)

    @app.post("/detokenize", tags=["tokens"], responses=documents.told(documents.Text))
    async def detokenize(body: DetokenizeRequest, request: Request) -> Response:
        with desk.admit(request), told():
            served = await desk.models.served(desk.models.resolve(body.model, request.state.request_id))
            bad = next((token_id for token_id in body.tokens if token_id >= served.vocab_size), None)
            if bad is not None:
                raise ApiError(400, f"token id {bad} is not one of 0..{served.vocab_size - 1}", param="tokens")
            return JsonResponse({"prompt": await asyncio.to_thread(served.codec.decode, body.tokens)})

    @app.post("/v1/embeddings", include_in_schema=False)
    async def embeddings() -> Response:
        """The models of a swarm make text: what a Hop gives is the hidden state of a decoder, which no one trained to
        compare texts by. To sell it as an embedding would be a fake.
        """
        raise ApiError(
            404, "there are no embeddings here: this swarm's models make text", code="not_supported", retry=False
        )


def _model_routes(app: FastAPI, desk: Desk) -> None:
    @app.get("/v1/models", tags=["models"], responses=documents.told(documents.ModelList))
    async def models(request: Request) -> Response:
        targets = desk.models.listed()
        described = await while_connected(request.receive, _describe_all(desk, targets))
        return JsonResponse({"object": "list", "data": described})

    @app.get("/v1/models/{name:path}", tags=["models"], responses=documents.told(documents.Model))
    async def model(name: str, request: Request) -> Response:
        return JsonResponse(await _describe(desk, desk.models.resolve(name, request.state.request_id)))


async def _describe_all(desk: Desk, targets: Sequence[Target]) -> list[Json]:
    described = list(await asyncio.gather(*(_describe(desk, target) for target in targets)))
    aliases: list[Json] = [
        {"id": name, "object": "model", "created": desk.started_at, "owned_by": "alias"} for name in desk.models.aliases
    ]
    return described + aliases


async def _describe(desk: Desk, target: Target) -> Json:
    """``max_model_len`` where it is known by now."""
    found: Json = {
        "id": target.name, "object": "model", "created": desk.started_at, "owned_by": "shoal",
        "root": target.model.name, "fingerprint": target.model.fingerprint,
    }  # fmt: skip
    try:
        async with asyncio.timeout(LEARN_S):
            found["max_model_len"] = desk.models.max_model_len(await desk.models.served(target))
    except (TimeoutError, ShoalError, ApiError) as error:
        log.warning("does not know %s yet: %s", target.name, error)
    return found


def _house_routes(app: FastAPI, desk: Desk) -> None:
    @app.get("/health", tags=["health"], responses=documents.told(documents.Status))
    @app.get("/healthz", tags=["health"], responses=documents.told(documents.Status))
    async def health() -> Response:
        """Whether the process answers at all."""
        return JsonResponse({"status": "ok"})

    @app.get("/readyz", tags=["health"], responses=documents.probed(documents.Status))
    async def ready() -> Response:
        """Whether requests would be answered: not leaving, and every Block of the models has somebody."""
        status = "draining" if desk.draining else "ready" if desk.models.ready else "no complete model"
        return JsonResponse({"status": status}, 200 if status == "ready" else 503)

    @app.get("/version", tags=["health"], responses=documents.told(documents.Version))
    async def version() -> Response:
        return JsonResponse({"version": desk.version})

    @app.get("/metrics", tags=["health"], responses=METRICS, response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        body, kind = desk.metrics.render(request.headers.get("accept", ""))
        return Response(body, media_type=None, headers={"content-type": kind})


def _document_keys(app: FastAPI) -> None:
    plain = app.openapi
    app.openapi = cache(lambda: documents.with_keys(plain(), is_open))


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return error_response(error, request.url.path)

    @app.exception_handler(ShoalError)
    async def failed(request: Request, error: ShoalError) -> Response:
        return error_response(of_error(error), request.url.path)

    @app.exception_handler(RequestValidationError)
    async def misunderstood(request: Request, error: RequestValidationError) -> Response:
        return error_response(of_validation(error.errors()), request.url.path)

    @app.exception_handler(Vanished)
    async def vanished(request: Request, error: Vanished) -> Response:
        return Response(status_code=answer.GONE)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        path = request.url.path[:200]
        says = {404: f"there is no {path} here", 405: f"{path} does not take {request.method}"}
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        refusal = ApiError(error.status_code, says.get(error.status_code, str(error.detail)), code=code)
        found = error_response(refusal, path)
        found.headers.update(error.headers or {})
        return found

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        log.error("a request failed: %r", error, exc_info=error)
        return error_response(ApiError(500, "the gateway failed", code="internal_error"), request.url.path)

"""The Open Inference Protocol (KServe's and Triton's ``/v2``): its requests → completions, answers → its JSON. Pure.

``generate`` and ``generate_stream`` are the published extension for text; ``infer`` takes the same text as a
tensor of BYTES, one prompt an element. A model's version is its fingerprint. Errors are ``{"error": "…"}``, and a
stream has no ``[DONE]``: its last event says ``"done": true``.

Specification: https://github.com/kserve/open-inference-protocol (inference_rest.md, generate_rest.yaml), and Triton's
extension_generate.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.dialect import Json
from gateway.errors import ApiError, of_validation
from gateway.models import Target
from gateway.schema import CompletionRequest, Strict

INPUT, OUTPUT, TEXT = "text_input", "text_output", "BYTES"
DEFAULT_TOKENS = 20  # as the specification has it
EXTENSIONS = ("generate",)
# What others call the same thing (TensorRT-LLM's backend above all).
ALIASES = {"max_new_tokens": "max_tokens", "random_seed": "seed", "stop_words": "stop"}
NOT_HERE = ("n", "logprobs")  # what text_output has no room for

Parameter = str | int | float | bool | list[Any] | dict[str, Any] | None


class GenerateRequest(BaseModel):
    """Fields that are not named here count as parameters, as Triton has it."""

    model_config = ConfigDict(extra="allow", strict=True)

    text_input: str = Field(description="the prompt")
    parameters: dict[str, Parameter] | None = Field(None, description="as of /v1/completions: max_tokens, stop, …")
    id: str | None = None


class Tensor(Strict):
    name: str
    shape: list[int] = Field(max_length=8)
    datatype: str
    data: list[Any] | None = None


class WantedOutput(Strict):
    name: str


class InferRequest(Strict):
    id: str | None = Field(None, max_length=256)
    inputs: list[Tensor] = Field(min_length=1)
    outputs: list[WantedOutput] | None = None
    parameters: dict[str, Parameter] | None = None


def generated(request: GenerateRequest, model: str, *, stream: bool) -> CompletionRequest:
    """What it asks for. Raises ApiError."""
    return _completion(model, request.text_input, {**(request.model_extra or {}), **(request.parameters or {})}, stream)


def inferred(request: InferRequest, model: str) -> CompletionRequest:
    """What it asks for. Raises ApiError."""
    if len(request.inputs) != 1 or request.inputs[0].name != INPUT:
        names = ", ".join(tensor.name[:40] for tensor in request.inputs[:4])
        raise ApiError(400, f"there is one input, {INPUT}; this request has: {names}", param="inputs")
    wanted = next((each.name for each in request.outputs or () if each.name != OUTPUT), None)
    if wanted is not None:
        raise ApiError(400, f"there is one output, {OUTPUT}, and no {wanted[:40]!r}", param="outputs")
    return _completion(model, _texts(request.inputs[0]), request.parameters or {}, stream=False)


def metadata(target: Target, versions: Sequence[str]) -> Json:
    """Of a model."""
    return {
        "name": target.model.name, "versions": list(versions), "platform": "shoal",
        "inputs": [{"name": INPUT, "datatype": TEXT, "shape": [-1]}],
        "outputs": [{"name": OUTPUT, "datatype": TEXT, "shape": [-1]}],
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class GenerateEnvelope:
    """One answer as text. ``done`` is in a stream's events only."""

    done: ClassVar[bytes] = b""

    model: str
    version: str
    stream: bool

    def wrap(self, kind: str, choices: list[Json], usage: Json | None = None) -> Json:
        choice = choices[0]
        body: Json = {"model_name": self.model, "model_version": self.version, OUTPUT: choice["text"]}
        if self.stream:
            body["done"] = choice["finish_reason"] is not None
        if choice["finish_reason"] is not None:
            body["finish_reason"] = choice["finish_reason"]
        return body

    def failed(self, error: ApiError) -> Json:
        return error.plain_body


@dataclass(frozen=True, slots=True)
class InferEnvelope:
    """All answers as one tensor."""

    done: ClassVar[bytes] = b""

    model: str
    version: str
    id: str | None

    def wrap(self, kind: str, choices: list[Json], usage: Json | None = None) -> Json:
        texts = [choice["text"] for choice in choices]
        body: Json = {
            "model_name": self.model, "model_version": self.version,
            "outputs": [{"name": OUTPUT, "datatype": TEXT, "shape": [len(texts)], "data": texts}],
        }  # fmt: skip
        if self.id is not None:
            body["id"] = self.id
        return body

    def failed(self, error: ApiError) -> Json:
        return error.plain_body


def _completion(model: str, prompt: str | list[str], parameters: Mapping[str, Any], stream: bool) -> CompletionRequest:
    named = {ALIASES.get(name, name): value for name, value in parameters.items()}
    there = next((name for name in NOT_HERE if named.get(name) not in (None, 0, 1, False)), None)
    if there is not None:
        raise ApiError(400, f"{there} does not go with {OUTPUT}; /v1/completions has it", param=there)
    given = {
        **{name: value for name, value in named.items() if value is not None and name not in NOT_HERE},
        "model": model, "prompt": prompt, "stream": stream, "stream_options": None,
    }  # fmt: skip
    given.setdefault("max_tokens", DEFAULT_TOKENS)
    try:
        return CompletionRequest.model_validate(given)
    except ValidationError as error:
        raise of_validation(error.errors()) from None


def _texts(tensor: Tensor) -> list[str]:
    """The elements in row-major order, which are one prompt each."""
    if tensor.datatype != TEXT:
        raise ApiError(400, f"{INPUT} is of {TEXT}, not {tensor.datatype[:40]!r}", param="inputs")
    if tensor.data is None:
        raise ApiError(400, f"{INPUT} has no data; tensors come as JSON here, not in binary", param="inputs")
    found: list[Any] = tensor.data
    for _ in tensor.shape[1:]:
        if found and all(isinstance(row, list) for row in found):
            found = [each for row in found for each in row]
    count = 1
    for length in tensor.shape:
        count *= length
    if not all(isinstance(each, str) for each in found) or len(found) != count or not tensor.shape:
        raise ApiError(400, f"{INPUT} must be texts, as many as its shape {tensor.shape} says", param="inputs")
    return found

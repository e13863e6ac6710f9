"""Tools: what a request says of them, made into what a template, a grammar and a reader want. Pure.

A template that knows tools says by its text how its model was taught to call them. A call that has to come
(``required``, or a function by name) is drawn by a grammar; otherwise the model is free to, and its text is read.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from gateway.errors import ApiError
from gateway.schema import ChatMessage, ChatRequest, NamedTool, Tool
from gateway.tool_reader import ToolFormat, ToolReader

MAX_TOOLS = 128
MAX_CALLS = 16  # that have to come, at once
_SPACES = r"\n[ \t]{0,24}| "


def offered(request: ChatRequest) -> list[Tool]:
    """The tools that the model is told of. Raises ApiError for what contradicts itself."""
    tools, choice = request.tools or [], request.tool_choice
    if len(tools) > MAX_TOOLS:
        raise ApiError(400, f"{len(tools)} tools, at most {MAX_TOOLS} are taken", param="tools")
    if isinstance(choice, NamedTool) and not any(tool.function.name == choice.function.name for tool in tools):
        raise ApiError(400, f"tool_choice names {choice.function.name!r}, which is not in tools", param="tool_choice")
    if choice == "required" and not tools:
        raise ApiError(400, "tool_choice is required, but there are no tools", param="tool_choice")
    if choice == "none":
        return []
    wanted = request.response_format
    if tools and wanted is not None and wanted.type != "text":
        raise ApiError(
            400, "response_format goes with tools only where tool_choice is none", param="response_format",
            code="unsupported_parameter",
        )  # fmt: skip
    return tools


def format_of(template: str) -> ToolFormat:
    """How a model of this chat template calls. Raises ApiError where that is not known."""
    if "tools" in template and ToolFormat.HERMES.value in template:
        return ToolFormat.HERMES
    if "tools" in template and '"parameters"' in template.replace("'", '"').replace('\\"', '"'):
        return ToolFormat.LLAMA
    said = "its calls are of a format that is not known here" if "tools" in template else "it takes no tools"
    raise ApiError(
        400, f"this model's chat template cannot be used with tools: {said}", param="tools",
        code="unsupported_parameter",
    )  # fmt: skip


def reader(request: ChatRequest, form: ToolFormat) -> ToolReader:
    most = 1 if request.parallel_tool_calls is False or isinstance(request.tool_choice, NamedTool) else None
    return ToolReader(form, lambda: f"call_{secrets.token_hex(12)}", most)


def for_template(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """As transformers' templates have them."""
    found: list[dict[str, Any]] = []
    for tool in tools:
        function: dict[str, Any] = {"name": tool.function.name, "description": tool.function.description or ""}
        function["parameters"] = tool.function.parameters or {"type": "object", "properties": {}}
        found.append({"type": "function", "function": function})
    return found


def grammar(request: ChatRequest, form: ToolFormat) -> str | None:
    """For llguidance: the calls that have to come; None where none has to."""
    choice = request.tool_choice
    if choice != "required" and not isinstance(choice, NamedTool):
        return None
    tools = request.tools or []
    if isinstance(choice, NamedTool):
        tools = [tool for tool in tools if tool.function.name == choice.function.name][:1]
    several = choice == "required" and request.parallel_tool_calls is not False
    bodies = "\n".join(f"call{n}: %json {_body(tool, form)}" for n, tool in enumerate(tools))
    calls = " | ".join(f"call{n}" for n in range(len(tools)))
    if form is ToolFormat.LLAMA:  # its templates take one call at a time
        return f"start: {calls}\n{bodies}"
    more = f'("\\n" one){{0,{MAX_CALLS - 1}}}' if several else ""
    return f'start: one {more}\none: "<tool_call>\\n" ({calls}) "\\n</tool_call>"\n{bodies}'


def _body(tool: Tool, form: ToolFormat) -> str:
    arguments = tool.function.parameters or {"type": "object", "properties": {}, "additionalProperties": False}
    arguments = dict(arguments)
    shared = {key: arguments.pop(key) for key in ("$defs", "definitions") if key in arguments}  # refs go to the root
    arguments.setdefault("type", "object")
    key = "parameters" if form is ToolFormat.LLAMA else "arguments"
    schema: dict[str, Any] = {
        "type": "object", "properties": {"name": {"const": tool.function.name}, key: arguments},
        "required": ["name", key], "additionalProperties": False, "x-guidance": {"whitespace_pattern": _SPACES},
        **shared,
    }  # fmt: skip
    try:
        return json.dumps(schema, ensure_ascii=False)
    except (RecursionError, ValueError):
        raise ApiError(400, f"the parameters of {tool.function.name} are nested too deeply", param="tools") from None


def calls_of(message: ChatMessage, param: str) -> list[dict[str, Any]]:
    """The calls of an earlier answer, as templates have them: arguments are an object there, and text in the API."""
    found: list[dict[str, Any]] = []
    for index, call in enumerate(message.tool_calls or ()):
        try:
            arguments: Any = json.loads(call.function.arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            name = f"{param}.tool_calls.{index}.function.arguments"
            raise ApiError(400, f"{name} is no JSON object", param=name)
        function: dict[str, Any] = {"name": call.function.name, "arguments": arguments}
        found.append({"id": call.id, "type": "function", "function": function})
    return found

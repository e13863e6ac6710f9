"""What Prometheus may know of this gateway. ``docs/gateway.md`` has the table.

No label carries what a caller or a stranger chose: routes and models are those of the code and of the command line
("other" for the rest), so nobody can make the number of series grow. The registry is the gateway's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, exposition
from prometheus_client.openmetrics import exposition as openmetrics

from client.result import Result

OTHER = "other"
OPENMETRICS = "application/openmetrics-text"
FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
INTER_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
REQUEST_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
QUEUE_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
REASONS = ("stop", "length", "error", "cancelled")
KINDS = ("prompt", "completion", "cached")


class Metrics:
    """``models``: those that were named on the command line, aliases' targets too."""

    def __init__(self, version: str, models: Iterable[str] = ()):
        self.registry = CollectorRegistry()
        self._models = tuple(dict.fromkeys([*models, OTHER]))
        ProcessCollector(registry=self.registry)
        Info("shoal_gateway_build", "What runs here.", registry=self.registry).info({"version": version})
        self._first_token = self._histogram(
            "time_to_first_token", "From the request to its first token.", FIRST_TOKEN_S
        )
        self._inter_token = self._histogram("inter_token", "Between two tokens of one answer.", INTER_TOKEN_S)
        self._request = self._histogram("request", "From a request that was let in to the end of it.", REQUEST_S)
        self._queue = Histogram(
            "shoal_gateway_queue_seconds",
            "How long requests waited for a place.",
            buckets=QUEUE_S,
            registry=self.registry,
        )
        self._depth = Gauge("shoal_gateway_queue_depth", "Requests that wait for a place.", registry=self.registry)
        self._running = Gauge("shoal_gateway_running", "Requests that are being answered.", registry=self.registry)
        self._tokens = self._counter(
            "tokens", "Tokens of prompts, of answers, and of prompts found in caches.", "kind", KINDS
        )
        self._finished = self._counter("answers", "Answers that ended, by why.", "reason", REASONS)
        self._failovers = Counter(
            "shoal_gateway_failovers", "Hops that answers lost on the way and replaced.", registry=self.registry
        )
        self._rebuilds = Counter(
            "shoal_gateway_route_rebuilds", "Times that an answer went on along another Route.", registry=self.registry
        )
        self._responses = Counter(
            "shoal_gateway_http_responses", "HTTP responses.", ("route", "code"), registry=self.registry
        )

    def watch(self, waiting: Callable[[], int], running: Callable[[], int]) -> None:
        self._depth.set_function(waiting)
        self._running.set_function(running)

    def first_token(self, model: str, seconds: float) -> None:
        self._first_token[self._known(model)].observe(seconds)

    def inter_token(self, model: str, seconds: float) -> None:
        self._inter_token[self._known(model)].observe(seconds)

    def request(self, model: str, seconds: float) -> None:
        self._request[self._known(model)].observe(seconds)

    def waited(self, seconds: float) -> None:
        self._queue.observe(seconds)

    def prompt(self, model: str, tokens: int) -> None:
        self._tokens[self._known(model), "prompt"].inc(tokens)

    def token(self, model: str, count: int) -> None:
        self._tokens[self._known(model), "completion"].inc(count)

    def finished(self, model: str, result: Result) -> None:
        """An answer is whole."""
        self._finished[self._known(model), result.finish_reason].inc()
        self._tokens[self._known(model), "cached"].inc(result.cached_tokens)

    def lost(self, model: str, *, cancelled: bool) -> None:
        """An answer will never be whole."""
        self._finished[self._known(model), "cancelled" if cancelled else "error"].inc()

    def failovers(self, count: int) -> None:
        self._failovers.inc(count)

    def rebuilt(self) -> None:
        self._rebuilds.inc()

    def response(self, route: str, code: int) -> None:
        """``route`` is a path of the code's own, never what was asked for."""
        self._responses.labels(route, str(code)).inc()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Body and content type: OpenMetrics where the scraper names it."""
        if any(kind.split(";")[0].strip().lower() == OPENMETRICS for kind in accept.split(",")):
            body = cast(bytes, openmetrics.generate_latest(self.registry))  # pyright: ignore[reportUnknownMemberType]
            return body, openmetrics.CONTENT_TYPE_LATEST
        return exposition.generate_latest(self.registry), exposition.CONTENT_TYPE_LATEST

    def _known(self, model: str) -> str:
        return model if model in self._models else OTHER

    def _histogram(self, name: str, says: str, buckets: tuple[float, ...]) -> dict[str, Any]:
        made = Histogram(f"shoal_gateway_{name}_seconds", says, ("model",), buckets=buckets, registry=self.registry)
        return {model: made.labels(model) for model in self._models}

    def _counter(self, name: str, says: str, label: str, values: tuple[str, ...]) -> dict[tuple[str, str], Any]:
        """Every series is there from the start, at 0: what appears only with its first event hides it from rate()."""
        made = Counter(f"shoal_gateway_{name}", says, ("model", label), registry=self.registry)
        return {(model, value): made.labels(model, value) for model in self._models for value in values}

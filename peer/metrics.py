"""What Prometheus may know of this Peer: counters and histograms that others feed, gauges that are read when asked.

Every value is a sum over all Sessions; no label carries what a stranger chose, so nobody can make the number of series
grow, and nobody reads a Session's doings here. ``docs/metrics.md`` has the table. All methods are for the event loop,
and none waits. The library keeps a registry for the whole process by default; this one is the Peer's own, so that two
Peers in one process (tests, simulations) do not mix.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peer.meter import Meter, Side
from proto.messages import PROTOCOL
from swarm.errors import FaultCode

if TYPE_CHECKING:
    from prometheus_client import Metric

SEATS = (1, 2, 4, 8, 16, 32, 64, 128)
TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OPENMETRICS = "application/openmetrics-text"


@dataclass(frozen=True, slots=True)
class Books:
    """The state of one moment. Pages used, cached and free exclude each other: their sum is all there are."""

    sessions: int
    client_links: int
    peer_links: int
    queue_tokens: int  # waiting for the compute thread or on it
    pages_used: int  # held by Seats
    pages_cached: int  # held by no Seat, kept for prefixes; given up when a Seat needs them
    pages_free: int  # of neither kind
    pages_owed: int  # promised to Seats that have not taken them yet; more than cached and free if overcommitted
    journal_memory_bytes: int
    journal_disk_bytes: int


class Metrics(Meter):
    """One for each Peer. Building it imports prometheus-client, which takes 0.1 s."""

    def __init__(self, version: str):
        from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector

        self.registry = CollectorRegistry()
        self._read: Callable[[], Books] | None = None
        self.prefill_tokens = self.decode_tokens = 0  # as the counters below have them, for Info
        self.registry.register(_Gauges(self))
        ProcessCollector(registry=self.registry)

        def counter(name: str, says: str, label: str | None = None, values: Iterable[str] = ()) -> Any:
            made = Counter(f"shoal_peer_{name}", says, (label,) if label else (), registry=self.registry)
            # Every series is there from the start, at 0: what appears only with its first event hides it from rate().
            return {value: made.labels(value) for value in values} if label else made

        def histogram(name: str, says: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(f"shoal_peer_{name}", says, buckets=buckets, registry=self.registry)

        build = {"version": version, "protocol": str(PROTOCOL), "python": platform.python_version()}
        Info("shoal_peer_build", "What runs here.", registry=self.registry).info(build)
        self._batch_seats = histogram("batch_seats", "Seats in a Batch.", SEATS)
        self._batch_tokens = histogram("batch_tokens", "Tokens in a Batch, prefill and decode.", TOKENS)
        self._queue = histogram("step_queue_seconds", "How long a Chunk waited for its Batch.", SECONDS)
        self._compute = histogram("step_compute_seconds", "How long a Batch was computed.", SECONDS)
        phases = ("prefill", "decode")
        self._tokens = counter("tokens_computed", "Positions computed through this Peer's Span.", "phase", phases)
        sides = [side.value for side in Side]
        self._sent = counter("sent_bytes", "Bytes of Frames written to Links.", "side", sides)
        self._received = counter("received_bytes", "Bytes of Frames read from Links.", "side", sides)
        codes = [code.name.lower() for code in FaultCode]
        self._refusals = counter("refusals", "Faults that this Peer answered with.", "code", codes)
        self._failovers = counter("failovers", "Repairs of Sessions that this Peer took part in.")
        found = ("hit", "miss")
        self._prefix = counter("prefix_tokens", "Prompt tokens found in kept Pages or computed.", "outcome", found)
        self._proposed = counter("drafts_proposed", "Drafted tokens that were checked here.")
        self._accepted = counter("drafts_accepted", "Drafted tokens that were the ones drawn.")

    def watch(self, read: Callable[[], Books]) -> None:
        """From now on ``read`` is asked whenever somebody scrapes. Before, a Peer that is loading has no gauges."""
        self._read = read

    def observe_batch(
        self, seats: int, prefill_tokens: int, decode_tokens: int, queue_s: Iterable[float], compute_s: float
    ) -> None:
        """A Batch was computed. ``queue_s``: how long each of its Chunks had waited."""
        self._batch_seats.observe(seats)
        self._batch_tokens.observe(prefill_tokens + decode_tokens)
        self._tokens["prefill"].inc(prefill_tokens)
        self._tokens["decode"].inc(decode_tokens)
        self.prefill_tokens += prefill_tokens
        self.decode_tokens += decode_tokens
        for waited_s in queue_s:
            self._queue.observe(waited_s)
        self._compute.observe(compute_s)

    def sent(self, side: Side, num_bytes: int) -> None:
        """A Frame was written."""
        self._sent[side.value].inc(num_bytes)

    def received(self, side: Side, num_bytes: int) -> None:
        """A Frame was read."""
        self._received[side.value].inc(num_bytes)

    def refused(self, code: FaultCode) -> None:
        """A Session, or a whole Link, was answered with a Fault."""
        self._refusals[code.name.lower()].inc()

    def served_failover(self) -> None:
        """A Seat, new or not, was given its Path with an epoch above 0: once for each Seat and repair."""
        self._failovers.inc()

    def prefix(self, hit_tokens: int, miss_tokens: int) -> None:
        """A Seat was opened: of its prompt so much was found in kept Pages, and so much is to be computed."""
        self._prefix["hit"].inc(hit_tokens)
        self._prefix["miss"].inc(miss_tokens)

    def drafted(self, proposed: int, accepted: int) -> None:
        """The last Hop compared guesses with what it drew."""
        self._proposed.inc(proposed)
        self._accepted.inc(accepted)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The body and its content type, for a request with this Accept header: OpenMetrics where it is named.

        The library's own ``choose_encoder`` is not used: it raises TypeError on ``version=abc`` and repeats any other
        version as the answer's own, so a stranger could cause tracebacks and false labels.
        """
        from prometheus_client import exposition
        from prometheus_client.openmetrics import exposition as openmetrics

        if any(kind.split(";")[0].strip().lower() == OPENMETRICS for kind in accept.split(",")):
            return openmetrics.generate_latest(self.registry), openmetrics.CONTENT_TYPE_LATEST
        return exposition.generate_latest(self.registry), exposition.CONTENT_TYPE_PLAIN_0_0_4

    def gauges(self) -> Iterator[Metric]:
        """The Books of this moment as the library wants them; nothing where there are none yet."""
        from prometheus_client.core import GaugeMetricFamily

        if self._read is None:
            return

        def gauge(name: str, says: str, label: str, values: dict[str, int]) -> Metric:
            family = GaugeMetricFamily(f"shoal_peer_{name}", says, labels=(label,) if label else ())
            for value, number in values.items():
                family.add_metric((value,) if label else (), number)
            return family

        books = self._read()
        pages = {"used": books.pages_used, "cached": books.pages_cached, "free": books.pages_free}
        journal = {"memory": books.journal_memory_bytes, "disk": books.journal_disk_bytes}
        links = {Side.CLIENT.value: books.client_links, Side.PEER.value: books.peer_links}
        yield gauge("sessions", "Seats that are taken.", "", {"": books.sessions})
        yield gauge("links", "Links that are up.", "side", links)
        yield gauge("queue_tokens", "Tokens waiting for the compute thread or on it.", "", {"": books.queue_tokens})
        yield gauge("pages", "Pages of the KV cache; the states add up to all there are.", "state", pages)
        yield gauge("pages_owed", "Pages promised to Seats and not taken yet.", "", {"": books.pages_owed})
        yield gauge("journal_bytes", "Outputs kept so that the next Hop can be rebuilt.", "place", journal)


class _Gauges:
    """A collector whose families are made at scrape time, all from one reading of the Books."""

    def __init__(self, metrics: Metrics):
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the Books."""
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._metrics.gauges()

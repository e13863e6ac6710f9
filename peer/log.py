"""Logging of the serving process: one JSON object a line on stderr, whoever writes it, ours or a library."""

from __future__ import annotations

import logging
import sys

import structlog

LEVELS = ("debug", "info", "warning", "error")
log = logging.getLogger("peer.log")

_QUIET = ("grpc", "asyncio", "aiohttp", "urllib3", "httpx", "httpcore", "filelock", "huggingface_hub", "transformers")


def configure(level: str) -> None:
    """Send everything from ``level`` up to stderr. Libraries speak from warnings up."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.EventRenamer("event"),
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    calls = logging.getLogger("grpc._cython.cygrpc")
    if not any(isinstance(known, VanishedClients) for known in calls.filters):
        calls.addFilter(VanishedClients())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class VanishedClients(logging.Filter):
    """Takes away gRPC's error, with its traceback, for a client that went while something was being sent to it.

    That happens every day and has its own way: the Link is left and its Seats are freed. The class is not in gRPC's
    public interface, so it is known by its name; "batch" is what gRPC calls the sending.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        if kind is None or kind.__name__ != "ExecuteBatchError":
            return True
        log.debug("a client vanished: %s", record.getMessage())
        return False

"""``python -m peer.serve``: the command line of a Peer. Knows arguments, signals, exit statuses and nothing else.

SIGTERM or SIGINT: leave politely; before the ready line, and on a second signal, at once; on a third, stop dead.
Signals that come together (from ``timeout``, or Ctrl-C through ``make``) are one.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence

import structlog

from peer import log as logging_setup
from peer.config import PeerConfig
from peer.options import parse
from swarm.errors import ShoalError, UsageError

TOGETHER_S = 0.5
INTERRUPTED = 130  # what shells expect of a process that was stopped by hand

log = structlog.get_logger("peer.serve")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to leave. Returns the exit status; an error raised on purpose is one line on stderr."""
    try:
        config = parse(argv)
        _tune_libraries()
        logging_setup.configure(config.log_level)
        return asyncio.run(_until_signalled(config))
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        for cause in _causes(error):
            if isinstance(cause, ShoalError):
                print(f"shoal: {' '.join(str(cause).split())}", file=sys.stderr)
                return cause.exit_status
        log.exception("peer failed")
        return 1


async def _until_signalled(config: PeerConfig) -> int:
    from peer.serving import Serving  # slow: only once it is clear that there is something to serve
    from swarm.clock import SystemClock

    clock = SystemClock()
    serving = Serving(config, clock)
    running = asyncio.create_task(serving.run(), name="serving")
    signals, heard_at = 0, -math.inf

    def arrived() -> None:
        nonlocal signals, heard_at
        if clock.monotonic() < heard_at + TOGETHER_S:
            return
        signals, heard_at = signals + 1, clock.monotonic()
        if signals > 2:
            os._exit(INTERRUPTED)
        if signals == 1 and serving.ready:
            serving.leave()
        else:
            log.warning("leaving at once", signals=signals)
            running.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, arrived)
    if config.with_stdin:
        await _watch_stdin(running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        return 0 if signals == 1 else INTERRUPTED
    log.info("left")
    return 0


async def _watch_stdin(closed: Callable[[], object]) -> None:
    """``closed`` is called when nobody holds the other end of standard input any more, as when who started us died."""

    class Watch(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            log.warning("leaving at once: standard input was closed")
            closed()

    try:
        await asyncio.get_running_loop().connect_read_pipe(Watch, sys.stdin)
    except (ValueError, OSError) as error:
        raise UsageError(f"--with-stdin needs a pipe, a socket or a terminal as standard input: {error}") from None


def _tune_libraries() -> None:
    """What OpenMP reads from the environment when it is loaded, so this comes before.

    Other peers may run here: a thread that waits at a barrier must not burn the core that another one needs.
    """
    settings = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What is inside a group of exceptions, or the one that there is."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    else:
        yield error


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # all is closed; taking torch apart piece by piece would be another second or two

"""``python -m peer.serve``: the command line of a Peer. Knows arguments, signals, exit statuses and nothing else.

SIGTERM or SIGINT: leave politely; before the ready line, and on a second signal, at once; on a third, stop dead.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Sequence

import structlog

from peer import log as logging_setup
from peer.config import PeerConfig
from peer.options import parse
from swarm.errors import ShoalError

INTERRUPTED = 130  # what shells expect of a process that was stopped by hand

log = structlog.get_logger("peer.serve")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to leave. Returns the exit status; an error raised on purpose is one line on stderr."""
    try:
        config = parse(argv)
        _share_the_machine()
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

    serving = Serving(config, SystemClock())
    running = asyncio.create_task(serving.run(), name="serving")
    signals = 0

    def arrived() -> None:
        nonlocal signals
        signals += 1
        if signals > 2:
            os._exit(INTERRUPTED)
        if signals == 1 and serving.ready:
            serving.leave()
        else:
            log.warning("leaving at once", signals=signals)
            running.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, arrived)
    try:
        await running
    except asyncio.CancelledError:
        return 0 if signals == 1 else INTERRUPTED
    return 0


def _share_the_machine() -> None:
    """Other peers may run here, and a thread that waits at a barrier must not burn the core that another one needs.

    OpenMP reads these when torch is loaded, so this comes before.
    """
    for name, value in (("OMP_WAIT_POLICY", "PASSIVE"), ("GOMP_SPINCOUNT", "0"), ("KMP_BLOCKTIME", "0")):
        os.environ.setdefault(name, value)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What is inside a group of exceptions, or the one that there is."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    else:
        yield error


if __name__ == "__main__":
    sys.exit(main())

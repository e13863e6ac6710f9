"""Daemon: the p2p daemon (libp2p, a child process) that carries the DHT's messages. Knows nothing of the DHT itself.

It is started here and not by hivemind, for three reasons: it gets a session of its own, so that Ctrl-C reaches only us
and we can still say goodbye through it; its last words become one of our errors; a port that somebody holds is noticed
(libp2p would share it silently). Relays, NAT traversal and port mapping are off: a Peer has to be reachable by its
address anyway, for gRPC.

Nor is it asyncio's child: asyncio waits for its children in threads, and whoever signals one may reap it before its
thread does, which then complains on stderr. Here one Popen is the only one that ever waits for the daemon.

The daemon ends by itself as soon as our connection to its control socket breaks, so a SIGKILLed Peer leaves none
behind; one that never got that connection ends after ``IDLE_S``.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import re
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from swarm.address import Address
from swarm.errors import AddressInUse, SwarmError, UsageError

log = logging.getLogger("shoal.dht")

IDLE_S = 30
STOP_S = 3.0  # for the daemon to end after SIGTERM, before SIGKILL
LOOK_EVERY_S = 0.01  # whether it has ended


class Daemon:
    """One running p2p daemon. ``control`` is the multiaddr of its control socket."""

    def __init__(self, child: subprocess.Popen[bytes], socket_path: Path):
        self._child, self._socket_path = child, socket_path
        self._output = asyncio.StreamReader()
        self._pipe: asyncio.ReadTransport | None = None
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        binary: Path,
        *,
        listen: Address | None,
        announce: Address | None = None,
        identity: Path | None = None,
        timeout_s: float,
    ) -> Daemon:
        """Starts it, listening on ``listen`` (port 0: any), or only dialling out when that is None.

        Raises AddressInUse, UsageError for an address that is not this machine's, SwarmError for anything else.
        """
        socket_path = Path(tempfile.gettempdir()) / f"shoal-p2pd-{secrets.token_hex(8)}.sock"
        arguments = [f"-listen=/unix{socket_path}", f"-idleTimeout={IDLE_S}s", "-connManager=1", "-tls=1"]
        arguments += ["-relay=0", "-autoRelay=0", "-relayService=0", "-relayDiscovery=0", "-autonat=0", "-natPortMap=0"]
        if listen is None:
            arguments += ["-dhtClient", "-noListenAddrs"]
        else:
            arguments += ["-dhtServer", f"-hostAddrs={maddr(await local_address(listen))}"]
        if announce is not None:
            arguments.append(f"-announceAddrs={maddr(announce)}")
        if identity is not None:
            arguments.append(f"-id={identity}")
        try:
            child = subprocess.Popen(  # noqa: ASYNC220 - a millisecond, and asyncio would do the same
                [str(binary), *arguments],
                bufsize=0,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "GOLOG_LOG_LEVEL": "error", "GOLOG_LOG_FMT": "json"},
            )
        except OSError as error:
            raise SwarmError(f"cannot start the p2p daemon {binary}: {error.strerror}; reinstall hivemind") from error
        daemon = cls(child, socket_path)
        try:
            async with asyncio.timeout(timeout_s):
                await daemon._ready()
        except TimeoutError as error:
            await daemon.close()
            raise SwarmError(f"the p2p daemon did not start within {timeout_s:g} s") from error
        except BaseException:
            await daemon.close()
            raise
        daemon._reader = asyncio.create_task(daemon._drain(), name="p2pd output")
        return daemon

    @property
    def control(self) -> str:
        return f"/unix{self._socket_path}"

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    async def close(self) -> None:
        """Ends the daemon and waits for it."""
        self._child.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await self._ended()
        except TimeoutError:
            self._child.kill()
            await self._ended()
        if self._pipe is not None:
            self._pipe.close()
            await (self._reader or self._drain())  # ends with the pipe
        elif self._child.stdout is not None:
            self._child.stdout.close()
        self._socket_path.unlink(missing_ok=True)

    async def _ended(self) -> None:
        while self._child.poll() is None:  # noqa: ASYNC110 - what could tell us would be a second one to wait for it
            await asyncio.sleep(LOOK_EVERY_S)

    async def _ready(self) -> None:
        loop = asyncio.get_running_loop()
        self._pipe, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._output), self._child.stdout
        )
        last = "it said nothing"
        while line := await self._line():
            log.debug("p2pd: %s", line)
            if line.startswith("Peer ID:"):
                return
            last = line
        await self._ended()
        raise _as_error(last, self._child.returncode)

    async def _drain(self) -> None:
        while line := await self._line():
            log.debug("p2pd: %s", line)

    async def _line(self) -> str:
        """The next line of output; empty only at its end."""
        try:
            raw = await self._output.readline()
        except ValueError:  # a line longer than asyncio's buffer, which it has dropped
            return "…"
        return raw.decode(errors="replace").rstrip() or ("…" if raw else "")


def _as_error(last_words: str, status: int) -> SwarmError | UsageError:
    """``status``: that of the child, negative for a signal."""
    found = re.search(r"listen \w+ (\S+): bind: address already in use", last_words)
    if found:
        return AddressInUse(f"{found[1]} is in use by another process; choose another port for the DHT")
    how = f" (killed by signal {-status}; is something forbidden to it here?)" if status < 0 else ""
    return SwarmError(f"the p2p daemon did not start: {last_words}{how}")


def maddr(address: Address) -> str:
    """The multiaddr of a host (an address or a name) and a TCP port."""
    try:
        kind = f"ip{ipaddress.ip_address(address.host).version}"
    except ValueError:
        kind = "dns4"
    return f"/{kind}/{address.host}/tcp/{address.port}"


async def local_address(address: Address) -> Address:
    """``address`` with its host resolved, after a look whether its port is free. Raises AddressInUse or UsageError."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise UsageError(f"cannot listen on {address}: {address.host} is not an address of this machine") from error
    family, kind, protocol, _, where = min(found, key=lambda f: f[0] != socket.AF_INET)
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressInUse(f"{address} is in use by another process; choose another port") from error
            raise UsageError(f"cannot listen on {address}: {error.strerror}") from error
    return Address(str(where[0]), address.port)


def first_port(maddrs: Sequence[str]) -> int | None:
    """The TCP port in the first of ``maddrs`` that has one."""
    ports = (re.search(r"/tcp/(\d+)", text) for text in maddrs)
    return next((int(found[1]) for found in ports if found), None)

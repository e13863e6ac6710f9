"""Guests of a gateway, for its soak: each makes one visit over a socket of its own, and most of them behave badly.

They write HTTP by hand, for no well-made client sends half a request, resets a connection or stops reading. What they
are told is compared with what was told in a calm hour; what they do to themselves is nobody's failure.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.kit.gateways import wish

PATIENCE_S = 60.0  # with an answer that is read
SMALL_BYTES = 4096  # of a socket whose owner does not read
BAD_BODIES = (
    b"{",
    b"[" * 20_000,
    b"\xff\xfe\x00",
    b'{"prompt": 5}',
    b'{"prompt": "x", "model": "nobody-serves-this"}',
    b'{"prompt": "x", "max_tokens": 100000000}',
    b'{"prompt": "x", "temperature": NaN}',
    b'{"prompt": "\\ud800"}',
    b'{"prompt": ["' + b'","'.join([b"x"] * 40) + b'"]}',
)
NO_HTTP = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"GET\r\n\r\n",
    b"\x00" * 300,
    b"POST / HTTP/9\r\n",
)


@dataclass(frozen=True)
class Text:
    """A prompt and what follows it."""

    prompt: list[int]
    tokens: int
    answer: str = ""


@dataclass
class Tally:
    """What came of the visits."""

    counts: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)

    def complain(self, what: str, text: str) -> None:
        self.counts[what] += 1
        self.complaints.append(f"{what}: {text}"[:400])


class Guests:
    """``address`` of the gateway; ``texts`` with their answers."""

    def __init__(self, address: tuple[str, int], texts: list[Text], tally: Tally):
        self._address, self._texts, self._tally = address, texts, tally
        self._ways: dict[str, tuple[int, Callable[[random.Random], Awaitable[None]]]] = {
            "reads to the end": (6, self.reads),
            "waits for the whole": (2, self.waits),
            "resets in mid-stream": (6, self.resets),
            "leaves in mid-stream": (3, self.leaves),
            "leaves before an answer": (3, self.leaves_early),
            "does not read": (1, self.does_not_read),
            "sends half a request": (2, self.sends_half),
            "asks wrongly": (4, self.asks_wrongly),
            "speaks no HTTP": (1, self.speaks_no_http),
        }

    async def visit(self, drawn: random.Random) -> None:
        name = drawn.choices(list(self._ways), [weight for weight, _ in self._ways.values()])[0]
        self._tally.counts[name] += 1
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._ways[name][1](drawn)
        except TimeoutError:
            self._tally.complain("stuck", f"one that {name} was there for {PATIENCE_S:.0f} s")
        except OSError as error:
            self._tally.complain("failed", f"one that {name}: {error!r}")

    async def reads(self, drawn: random.Random) -> None:
        text = drawn.choice(self._texts)
        status, body = await self.whole(text, stream=True)
        if status == 503:
            self._tally.counts["sent away"] += 1
        elif status != 200 or not body.endswith(b"data: [DONE]\n\n") or told(body) != text.answer:
            self._tally.complain(
                "wrong", f"{status}, {told(body)!r} instead of {text.answer!r}; it ends {body[-120:]!r}"
            )
        else:
            self._tally.counts["finished"] += 1

    async def waits(self, drawn: random.Random) -> None:
        text = drawn.choice(self._texts)
        status, body = await self.whole(text, stream=False)
        if status == 503:
            self._tally.counts["sent away"] += 1
        elif status != 200 or json.loads(body)["choices"][0]["text"] != text.answer:
            self._tally.complain("wrong", f"{status}, {body[-200:]!r} instead of {text.answer!r}")
        else:
            self._tally.counts["finished"] += 1

    async def resets(self, drawn: random.Random) -> None:
        """The connection breaks as if somebody had pulled the plug of a router that still tells."""
        await self._some(drawn, reset=True)

    async def leaves(self, drawn: random.Random) -> None:
        await self._some(drawn, reset=False)

    async def leaves_early(self, drawn: random.Random) -> None:
        _, writer = await self.ask(drawn.choice(self._texts), stream=drawn.random() < 0.5, n=drawn.choice((1, 3)))
        await asyncio.sleep(drawn.choice((0.0, 0.001, 0.02, 0.1)))
        close(writer, reset=drawn.random() < 0.5)

    async def does_not_read(self, drawn: random.Random) -> None:
        """Until the gateway has had enough, or its answer fits into what the kernels keep."""
        text = drawn.choice(self._texts)
        reader, writer = await self.ask(text, stream=True, small=True, n=3, logprobs=5, max_tokens=text.tokens)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(drawn.uniform(2.0, 8.0))
        close(writer, reset=True)
        del reader

    async def sends_half(self, drawn: random.Random) -> None:
        _, writer = await self._open()
        data = request(wish(drawn.choice(self._texts).prompt, 5))
        writer.write(data[: drawn.randrange(1, len(data))])
        await writer.drain()
        await asyncio.sleep(drawn.choice((0.0, 0.05, 1.0)))
        close(writer, reset=drawn.random() < 0.5)

    async def asks_wrongly(self, drawn: random.Random) -> None:
        reader, writer = await self._open()
        writer.write(request(drawn.choice(BAD_BODIES)))
        status, body = await answer(reader)
        close(writer, reset=False)
        if status not in (400, 404, 429, 503) or "error" not in json.loads(body):
            self._tally.complain("wrong", f"a bad request was answered with {status}, {body[-200:]!r}")

    async def speaks_no_http(self, drawn: random.Random) -> None:
        reader, writer = await self._open()
        writer.write(drawn.choice(NO_HTTP))
        try:
            async with asyncio.timeout(2.0):
                await reader.read()
        except (TimeoutError, OSError):  # it may wait for more, or break the connection
            pass
        close(writer, reset=True)

    async def _some(self, drawn: random.Random, *, reset: bool) -> None:
        reader, writer = await self.ask(drawn.choice(self._texts), stream=True, n=drawn.choice((1, 1, 3)))
        left = drawn.choice((1, 300, 1500, 6000))
        while left > 0 and (data := await reader.read(left)):
            left -= len(data)
        close(writer, reset=reset)

    async def whole(self, text: Text, *, stream: bool) -> tuple[int, bytes]:
        reader, writer = await self.ask(text, stream=stream)
        try:
            return await answer(reader)
        finally:
            close(writer, reset=False)

    async def ask(
        self, text: Text, *, stream: bool, small: bool = False, **more: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self._open(small=small)
        writer.write(request(wish(text.prompt, text.tokens, **{"stream": stream, **more})))
        await writer.drain()
        return reader, writer

    async def _open(self, *, small: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not small:
            return await asyncio.open_connection(*self._address)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BYTES)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self._address)
        return await asyncio.open_connection(sock=sock, limit=SMALL_BYTES)


def request(body: dict[str, Any] | bytes, path: str = "/v1/completions") -> bytes:
    """As it goes over the wire; the connection is for this one only."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n"
    return head.encode() + b"connection: close\r\n\r\n" + data


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body. Raises OSError where the connection broke before the end."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split(b" ", 2)[1])
        if b"transfer-encoding: chunked" not in head:
            return status, await reader.read()
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
    except (asyncio.IncompleteReadError, ValueError) as error:
        raise ConnectionError(f"an answer broke off: {error!r}") from None
    return status, body


def told(stream: bytes) -> str:
    """The text of a stream of one answer, as far as it came; the framing of chunks may be in between."""
    events = [json.loads(line[6:]) for line in stream.split(b"\n") if line.startswith(b"data: {")]
    return "".join(choice["text"] for event in events for choice in event.get("choices", ()))


def close(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """Gone at once; ``reset``: with RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    if reset and sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()

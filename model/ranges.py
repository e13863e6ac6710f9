"""One HTTP Range request over ``huggingface_hub``'s session, with its proxies, certificates and token.

It yields the bytes that were asked for or nothing: a server that ignores Range, shifts it or encodes it is refused
before the body is read. Trouble that may pass is not raised but noted; who asked decides whether to ask again.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from model.config import one_line
from swarm.errors import CorruptCheckpoint, ModelError

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
MAX_RETRY_AFTER_S = 60.0
RETRIED_STATUS = (408, 429, 500, 502, 503, 504)


class RangeRequest:
    """One GET of the bytes ``start`` up to ``end``. Iterating sends it and yields what arrives.

    When fewer bytes came than were asked for, ``problem`` says why, and ``pause_s`` how long the server wants us to
    wait. When a redirect led to them, ``storage`` has the address behind it and the headers for that: without the token
    where it is another host's. Raises ModelError, CorruptCheckpoint, or huggingface_hub's error for a refusal.
    """

    def __init__(self, url: str, headers: dict[str, str], start: int, end: int):
        self.url, self.headers, self.start, self.end = url, headers, start, end
        self.problem = "the connection closed early"
        self.pause_s = 0.0
        self.storage: tuple[str, dict[str, str]] | None = None

    def __iter__(self) -> Iterator[bytes]:
        from huggingface_hub.utils import get_session, hf_raise_for_status

        httpx = httpx_of_hub()
        headers = {**self.headers, "Range": f"bytes={self.start}-{self.end - 1}"}
        timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        try:
            with get_session().stream("GET", self.url, headers=headers, timeout=timeout) as response:
                if response.status_code in RETRIED_STATUS:
                    self.problem = f"HTTP status {response.status_code}"
                    self.pause_s = retry_after_s(response.headers.get("Retry-After", ""))
                    return
                if response.status_code == 416:
                    raise CorruptCheckpoint(f"{self.url} ends before byte {self.end}; the Hub said it was longer")
                hf_raise_for_status(response)
                self._check(response)
                if response.history:
                    kept = response.request.headers  # httpx drops the token on the way to another host
                    self.storage = str(response.url), {key: self.headers[key] for key in self.headers if key in kept}
                left = self.end - self.start
                for piece in response.iter_raw():
                    yield piece[:left]
                    left -= min(left, len(piece))
        except (httpx.TransportError, RuntimeError) as error:  # RuntimeError: the shared session was closed meanwhile
            self.problem = one_line(error) or type(error).__name__

    def _check(self, response: Any) -> None:
        """Before the body is read: it must be the range that was asked for, not the whole file."""
        if response.status_code != 206:
            said = f"status {response.status_code}"
            raise ModelError(f"{self.url} ignores Range requests ({said}); download the model and name its directory")
        said = response.headers.get("Content-Range", "")
        if not said.replace(" ", "").startswith(f"bytes{self.start}-{self.end - 1}/"):
            raise ModelError(
                f"{self.url} answered range {said!r}, expected bytes {self.start}-{self.end - 1}; try another mirror"
            )
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise ModelError(f"{self.url} answered a range in another encoding; try another mirror")


def httpx_of_hub() -> Any:
    """The HTTP library that huggingface_hub uses: httpx before its version 2, httpx2 since."""
    from huggingface_hub.utils import get_session

    return importlib.import_module(type(get_session()).__module__.partition(".")[0])


def retry_after_s(header: str) -> float:
    return min(MAX_RETRY_AFTER_S, float(header)) if header.strip().isdecimal() else 0.0

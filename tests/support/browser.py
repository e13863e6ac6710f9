"""Chromium for tests and screenshots: Debian's, driven by Playwright. Never downloads one.

A ``Watch`` keeps what must never happen while a page is open: errors, CSP violations, requests to somebody else.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
# The first for root, as in a container; the others keep it from talking to anybody on its own.
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
AXE = Path(__file__).resolve().parent / "axe" / "axe.min.js"  # axe-core 4.14.1 (MPL-2.0) of the npm registry
SERIOUS = ("serious", "critical")


def chromium_path() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


needs_chromium = pytest.mark.skipif(
    chromium_path() is None, reason="there is no Chromium here; Debian and Ubuntu: apt-get install chromium"
)


@contextmanager
def chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


class Watch:
    """What a context's pages did wrong. ``expected`` are pieces of console lines that a test brings about itself."""

    def __init__(self, context: BrowserContext, origin: str):
        self.origin = origin
        self.expected: list[str] = []
        self._seen: list[str] = []
        context.on("console", lambda message: self._console(message.type, message.text))
        context.on("weberror", lambda error: self._seen.append(f"error: {error.error}"))
        context.on("request", lambda request: self._request(request.url))
        # CSP violations are events of the document too, also those the console does not show.
        context.add_init_script(
            "addEventListener('securitypolicyviolation', (e) => console.error('CSP', e.violatedDirective))"
        )

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self._seen.append(f"console {kind}: {text}")

    def _request(self, url: str) -> None:
        if not url.startswith((f"{self.origin}/", "data:")):
            self._seen.append(f"request to {url}")

    def forget(self) -> None:
        self._seen.clear()
        self.expected.clear()

    @property
    def complaints(self) -> list[str]:
        return [line for line in self._seen if not any(piece in line for piece in self.expected)]


@contextmanager
def watched_page(browser: Browser, origin: str, **of_context: Any) -> Iterator[tuple[Page, Watch]]:
    """A page of a fresh context; in the end nothing may have gone wrong in it."""
    options = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", "locale": "en-GB"}
    context = browser.new_context(base_url=origin, **{**options, **of_context})
    try:
        context.set_default_timeout(15_000)
        watch = Watch(context, origin)
        yield context.new_page(), watch
        assert not watch.complaints, "\n".join(watch.complaints)
    finally:
        context.close()


def serious_faults(page: Page) -> list[str]:
    """What axe finds wrong for people who cannot see, hear or point; one line each."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{fault['id']}: {fault['help']}: {[node['target'] for node in fault['nodes']][:5]}"
        for fault in found["violations"]
        if fault["impact"] in SERIOUS
    ]

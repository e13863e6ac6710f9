"""``python -m tests.support.screenshots``: the pictures of the dashboard in docs/images, of a swarm of real peers.

Six peers and a dashboard run on this machine, clients ask them for text meanwhile, Chromium looks. Two peers are
killed for the last picture. Nothing on the pictures is made up; ``--warm-up-s 3600`` fills the plot of the hour.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client import Client
from peer.local import ROOT, LocalPeer, LocalSwarm
from swarm.errors import ShoalError
from tests.support.browser import chromium, chromium_path
from tests.support.dashboards import dashboard

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = ROOT / "docs" / "images"
PEERS = {
    "harbour": "0:12", "lighthouse": "0:8", "kitchen": "8:16", "attic": "12:24", "workshop": "6:14", "library": "16:24",
}  # fmt: skip
NAMES = ("light", "dark", "phone", "broken")
LOST = ("attic", "kitchen")
PROMPTS = (
    "import os\n\ndef walk(path):\n    for name in os",
    'def parse(text):\n    """Parse',
    "class Stack:\n    def __init__(self",
)
DESK, PHONE = {"width": 1440, "height": 1000}, {"width": 390, "height": 844}
MOST_BYTES = 400_000


@contextmanager
def asked(join: list[str]) -> Iterator[None]:
    """Clients that want text all the time, with a breath between two answers."""
    over = threading.Event()

    def ask(prompt: str, breath_s: float) -> None:
        with Client(swarm=join) as swarm:
            while not over.is_set():
                try:
                    swarm.generate(prompt, max_new_tokens=96)
                except ShoalError:
                    over.wait(1)  # peers are being killed
                over.wait(breath_s)

    threads = [threading.Thread(target=ask, args=(p, 0.3 * n), daemon=True) for n, p in enumerate(PROMPTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(20)


@contextmanager
def looked_at(browser: Browser, url: str, theme: Any, viewport: Any, scale: float = 1.0) -> Iterator[Page]:
    context = browser.new_context(
        viewport=viewport, color_scheme=theme, device_scale_factor=scale, locale="en-GB", reduced_motion="reduce"
    )
    try:
        page = context.new_page()
        page.goto(url)
        page.get_by_text("live", exact=True).wait_for()
        yield page
    finally:
        context.close()


def take(page: Page, name: str, whole: bool) -> None:
    path = IMAGES / f"dashboard-{name}.png"
    page.mouse.move(0, 0)
    page.screenshot(path=path, full_page=whole)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size // 1000} kB", flush=True)
    if size > MOST_BYTES:
        raise SystemExit(f"{path.name} has {size} bytes; it may have {MOST_BYTES}")


def answered(page: Page) -> None:
    page.get_by_label("Prompt").fill(PROMPTS[0])
    page.get_by_role("button", name="Send").click()
    page.locator(".waterfall").wait_for()


def pictures(swarm: LocalSwarm, browser: Browser, url: str, wanted: Sequence[str]) -> None:
    for theme in ("light", "dark"):
        if theme in wanted:
            with looked_at(browser, url, theme, DESK) as page:
                answered(page)
                page.locator(".link.busy").first.wait_for(timeout=20_000, state="attached")
                take(page, theme, whole=True)
    if "phone" in wanted:
        with looked_at(browser, url, "light", PHONE, 2.0) as page:
            take(page, "phone", whole=False)
    if "broken" not in wanted:
        return
    for peer, name in zip(swarm.peers, PEERS, strict=True):
        if name in LOST:
            peer.kill()
    with looked_at(browser, url, "dark", DESK) as page:
        page.locator(".status.broken").wait_for(timeout=30_000)
        take(page, "broken", whole=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--warm-up-s", type=float, default=25.0, help="work before the first picture (default: 25)")
    parser.add_argument("--history", default="none", metavar="FILE", help="where the dashboard keeps the past")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    options = parser.parse_args()
    if chromium_path() is None:
        print("there is no Chromium here; Debian and Ubuntu: apt-get install chromium", file=sys.stderr)
        return 1
    Path(IMAGES).mkdir(exist_ok=True)
    with LocalSwarm("--threads", "1", "--kv-tokens", "4096") as swarm:
        for name, span in PEERS.items():
            join = ("--join", *swarm.peers[0].join) if swarm.peers else ()
            swarm.peers.append(LocalPeer("--blocks", span, "--name", name, *join, *swarm.common))
            if not join:
                swarm.peers[0].wait_ready()
        for peer in swarm.peers[1:]:
            peer.wait_ready()
        at = time.monotonic()
        with dashboard(swarm.join[:1], history=options.history) as process, asked(swarm.join), chromium() as browser:
            time.sleep(max(0.0, options.warm_up_s - (time.monotonic() - at)))
            pictures(swarm, browser, process.url, options.only)
    return 0


if __name__ == "__main__":
    sys.exit(main())

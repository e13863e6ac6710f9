"""The page in a real browser, before a real dashboard and a swarm of real peers. In the end some are lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from peer.local import LocalPeer, LocalSwarm
from tests.support.browser import Watch, chromium, needs_chromium, serious_faults, watched_page
from tests.support.dashboards import DashboardProcess, dashboard

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.swarm, pytest.mark.browser, needs_chromium, pytest.mark.timeout(180)]

HOSTILE = "<img src=x onerror=alert(1)>"
FOLLOWED_MS = 30_000  # a lost peer is unreachable within seconds; a busy machine gets more


class Scene:
    """A swarm of three peers, its dashboard and a browser."""

    def __init__(self, swarm: LocalSwarm, dashboard: DashboardProcess, browser: Browser):
        self.swarm, self.dashboard, self.browser = swarm, dashboard, browser
        self.url = dashboard.url


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with LocalSwarm("--threads", "1", "--kv-tokens", "4096") as swarm:
        swarm.start(["0:12"], "--name", "kitchen")
        for span, name in (("12:24", HOSTILE), ("0:24", "barn")):
            more = ("--join", *swarm.peers[0].join, *swarm.common)
            swarm.peers.append(LocalPeer("--blocks", span, "--name", name, *more))
        with dashboard(swarm.peers[0].join, "--try-per-minute", "60") as process, chromium() as browser:
            for peer in swarm.peers[1:]:
                peer.wait_ready()
            yield Scene(swarm, process, browser)


@pytest.fixture
def watched(scene: Scene) -> Iterator[tuple[Page, Watch]]:
    """The page when it shows the swarm. In the end: no error, no CSP violation, no request to anybody else."""
    with watched_page(scene.browser, scene.url) as (page, watch):
        page.goto("/")
        page.get_by_text("live", exact=True).wait_for()
        yield page, watch


@pytest.fixture
def page(watched: tuple[Page, Watch]) -> Page:
    return watched[0]


def send(page: Page) -> None:
    page.get_by_label("Prompt").fill("def parse(text):")
    page.get_by_role("button", name="Send").click()


def names(page: Page) -> list[str]:
    return page.locator(".peers tbody th").all_inner_texts()


def test_the_page_shows_the_swarm(page: Page):
    page.get_by_text("every Block has at least two replicas").wait_for()
    assert sorted(names(page)) == sorted(["kitchen", "barn", HOSTILE])
    assert page.locator(".coverage .cell").count() == 24
    assert page.locator(".coverage .span").count() == 3
    assert page.locator(".topology .node").count() == 3
    assert page.locator(".join code").first.inner_text().startswith("shoal serve --blocks ")


def test_a_hostile_name_is_shown_as_text(page: Page):
    page.locator(".peers tbody th", has_text="<img").wait_for()
    assert page.locator("img").count() == 0
    page.get_by_role("link", name=HOSTILE).last.click()
    assert page.locator("h1").inner_text() == HOSTILE


def test_an_answer_streams_with_its_route_and_its_waterfall(page: Page):
    page.evaluate(
        "window.lengths = []; new MutationObserver(() => window.lengths.push("
        "document.querySelector('.said')?.textContent.length ?? 0)).observe(document.body,"
        " {subtree: true, childList: true, characterData: true})"
    )
    page.get_by_label("at most").select_option("32")
    send(page)
    page.locator(".waterfall").wait_for()
    assert len(page.locator(".said").inner_text()) > 20
    assert len({length for length in page.evaluate("window.lengths") if length}) > 3  # it came in pieces
    hops = page.locator(".route li").count()
    assert hops >= 1 and page.locator(".waterfall li").count() == hops
    assert page.locator(".numbers").inner_text().split("\n")[0] == "First token after"
    assert "32 tokens" in page.locator(".numbers").inner_text()


def test_an_answer_can_be_stopped(page: Page):
    page.get_by_label("at most").select_option("128")
    page.evaluate(  # faster than any hand: with the first letters of the answer
        "new MutationObserver(() => document.querySelector('.said')?.textContent && "
        "document.querySelector('.stop')?.click()).observe(document.body, {subtree: true, childList: true, "
        "characterData: true})"
    )
    send(page)
    page.get_by_text("Stopped after").wait_for()
    assert page.locator(".waterfall, .problem").count() == 0
    assert page.get_by_role("button", name="Send").is_enabled()


def test_the_table_is_sorted_by_keyboard_too(page: Page):
    page.locator(".peers tbody th").first.wait_for()
    page.get_by_role("button", name="Peer", exact=True).focus()
    page.keyboard.press("Enter")
    heading = page.locator(".peers thead th").first
    assert heading.get_attribute("aria-sort") == "ascending"
    ascending = names(page)
    assert ascending[-2:] == ["barn", "kitchen"]
    page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "descending"
    assert names(page) == ascending[::-1]
    assert page.evaluate("document.activeElement.textContent") == "Peer"  # the focus has not moved


def test_a_peers_page_has_an_address_and_a_way_back(page: Page, scene: Scene):
    page.locator(".peers").get_by_role("link", name="kitchen").click()
    page.get_by_role("heading", name="kitchen").wait_for()
    assert page.url == f"{scene.url}/peer/{scene.swarm.peers[0].peer_id}"
    assert "0:12 of 24" in page.locator(".details").inner_text()
    page.reload()
    page.get_by_role("heading", name="kitchen").wait_for()
    page.wait_for_function("document.title === 'kitchen · Shoal'")
    page.go_back()
    page.locator(".coverage").wait_for()
    page.go_forward()
    page.get_by_role("link", name="The swarm", exact=True).click()
    page.locator(".coverage").wait_for()


def test_everything_is_reached_with_the_keyboard_and_seen_there(page: Page):
    page.locator(".peers tbody th").first.wait_for()
    walked: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name, outlined = page.evaluate(FOCUS)
        if name == "BODY" or (walked and name == walked[0]):
            break
        assert outlined, f"{name} does not show that it has the focus"
        walked.append(name)
    assert walked[0] == "Skip to the swarm"
    for wanted in ("Copy", "As a table", "Prompt", "kitchen", "Sessions", "/api/v1/swarm"):
        assert wanted in walked
    page.evaluate("document.activeElement.blur()")


FOCUS = """() => {
  const here = document.activeElement;
  const name = here.getAttribute('aria-label') || here.labels?.[0]?.textContent || here.textContent;
  return [here === document.body ? 'BODY' : name.trim(), getComputedStyle(here).outlineStyle !== 'none'];
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Page, theme: Any):
    page.emulate_media(color_scheme=theme)
    page.get_by_label("at most").select_option("32")
    send(page)
    page.locator(".waterfall").wait_for()
    assert serious_faults(page) == []
    page.locator(".peers").get_by_role("link", name="kitchen").click()
    page.locator(".details").wait_for()
    assert serious_faults(page) == []


def test_a_server_that_falls_silent_makes_the_picture_old_until_it_is_back(page: Page, scene: Scene):
    page.clock.install()
    page.reload()
    page.get_by_text("live", exact=True).wait_for()
    scene.dashboard.freeze()
    try:
        page.clock.fast_forward(13_000)
        page.get_by_text("reconnecting, picture is").wait_for()
        assert page.locator("main.stale").count() == 1
    finally:
        scene.dashboard.thaw()
    page.clock.fast_forward(20_000)
    page.get_by_text("live", exact=True).wait_for()
    assert page.locator("main.stale").count() == 0


def test_the_page_follows_a_peer_that_is_killed(page: Page, scene: Scene):
    _, hostile, barn = scene.swarm.peers
    page.get_by_text("every Block has at least two replicas").wait_for()
    barn.kill()
    page.locator(".peers tr", has_text="barn").get_by_text("unreachable").wait_for(timeout=FOLLOWED_MS)
    page.locator(".status.fragile").wait_for(timeout=FOLLOWED_MS)
    assert "Blocks 0:12 and 12:24 have one replica each, on kitchen and <img" in page.get_by_role("status").inner_text()
    hostile.kill()
    page.get_by_text("nobody serves Blocks 12:24").first.wait_for(timeout=FOLLOWED_MS)
    assert page.locator(".coverage .mark.gap").count() == 1
    page.get_by_label("Prompt").fill("anything")
    assert page.get_by_role("button", name="Send").is_disabled()

"""What the page makes of pictures that a real swarm seldom gives: nobody, gaps, many models, hundreds, lies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import Watch, chromium, needs_chromium, serious_faults, watched_page
from tests.support.pictures import NOW, Stage, model, one_model, peer, stage, swarm

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, needs_chromium]

HEALTHY = one_model([peer(1, "0:12"), peer(2, "0:24"), peer(3, "12:24")])
FRAGILE = one_model([peer(1, "0:12", name="kitchen"), peer(2, "0:24", name="barn")])
BROKEN = one_model([peer(1, "0:12"), peer(2, "8:20"), peer(3, "16:24", state="gone", reachable=False)])


@pytest.fixture(scope="module")
def opened() -> Iterator[tuple[Page, Stage, Watch]]:
    """One page for all tests here, which start it anew with a picture each."""
    with stage() as played, chromium() as browser, watched_page(browser, played.url) as (page, watch):
        page.clock.install()  # so that a test can let seconds pass
        yield page, played, watch


class Theatre:
    def __init__(self, page: Page, stage: Stage, watch: Watch):
        self.page, self.stage, self.watch = page, stage, watch

    def show(self, picture: dict[str, Any] | None, path: str = "/", theme: Any = "light", width: int = 1280) -> Page:
        self.stage.picture = picture
        self.page.emulate_media(color_scheme=theme)
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.goto(f"{self.stage.url}{path}")
        self.page.locator("h1 b, .peer h1").first.wait_for()
        if picture is not None:
            self.page.get_by_text("every 5 s").wait_for()
        return self.page


@pytest.fixture
def theatre(opened: tuple[Page, Stage, Watch]) -> Iterator[Theatre]:
    page, played, watch = opened
    watch.forget()
    watch.expected.append("503")  # streams are refused on purpose
    yield Theatre(page, played, watch)
    assert watch.complaints == []
    watch.forget()


@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        (HEALTHY, "Healthy: every Block has at least two replicas."),
        (FRAGILE, "Fragile: Blocks 12:24 have one replica, on barn."),
        (BROKEN, "Broken: nobody serves Blocks 20:24. New answers wait until somebody does."),
        (swarm([], []), "Nobody here: no peer has announced itself in this swarm yet."),
    ],
    ids=["healthy", "fragile", "broken", "empty"],
)
def test_the_first_line_says_how_the_swarm_is(theatre: Theatre, picture: dict[str, Any], sentence: str):
    page = theatre.show(picture)
    page.get_by_role("status").get_by_text(sentence.split(":")[0]).wait_for()
    assert page.get_by_role("status").inner_text() == sentence
    assert page.title() == f"{sentence.split(':')[0]} · Shoal"


def test_what_fails_next_and_what_is_weakest_are_named(theatre: Theatre):
    page = theatre.show(FRAGILE)
    assert page.locator(".fact", has_text="What fails next").inner_text().endswith("Blocks 12:24, if barn leaves")
    assert "Blocks 12:24: 1 replica, 41 tokens/s" in page.locator(".fact", has_text="Weakest").inner_text()
    assert page.locator(".coverage .mark.single").count() == 1
    assert page.locator(".coverage .cell.single").count() == 12
    assert "one replica, barn" in page.locator(".coverage .notes").inner_text()


def test_a_gap_is_in_alarm_by_more_than_colour(theatre: Theatre):
    page = theatre.show(BROKEN)
    assert page.locator(".coverage .mark.gap").inner_text() == "nobody"
    assert page.locator(".coverage .mark.gap svg").is_visible()
    assert "Blocks 20:24: nobody serves them" in page.locator(".coverage .notes").inner_text()
    page.get_by_label("Prompt").fill("anything")
    assert page.get_by_role("button", name="Send").is_disabled()


def test_many_models_have_a_picker_and_the_choice_is_in_the_address(theatre: Theatre):
    peers = [peer(1, "0:24"), peer(2, "0:24"), peer(3, "0:32", "b" * 32)]
    picture = swarm(peers, [model(peers, 24), model(peers, 32, "tiny-llama", "b" * 32)])
    page = theatre.show(picture)
    page.get_by_label("Model").select_option("b" * 32)
    page.get_by_text("Blocks 0:32 have one replica, on peer-3").wait_for()
    assert page.url.endswith(f"?model={'b' * 32}")
    page.reload()
    page.get_by_text("Blocks 0:32 have one replica, on peer-3").wait_for()
    assert page.locator(".peers tbody tr").count() == 1


def test_eighty_blocks_and_two_hundred_peers_fit(theatre: Theatre):
    peers = [peer(n, f"{n * 7 % 72}:{n * 7 % 72 + 8}") for n in range(1, 201)]
    links = [{"from": peers[n]["id"], "to": peers[n + 1]["id"], "rtt_ms": 1.5, "sessions": n % 2} for n in range(199)]
    page = theatre.show(one_model(peers, 80, links))
    page.get_by_role("button", name="Show all 200").click()
    assert page.locator(".peers tbody tr").count() == 200
    assert page.locator(".coverage .span").count() == 200
    assert page.locator(".topology .node").count() == 200
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_names_of_strangers_are_text(theatre: Theatre):
    names = ["<img src=x onerror=document.title='owned'>", "</a><script>document.title='owned'</script>", "${1+1}&amp;"]
    peers = [peer(n, "0:24", name=name) for n, name in enumerate(names)]
    peers[0]["version"] = peers[0]["profile"] = names[0]
    page = theatre.show(swarm(peers, [model(peers, 24, name=names[1])]))
    assert page.locator(".peers tbody th").all_inner_texts() == names
    page.locator(".peers tbody a").first.click()
    assert page.locator("h1").inner_text() == names[0]
    assert page.locator("img, main script").count() == 0
    assert "owned" not in page.title().removeprefix(names[0])


def test_a_latency_or_a_speed_that_nobody_knows_is_a_dash(theatre: Theatre):
    unknown = {"tokens_per_s": None, "rtt_ms": None, "block_ms": None, "reachable": None}
    page = theatre.show(one_model([peer(1, "0:24", **unknown)]))
    cells = page.locator(".peers tbody td").all_inner_texts()
    assert [cells[2], cells[6], cells[7]] == ["–", "–", "–"]


def test_no_offer_to_try_where_the_operator_has_none(theatre: Theatre):
    page = theatre.show({**HEALTHY, "try": None})
    page.locator(".peers").wait_for()
    assert page.locator(".ask").count() == 0


def test_a_stale_picture_says_how_old_it_is_and_looks_it(theatre: Theatre):
    page = theatre.show(HEALTHY)
    assert page.locator("main.stale").count() == 0
    theatre.stage.picture = None
    page.clock.fast_forward(6000)
    page.get_by_text("reconnecting, picture is").wait_for()
    assert page.locator("main.stale").count() == 1
    assert page.title() == "Reconnecting · Shoal"
    theatre.stage.picture = {**HEALTHY, "at": NOW + 60}
    page.clock.fast_forward(6000)
    page.get_by_text("every 5 s").wait_for()
    assert page.locator("main.stale").count() == 0


def test_a_picture_that_is_only_repeated_grows_old(theatre: Theatre):
    page = theatre.show(HEALTHY)
    with page.expect_response("**/api/v1/swarm"):
        page.clock.fast_forward(6000)
    page.clock.fast_forward(4000)
    page.get_by_text(re.compile("^picture is 1[01] s old")).wait_for()


def test_a_server_that_never_answers_is_said_so(theatre: Theatre):
    page = theatre.show(None)
    page.get_by_text("No answer from the dashboard's server").wait_for()


def test_a_peer_that_is_not_here_is_said_so(theatre: Theatre):
    theatre.watch.expected.append("404")
    page = theatre.show(HEALTHY, f"/peer/{99:032x}")
    page.get_by_role("heading", name="This peer is not here").wait_for()


def test_the_theme_is_the_systems_until_somebody_chooses(theatre: Theatre):
    page = theatre.show(HEALTHY, theme="dark")

    def ground() -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    dark = ground()
    page.get_by_role("button", name="Use the light theme").click()
    light = ground()
    assert dark != light
    page.reload()
    page.get_by_role("button", name="Use the dark theme").wait_for()
    assert ground() == light
    page.evaluate("localStorage.clear()")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("picture", [HEALTHY, BROKEN, swarm([], [])], ids=["healthy", "broken", "empty"])
def test_axe_finds_nothing_serious(theatre: Theatre, theme: Any, picture: dict[str, Any]):
    page = theatre.show(picture, theme=theme)
    for details in page.locator("summary").all():
        details.click()
    assert serious_faults(page) == []


SHOWN_ON = {"phone": 320, "zoomed to 200 % of 1280": 640, "tablet": 768, "wall": 3840}


@pytest.mark.parametrize("width", SHOWN_ON.values(), ids=SHOWN_ON.keys())
def test_nothing_sticks_out_sideways(theatre: Theatre, width: int):
    long = one_model([peer(1, "0:12", name="W" * 40), peer(2, "0:24", name="one two " * 5), peer(3, "20:24")])
    page = theatre.show(long, width=width)
    page.locator(".peers").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_words_and_marks_keep_their_contrast(theatre: Theatre):
    text = [(ink, ground) for ink in ("--ink", "--quiet", "--accent") for ground in ("--page", "--panel", "--sunk")]
    text += [
        (f"--{kind}", f"--{ground}")
        for kind in ("good", "warn", "alarm")
        for ground in ("panel", "page", f"{kind}-wash")
    ]
    text += [("--on-fish", "--fish"), ("--on-accent", "--accent"), ("--ink", "--warn-wash"), ("--ink", "--alarm-wash")]
    text += [("--quiet", f"--{kind}-wash") for kind in ("good", "warn", "alarm")]
    marks = [(mark, "--panel") for mark in ("--edge", "--fish", "--warn-mark", "--alarm-mark", "--queue", "--network")]
    for theme in ("light", "dark"):
        page = theatre.show(HEALTHY, theme=theme)
        for pairs, least in ((text, 4.5), (marks, 3.0)):
            for (one, other), ratio in zip(pairs, page.evaluate(CONTRAST, pairs), strict=True):
                assert ratio >= least, f"{theme}: {one} on {other} is {ratio:.2f}"


CONTRAST = """(pairs) => {
  const probe = document.body.appendChild(document.createElement('i'));
  const light = (name) => {
    probe.style.color = `var(${name})`;
    const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((c) => c / 255);
    const [r, g, b] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return pairs.map(([one, other]) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  });
}"""

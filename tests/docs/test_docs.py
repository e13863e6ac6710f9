"""Every command of the README and of docs/*.md, run for real; those that are not are listed with their reason.

``pytest tests/docs -rs`` lists them. Some blocks run at a time, beside the tests, which then only wait for them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from peer.local import LocalSwarm
from tests.docs.blocks import ROOT, Block, Failed, Place, all_blocks, missing, read_blocks

AT_ONCE = 4
BLOCKS = all_blocks()
RUN = [block for block in BLOCKS if block.runs]
NOT_RUN = [block for block in BLOCKS if block.reason is not None]

Results = dict[str, "Future[str]"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A swarm of two peers, and a gateway in front of it."""
    directory = tmp_path_factory.mktemp("docs")
    cache = {"XDG_CACHE_HOME": str(directory / "cache"), "XDG_STATE_HOME": str(directory / "state")}
    with pytest.MonkeyPatch.context() as patch, LocalSwarm("--threads", "1", "--log-level", "warning") as swarm:
        for name, value in cache.items():
            patch.setenv(name, value)
        first, _ = swarm.start(("0:24", "12:24"))
        gateway = subprocess.Popen(
            [sys.executable, "-m", "gateway", "--listen", "127.0.0.1:0", "--join", *swarm.join],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, env={**os.environ, **cache}, text=True,
        )  # fmt: skip
        try:
            assert gateway.stdout is not None
            url: str = json.loads(gateway.stdout.readline())["http"]
            environ = {**cache, "SHOAL_SWARM": first.join[0]}
            yield Place(directory, first.join[0], first.peer_id, url.removeprefix("http://"), environ)
        finally:
            gateway.kill()
            gateway.wait()
            gateway.stdout.close()


@pytest.fixture(scope="module")
def results(place: Place, request: pytest.FixtureRequest) -> Iterator[Results]:
    """Those that were selected, under way."""
    names = {
        item.callspec.params["block"]
        for item in request.session.items
        if hasattr(item, "callspec") and "block" in item.callspec.params
    }
    with ThreadPoolExecutor(AT_ONCE) as workers:
        chosen = [block for block in RUN if block in names and not missing(block)]
        yield {str(block): workers.submit(place.run, block) for block in chosen}
        workers.shutdown(cancel_futures=True)


@pytest.mark.swarm
@pytest.mark.parametrize("block", RUN, ids=str)
def test_it_does_what_the_page_says(block: Block, results: Results):
    if absent := missing(block):
        pytest.skip(f"{absent} is not installed here")
    try:
        results[str(block)].result()
    except Failed as error:
        pytest.fail(f"{block}:\n{error}", pytrace=False)


@pytest.mark.parametrize("block", NOT_RUN, ids=str)
def test_what_is_not_run_says_why(block: Block):
    assert block.reason is not None and len(block.reason) >= 10, f"{block}: say in the marker why it is not run"
    pytest.skip(block.reason)


def test_every_page_of_blocks_is_found_and_most_of_it_is_run():
    assert {"README.md", "docs/use.md", "docs/run-a-peer.md"} <= {block.page for block in RUN}
    assert len(RUN) > 2 * len([block for block in NOT_RUN if block.page != "docs/deploy.md"])


def test_a_marker_belongs_to_the_block_below_it_alone():
    text = "<!-- not run: needs another machine -->\n\n```sh\nfoo\n```\n\n```sh\nbar\n```\n\n```sh\nsudo x\n```\n"
    first, second, third = read_blocks("x.md", text)
    assert (first.reason, second.reason, third.reason) == ("needs another machine", None, "changes the machine")
    assert (first.line, first.text, second.runs) == (4, "foo\n", True)


def test_a_block_that_fails_is_found_out(tmp_path: Path):
    there = Place(tmp_path, "/ip4/127.0.0.1/tcp/1/p2p/x", "abc", "127.0.0.1:1")
    good, bad, late = read_blocks(
        "x.md", "```sh\necho MADDR | cat\n```\n```python\n1 / 0\n```\n```sh\nfalse | cat\necho x\n```\n"
    )
    assert there.run(good) == f"{there.maddr}\n"
    for block in (bad, late):
        with pytest.raises(Failed):
            there.run(block)


def test_what_a_reader_fills_in_is_filled_in(tmp_path: Path):
    there = Place(tmp_path, "/ip4/127.0.0.1/tcp/1/p2p/x", "abc", "127.0.0.1:7")
    text = "shoal top --join /ip4/203.0.113.7/tcp/31337/p2p/12D3Koo… --prefer PEER_ID; curl http://127.0.0.1:8000/x"
    assert there.fill(text) == "shoal top --join /ip4/127.0.0.1/tcp/1/p2p/x --prefer abc; curl http://127.0.0.1:7/x"
    served = there.fill("shoal serve --listen 0.0.0.0:31330\ncurl 127.0.0.1:31330\n")
    first, second = served.splitlines()
    assert "31330" not in served and first.split("127.0.0.1:")[1] == second.split("127.0.0.1:")[1]

from __future__ import annotations

from pathlib import Path

import pytest

from peer.config import PeerConfig
from peer.options import parse
from peer.serve import main
from swarm.address import Address
from swarm.errors import UsageError
from swarm.span import Span

DOOR = "/ip4/127.0.0.1/tcp/4000/p2p/QmPeer"


def test_no_arguments_are_the_defaults():
    assert parse([], {}) == PeerConfig()


def test_every_flag_arrives():
    line = (
        "--model org/name --revision main --blocks 0:20 --listen 0.0.0.0:4000 --announce example.org:4000 "
        f"--join {DOOR} {DOOR}2 --dht-listen 0.0.0.0:4001 --kv-tokens 4096 --max-sessions 8 --threads 3 --profile f32 "
        "--identity /tmp/id --cache /tmp/cache --http 127.0.0.1:4002 --log-level debug --drain-s 2.5 "
        "--device cpu --max-links 9 --max-chunk-tokens 64 --lease-s 7 --found-after-s 20 --with-stdin"
    )
    assert parse(line.split(), {}) == PeerConfig(
        model="org/name",
        revision="main",
        blocks=Span(0, 20),
        listen=Address("0.0.0.0", 4000),
        announce=Address("example.org", 4000),
        join=(DOOR, DOOR + "2"),
        dht_listen=Address("0.0.0.0", 4001),
        kv_tokens=4096,
        max_sessions=8,
        threads=3,
        profile="f32",
        identity=Path("/tmp/id"),
        cache=Path("/tmp/cache"),
        http=Address("127.0.0.1", 4002),
        log_level="debug",
        drain_s=2.5,
        max_links=9,
        max_chunk_tokens=64,
        lease_s=7.0,
        found_after_s=20.0,
        with_stdin=True,
    )


def test_a_peer_may_have_a_name_and_show_its_address():
    config = parse(["--name", "Küche №1", "--public-address"], {})
    assert (config.name, config.public_address) == ("Küche №1", True)
    assert (parse([], {}).name, parse([], {}).public_address) == ("", False)
    for name in ("x" * 41, "a\x1b[2J", " a", "a\nb"):
        with pytest.raises(UsageError, match="a peer's name has at most 40 printable letters"):
            parse(["--name", name], {})


def test_the_environment_names_the_swarm_unless_join_does():
    environ = {"SHOAL_SWARM": f"{DOOR}, {DOOR}2"}
    assert parse([], environ).join == (DOOR, DOOR + "2")
    assert parse(["--join", DOOR + "3"], environ).join == (DOOR + "3",)
    assert parse([], {"SHOAL_SWARM": ""}).join == ()


def test_join_may_be_given_more_than_once():
    assert parse(["--join", DOOR, "--join", DOOR + "2"], {}).join == (DOOR, DOOR + "2")


def test_zero_is_a_number_and_not_the_absence_of_one():
    assert parse(["--drain-s", "0"], {}).drain_s == 0
    with pytest.raises(UsageError, match="--threads is 0"):
        parse(["--threads", "0"], {})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--blocks 5", "write start:end"),
        ("--blocks 7:7", "start < end"),
        ("--listen 80", "--listen '80' is not an address"),
        ("--dht-listen x", "--dht-listen 'x' is not an address"),
        ("--join 127.0.0.1:4000", "expected a multiaddr"),
    ],
)
def test_a_mistake_is_explained(line: str, words: str):
    with pytest.raises(UsageError, match=words):
        parse(line.split(), {})


def test_help_goes_to_stdout(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        parse(["--help"], {})
    assert left.value.code == 0
    said = capsys.readouterr()
    assert "--kv-tokens" in said.out and said.err == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--blocks -1:3", "--blocks: expected one argument"),
        ("--blocks=-1:3", "write start:end"),
        ("--nonsense", "--nonsense"),
        ("--threads many", "--threads: invalid int value: 'many'"),
        ("--profile x", "--profile: invalid choice"),
        ("--max 3", "could match"),
        ("stray", "stray"),
    ],
)
def test_what_argparse_does_not_understand_is_one_line_and_status_2(
    line: str, words: str, capsys: pytest.CaptureFixture[str]
):
    assert main(line.split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("shoal: ") and said.err.count("\n") == 1 and words in said.err

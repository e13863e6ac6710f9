from __future__ import annotations

import shlex

import pytest

from dashboard.joining import PLACEHOLDER, command, shown_addresses
from swarm.span import Span

P2P = "/p2p/12D3KooWAFFhvXNpHGTRT7DYHGSmvcFCzjUGnkTQBhYbXbTcC1zq"
LOCAL = f"/ip4/127.0.0.1/tcp/1{P2P}"
LOCAL6 = f"/ip6/::1/tcp/1{P2P}"
HOME = f"/ip4/203.0.113.7/tcp/31337{P2P}"
LAN = f"/ip4/192.168.1.5/tcp/31337{P2P}"
NAMED = f"/dns4/swarm.example.org/tcp/31337{P2P}"


@pytest.mark.parametrize(
    ("public", "own", "shown"),
    [
        ((), (HOME, LAN), ()),
        ((), (HOME, LOCAL, LOCAL6, NAMED), (LOCAL, LOCAL6, NAMED)),
        ((HOME,), (LOCAL,), (HOME,)),
        ((), (LOCAL, LOCAL6, NAMED, NAMED.replace("31337", "1")), (LOCAL, LOCAL6, NAMED)),
    ],
)
def test_no_ip_address_is_shown_that_nobody_agreed_to_show(
    public: tuple[str, ...], own: tuple[str, ...], shown: object
):
    assert shown_addresses(public, own) == shown


def test_the_command_is_one_that_peers_take():
    said = command("org/model-7b", Span(12, 20), "c8", [NAMED])
    assert said == f"shoal serve --model org/model-7b --blocks 12:20 --join {NAMED}"
    assert command("shoal-sample", Span(0, 4), "c8", []) == f"shoal serve --blocks 0:4 --join {PLACEHOLDER}"
    assert "--profile f32" in command("m", Span(0, 4), "f32", [])
    assert "--profile" not in command("m", Span(0, 4), "c8-approx", [])


@pytest.mark.parametrize(
    "name", ["; rm -rf ~", "$(id)", "`id`", "a b", "-x", "--join", "a'b", 'a"b', "ä", "x" * 200, "|"]
)
def test_a_strangers_name_never_becomes_part_of_a_command(name: str):
    words = shlex.split(command(name, Span(0, 4), "c8", []))
    assert words == ["shoal", "serve", "--model", "MODEL", "--blocks", "0:4", "--join", PLACEHOLDER]

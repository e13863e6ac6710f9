from __future__ import annotations

from pathlib import Path

import pytest

from swarm.address import Address, JoinAddress, read_swarm
from swarm.errors import UsageError

DOOR = "/ip4/127.0.0.1/tcp/4000/p2p/QmPeer"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:0", "127.0.0.1", 0), ("peer.example.org:443", "peer.example.org", 443), ("[::1]:7", "::1", 7)],
)
def test_an_address_is_read_and_written_the_same(text: str, host: str, port: int):
    address = Address.parse(text, "--listen")
    assert (address.host, address.port, str(address)) == (host, port, text)


@pytest.mark.parametrize(
    "text",
    ["", "8080", "localhost", ":80", "::1:80", "a:b", "h:", "h:65536", "http://h:80", "h:-1", "h h:1", "h:1 ", "h:١"],
)
def test_what_is_no_address_is_refused_and_the_option_named(text: str):
    with pytest.raises(UsageError, match=r"--listen .* write host:port"):
        Address.parse(text, "--listen")


def test_nobody_can_dial_all_interfaces():
    assert [Address(host, 1).anywhere for host in ("0.0.0.0", "::", "127.0.0.1")] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (DOOR, "127.0.0.1", 4000),
        ("/ip6/::1/tcp/1/p2p/QmPeer", "::1", 1),
        ("/dns4/peer.example.org/tcp/65535/p2p/12D3KooX", "peer.example.org", 65535),
    ],
)
def test_a_join_address_is_taken_apart(text: str, host: str, port: int):
    read = JoinAddress.parse(f" {text}\n")
    assert (read.text, read.host, read.port) == (text, host, port)
    assert f"{read.transport}/p2p/{read.peer_id}" == text


@pytest.mark.parametrize(
    "text",
    ["", "hello", "127.0.0.1:4000", "/ip4/1.2.3.4/tcp/5", "/ip4/1.2.3.4/udp/5/p2p/Qm", "/ip4/1.2.3.4/tcp/0/p2p/Qm",
     "/ip4/1.2.3.4/tcp/65536/p2p/Qm", "/ip4/1.2.3.4/tcp/5/p2p/Q m", "/unix/tmp/x/p2p/Qm"],
)  # fmt: skip
def test_what_is_no_join_address_is_refused_with_an_example(text: str):
    with pytest.raises(UsageError, match=r"cannot join .*expected a multiaddr like /ip4/") as caught:
        JoinAddress.parse(text)
    assert "\n" not in str(caught.value)


def test_a_swarm_is_what_was_given_or_else_what_the_environment_names_each_address_once():
    environ = {"SHOAL_SWARM": f"{DOOR}, {DOOR}2 {DOOR}"}
    assert read_swarm(None, environ) == (DOOR, DOOR + "2")
    assert read_swarm([DOOR + "3", DOOR + "3"], environ) == (DOOR + "3",)
    assert read_swarm(f"{DOOR},{DOOR}4", environ) == (DOOR, DOOR + "4")
    assert read_swarm(None, {}) == read_swarm(None, {"SHOAL_SWARM": " "}) == ()


def test_one_bad_address_of_several_is_named():
    with pytest.raises(UsageError, match="cannot join 'nonsense'"):
        read_swarm(f"{DOOR},nonsense")


def test_a_file_may_hold_the_list(tmp_path: Path):
    (tmp_path / "swarm").write_text(f"# the first two peers\n{DOOR}\n{DOOR}2, {DOOR}3\n\n")
    named = f"@{tmp_path}/swarm"
    assert read_swarm([named]) == read_swarm(None, {"SHOAL_SWARM": named}) == (DOOR, DOOR + "2", DOOR + "3")
    assert read_swarm([DOOR + "3", named]) == (DOOR + "3", DOOR, DOOR + "2")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot read join addresses from .*list: No such file"),
        (b"# nothing yet\n", "list holds no join address"),
        (b"\xff\xfe", "list is not text"),
        (b"x" * 70000, "list is larger than 65536 bytes"),
        (b"nonsense", "cannot join 'nonsense'"),
        (b"@list", "cannot join '@list'"),  # a file that names itself is not read for ever
    ],
)
def test_a_file_that_holds_no_list_is_refused(content: bytes | None, expected: str, tmp_path: Path):
    if content is not None:
        (tmp_path / "list").write_bytes(content)
    with pytest.raises(UsageError, match=expected):
        read_swarm(f"@{tmp_path}/list")

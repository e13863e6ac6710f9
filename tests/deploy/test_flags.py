from __future__ import annotations

from pathlib import Path

import pytest

import dashboard.options
import gateway.options
import peer.introduce
import peer.options
from gateway.config import GatewayConfig
from peer.config import PeerConfig
from tests.deploy.files import DOOR, Command, commands

COMMANDS = commands()


def parsed(command: Command, swarm: Path) -> object:
    """By the real parser. ``swarm`` stands for a list of join addresses, which is there only once it runs."""
    swarm.write_text(DOOR)
    argv = [f"--join=@{swarm}" if arg.startswith("--join=@") else arg for arg in command.argv[1:]]
    if command.tool == "identity":
        return [peer.introduce.Wanted.parse(text) for text in peer.introduce._parser().parse_args(argv).identities]
    parse = {"serve": peer.options.parse, "gateway": gateway.options.parse, "dashboard": dashboard.options.parse}
    return parse[command.tool](argv, command.env)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.where}:{command.tool}")
def test_every_command_in_deploy_means_something(command: Command, tmp_path: Path):
    assert parsed(command, tmp_path / "swarm")


def test_there_is_something_to_check():
    places = {command.where.split(":")[0] for command in COMMANDS}
    assert {
        "Containerfile", "compose", "peers.yaml", "gateway.yaml", "inferenceservice.yaml", "shoal-peer.service",
        "shoal-gateway.service", "deploy.md",
    } <= places  # fmt: skip


def test_a_flag_that_does_not_exist_would_be_found(tmp_path: Path):
    with pytest.raises(Exception, match="unrecognized arguments: --blobs"):
        parsed(Command("here", ("serve", "--blobs=0:4"), {}), tmp_path / "swarm")


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c.where.split(":")[0] != "deploy.md"], ids=lambda c: f"{c.where}:{c.tool}"
)
def test_who_is_dialled_listens_where_others_reach_it(command: Command, tmp_path: Path):
    config = parsed(command, tmp_path / "swarm")
    if isinstance(config, PeerConfig):
        assert config.listen.anywhere and config.dht_listen is not None and config.dht_listen.anywhere
        assert config.identity is not None and config.http is not None
        assert config.announce is None or config.announce.port == config.listen.port
    elif isinstance(config, GatewayConfig):
        assert config.listen.port == 8000

from __future__ import annotations

import json
from typing import Any

import pytest

from swarm.span import Span
from tests.deploy import schemas
from tests.deploy.files import DEPLOY, commands, documents, yaml_files

(COMPOSE,) = documents(DEPLOY / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "shoal:local"}
PEERS = {command.where.split(":")[1]: command for command in commands() if command.where.startswith("compose:peer-")}
BLOCKS = 24  # of the sample model


def test_it_is_a_compose_file():
    schemas.check(COMPOSE, "compose-spec.json")


@pytest.mark.parametrize("name", OURS)
def test_ours_run_without_rights_and_write_only_to_volumes(name: str):
    service = OURS[name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"] and service["tmpfs"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["build"]["dockerfile"] == "deploy/Containerfile"


def test_the_list_names_every_peer_where_it_listens():
    (made,) = [command for command in commands() if command.where == "compose:identities"]
    wanted = {
        f"{command.option('identity')}={name}:{(command.option('dht-listen') or '').rpartition(':')[2]}".replace(
            "/run/identities", "/var/lib/shoal"
        )
        for name, command in PEERS.items()
    }
    assert wanted == {arg for arg in made.argv if "=" in arg}
    for name, command in PEERS.items():
        assert command.option("announce") == f"{name}:{(command.option('listen') or '').rpartition(':')[2]}"
        assert command.option("join") == "@/run/identities/swarm"
        assert "identities:/run/identities:ro" in SERVICES[name]["volumes"]


def test_any_peer_may_be_lost():
    spans = {name: Span.parse(command.option("blocks") or "") for name, command in PEERS.items()}
    for lost in spans:
        left = {block for name, span in spans.items() if name != lost for block in range(span.start, span.end)}
        assert left == set(range(BLOCKS)), f"without {lost} some blocks are gone"


@pytest.mark.parametrize("name", [*PEERS, "gateway"])
def test_there_is_time_to_drain(name: str):
    (command,) = [command for command in commands() if command.where == f"compose:{name}"]
    assert float(SERVICES[name]["stop_grace_period"].removesuffix("s")) >= float(command.option("drain-s") or 0) + 15


def test_nothing_is_open_to_the_network_unless_somebody_says_so():
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            assert port.replace("${SHOAL_HTTP:-", "").startswith("127.0.0.1:"), name


def test_prometheus_watches_everybody_where_they_answer():
    (config,) = documents(DEPLOY / "prometheus" / "prometheus.yml")
    targets = {
        target for job in config["scrape_configs"] for each in job["static_configs"] for target in each["targets"]
    }
    peers = {f"{name}:{(command.option('http') or '').rpartition(':')[2]}" for name, command in PEERS.items()}
    assert targets == {*peers, "gateway:8000"}


def test_what_is_mounted_is_there():
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).exists(), volume


@pytest.mark.parametrize("path", yaml_files(), ids=lambda path: path.relative_to(DEPLOY).as_posix())
def test_yaml_is_tidy(path: Any):
    pytest.importorskip("yamllint", reason="yamllint is not installed: pip install .[dev]")
    from yamllint import linter
    from yamllint.config import YamlLintConfig

    rules = {"line-length": {"max": 140}, "document-start": "disable", "comments": {"min-spaces-from-content": 1}}
    config = YamlLintConfig(json.dumps({"extends": "default", "rules": rules}))
    assert [str(problem) for problem in linter.run(path.read_text(), config)] == []

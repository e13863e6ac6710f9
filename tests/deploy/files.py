"""What lies in deploy/, read: documents, and every command of ours in them with what its environment would give."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
DOOR = "/dns4/peer.example.org/tcp/31331/p2p/QmNpzZWJeF13hgHKVJDnsVhFNa6rK3qrMy4BjxRpY6sTJT"
FIELDS = {"metadata.name": "shoal-peer-1", "metadata.namespace": "shoal"}  # as the kubelet would fill them in
PAGES = (ROOT / "docs" / "deploy.md", DEPLOY / "README.md")


@dataclass(frozen=True, slots=True)
class Command:
    """``argv`` begins with the word behind ``shoal``. ``env`` is what the file sets."""

    where: str
    argv: tuple[str, ...]
    env: dict[str, str]

    @property
    def tool(self) -> str:
        return self.argv[0]

    def option(self, name: str) -> str | None:
        """The value of --name=value."""
        return next((arg.split("=", 1)[1] for arg in self.argv if arg.startswith(f"--{name}=")), None)


def yaml_files() -> list[Path]:
    return sorted(path for path in DEPLOY.rglob("*.y*ml") if "grafana" not in path.parts)


def documents(path: Path) -> list[Any]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def manifests() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every Kubernetes object as it is written, kustomize's own files and patches aside."""
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        for document in documents(path):
            patch = not isinstance(document, dict) or path.name == "resources.yaml"
            if not patch and document.get("kind") not in (None, "Kustomization", "Component"):
                yield path, document


def pod_specs() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(where, the object, its pods)"""
    for path, document in manifests():
        spec = document.get("spec", {})
        pods = spec.get("template", {}).get("spec") or (
            spec["predictor"] if document["kind"] == "InferenceService" else None
        )
        if pods:
            yield f"{path.name}:{document['kind']}", document, pods


def commands() -> list[Command]:
    """All of them: image, compose, Kubernetes, systemd, and the pages that tell people what to type."""
    return [*_image(), *_compose(), *_kubernetes(), *_systemd(), *_pages()]


def _image() -> Iterator[Command]:
    (line,) = [line for line in (DEPLOY / "Containerfile").read_text().splitlines() if line.startswith("CMD ")]
    yield Command("Containerfile", tuple(json.loads(line.removeprefix("CMD "))), {})


def _compose() -> Iterator[Command]:
    (compose,) = documents(DEPLOY / "compose.yaml")
    for name, service in compose["services"].items():
        if service["image"] == "shoal:local":
            yield Command(f"compose:{name}", tuple(service["command"]), service.get("environment", {}))


def _kubernetes() -> Iterator[Command]:
    for where, _, pods in pod_specs():
        for container in pods["containers"]:
            env = {entry["name"]: _value(entry, container) for entry in container.get("env", ())}
            yield Command(where, tuple(_expanded(arg, env) for arg in container["args"]), env)


def _expanded(arg: str, env: dict[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda found: env[found[1]], arg)


def _value(entry: dict[str, Any], container: dict[str, Any]) -> str:
    if "value" in entry:
        return entry["value"]
    source = entry["valueFrom"]
    if "fieldRef" in source:
        return FIELDS[source["fieldRef"]["fieldPath"]]
    if "resourceFieldRef" in source:
        kind, resource = source["resourceFieldRef"]["resource"].split(".")
        return container["resources"][kind][resource]
    return ""


def _systemd() -> Iterator[Command]:
    for unit in sorted((DEPLOY / "systemd").glob("*.service")):
        lines = unit.read_text().splitlines()
        (start,) = [line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")]
        (file,) = [line.removeprefix("EnvironmentFile=") for line in lines if line.startswith("EnvironmentFile=")]
        env = environment(unit.parent / Path(file).name)
        words = shlex.split(start.replace("%S", "/var/lib").replace("%C", "/var/cache"))
        argv = [word for text in words for word in (env[text[1:]].split() if text.startswith("$") else [text])]
        assert argv[0] == "/opt/shoal/bin/shoal", unit
        yield Command(unit.name, tuple(argv[1:]), env)


def environment(path: Path) -> dict[str, str]:
    """An environment file of systemd's, of the simple kind: NAME=VALUE or NAME="VALUE"."""
    pairs = (line.split("=", 1) for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {name: value.removeprefix('"').removesuffix('"') for name, value in pairs}


def _pages() -> Iterator[Command]:
    for page in PAGES:
        for block in re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                found = re.search(r"(?:^|[/ ])shoal ((?:serve|gateway|dashboard|identity) [^|>#]*)", line)
                if found:
                    argv = shlex.split(found[1].replace("MADDR", DOOR).replace("$at", "peer.example.org:31331"))
                    yield Command(page.name, tuple(argv), {"SHOAL_SWARM": DOOR})

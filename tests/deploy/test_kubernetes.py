from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.metrics import Metrics
from peer.introduce import main as introduce
from swarm.address import JoinAddress
from tests.deploy import schemas
from tests.deploy.files import KUBERNETES, commands, documents, manifests, pod_specs

VERSION = "1.34"  # of Kubernetes: manifests keep to what it knows, strictly
FOREIGN = {
    "ServiceMonitor": "monitoring.coreos.com/servicemonitor_v1.json",
    "PodMonitor": "monitoring.coreos.com/podmonitor_v1.json",
    "InferenceService": "serving.kserve.io/inferenceservice_v1beta1.json",
}
OBJECTS = {f"{path.name}:{document['kind']}:{document['metadata']['name']}": document for path, document in manifests()}
PODS = {where: (document, pods) for where, document, pods in pod_specs()}
OVERLAY = KUBERNETES / "overlays" / "example"


def check(document: dict[str, Any]) -> None:
    if document["kind"] in FOREIGN:
        schemas.check(document, FOREIGN[document["kind"]])
        return
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed: .[dev]")
    validate.validate(document, VERSION, strict=True)


@pytest.mark.parametrize("name", OBJECTS)
def test_every_object_is_what_kubernetes_expects(name: str):
    check(OBJECTS[name])


def test_a_mistyped_field_would_be_found():
    mistyped = yaml.safe_load(yaml.safe_dump(OBJECTS["peers.yaml:StatefulSet:shoal-peer"]))
    mistyped["spec"]["podManagmentPolicy"] = "Parallel"
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed: .[dev]")
    with pytest.raises(validate.ValidationError):
        check(mistyped)


@pytest.fixture
def rendered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The example overlay, prepared with the commands at its top and put together by kustomize."""
    kustomize = next((way for way in (["kustomize", "build"], ["kubectl", "kustomize"]) if shutil.which(way[0])), None)
    if kustomize is None:
        pytest.skip("neither kustomize nor kubectl is installed")
    copy = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    overlay = copy / "overlays" / "example"
    assert introduce([*_named(overlay), "--write", str(overlay / "swarm")]) == 0
    capsys.readouterr()
    done = subprocess.run([*kustomize, str(overlay)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def _named(overlay: Path) -> list[str]:
    """What the comment at the top of the overlay gives to ``shoal identity``, below ``overlay``."""
    text = (overlay / "kustomization.yaml").read_text()
    (at,) = re.findall(r"#     at=(\S+)", text)
    return [
        f"{overlay}/{directory}={host}.{at}" for directory, host in re.findall(r"(keys/[\w-]+)=([\w-]+)\.\$at", text)
    ]


def test_the_example_renders_to_valid_objects(rendered: list[dict[str, Any]]):
    for document in rendered:
        assert document["kind"] == "Namespace" or document["metadata"]["namespace"] == "shoal"
        if document["kind"] not in FOREIGN:
            check(document)
    kinds = {document["kind"] for document in rendered}
    assert {"StatefulSet", "Deployment", "HorizontalPodAutoscaler", "PodMonitor", "ServiceMonitor"} <= kinds
    (peers,) = [document for document in rendered if document["kind"] == "StatefulSet"]
    (peer,) = peers["spec"]["template"]["spec"]["containers"]
    assert peer["image"] == "registry.example.org/shoal:0.1.0" and "--model=Qwen/Qwen3-4B" in peer["args"]
    (gateways,) = [document for document in rendered if document["kind"] == "Deployment"]
    assert "replicas" not in gateways["spec"], "the autoscaler and every apply would fight over it"


def test_everybody_joins_where_the_named_peers_announce_themselves(rendered: list[dict[str, Any]]):
    (listed,) = [document["data"]["swarm"] for document in rendered if document["kind"] == "ConfigMap"]
    addresses = [JoinAddress.parse(line) for line in listed.splitlines()]
    (command,) = [command for command in commands() if command.where == "peers.yaml:StatefulSet"]
    announced = (command.option("announce") or "").rpartition(":")[0]
    port = int((command.option("dht-listen") or "").rpartition(":")[2])
    assert (announced, port) in {(address.host, address.port) for address in addresses}
    (keys,) = [document["data"] for document in rendered if document["kind"] == "Secret"]
    assert {address.host.split(".")[0] for address in addresses} == set(keys)
    (peers,) = [document for document in rendered if document["kind"] == "StatefulSet"]
    assert len(addresses) <= peers["spec"]["replicas"]


@pytest.mark.parametrize("where", PODS)
def test_pods_keep_to_the_restricted_standard(where: str):
    _, pods = PODS[where]
    assert pods["securityContext"]["runAsNonRoot"] and pods["securityContext"]["runAsUser"] == 10001
    assert pods["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pods["automountServiceAccountToken"] is False and pods["enableServiceLinks"] is False
    for container in [*pods.get("initContainers", ()), *pods["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])


@pytest.mark.parametrize("where", PODS)
def test_the_drain_fits_into_the_grace_period(where: str):
    _, pods = PODS[where]
    (container,) = pods["containers"]
    (command,) = [command for command in commands() if command.where == where]
    hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
    assert hook[0] == "sleep"
    needed = float(hook[1]) + float(command.option("drain-s") or 0) + 15
    assert needed <= pods["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("where", [where for where in PODS if "InferenceService" not in where])
def test_probes_ask_where_somebody_answers(where: str):
    _, pods = PODS[where]
    (container,) = pods["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    (command,) = [command for command in commands() if command.where == where]
    answers = (command.option("http") or command.option("listen") or "").rpartition(":")[2]
    for kind, path in {"startupProbe": None, "readinessProbe": "/readyz", "livenessProbe": "/healthz"}.items():
        asked = container[kind]["httpGet"]
        assert ports[asked["port"]] == int(answers) and asked["path"] in ([path] if path else ["/readyz", "/healthz"])


def test_a_named_peer_takes_its_key_once_and_keeps_it(tmp_path: Path):
    _, pods = PODS["peers.yaml:StatefulSet"]
    (shell, flags, script) = pods["initContainers"][0]["command"]
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "shoal-peer-0").write_bytes(b"first")
    script = script.replace("/var/lib/shoal", str(tmp_path)).replace("/etc/shoal/keys", str(tmp_path / "keys"))

    def start(name: str) -> None:
        subprocess.run([shell, flags, script], check=True, timeout=30, env={"POD_NAME": name, "PATH": "/usr/bin:/bin"})

    start("shoal-peer-0")
    key = tmp_path / "identity" / "p2p.key"
    assert key.read_bytes() == b"first" and stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    (tmp_path / "keys" / "shoal-peer-0").write_bytes(b"second")
    start("shoal-peer-0")
    assert key.read_bytes() == b"first"
    key.unlink()
    start("shoal-peer-7")  # one that nobody named makes its own
    assert not key.exists()


def _labels(document: dict[str, Any]) -> dict[str, str]:
    if document["kind"] == "InferenceService":
        return document["metadata"]["labels"]
    return document["spec"]["template"]["metadata"]["labels"]


def test_every_selector_finds_its_pods():
    pods = [_labels(document) for document, _ in PODS.values()]

    def found(wanted: dict[str, str]) -> bool:
        return any(wanted.items() <= labels.items() for labels in pods)

    for name, document in OBJECTS.items():
        spec = document.get("spec", {})
        for key in ("selector", "podSelector"):
            selector = spec.get(key)
            if selector:
                assert found(selector.get("matchLabels", selector)), name
    for document, _ in PODS.values():
        assert _labels(document)["app.kubernetes.io/part-of"] == "shoal", "the default denial would not hold for it"


def test_policies_name_ports_that_are_there():
    ports = {
        port["name"]: port["containerPort"]
        for _, pods in PODS.values()
        for c in pods["containers"]
        for port in c["ports"]
    }
    known = {*ports.values(), 53, 443}
    for document in OBJECTS.values():
        if document["kind"] == "NetworkPolicy":
            rules = [*document["spec"].get("ingress", ()), *document["spec"].get("egress", ())]
            for port in (port["port"] for rule in rules for port in rule.get("ports", ())):
                assert port in known or port in ports, port


def test_what_the_autoscaler_asks_for_exists():
    scaler = OBJECTS["autoscaler.yaml:HorizontalPodAutoscaler:shoal-gateway"]["spec"]
    (metric,) = [each["pods"]["metric"]["name"] for each in scaler["metrics"]]
    assert any(family.name == metric and family.type == "gauge" for family in Metrics("0").registry.collect())
    (values,) = documents(KUBERNETES / "monitoring" / "adapter-values.yaml")
    (rule,) = values["rules"]["custom"]
    assert rule["name"]["as"] == metric and rule["seriesQuery"].startswith(f"{metric}{{")
    assert scaler["scaleTargetRef"]["name"] == "shoal-gateway"


def test_keys_are_never_committed():
    assert {"keys/", "swarm"} <= set((OVERLAY / ".gitignore").read_text().split())


def test_volumes_that_are_mounted_are_declared():
    for where, (document, pods) in PODS.items():
        claims = [claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", ())]
        declared = {*(volume["name"] for volume in pods["volumes"]), *claims}
        for container in [*pods.get("initContainers", ()), *pods["containers"]]:
            mounts = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", ())}
            assert set(mounts) <= declared, where
            for arg in container.get("args", ()):
                for path in re.findall(r"[=@](/(?:var|etc)/\S+)", arg):
                    assert any(path.startswith(f"{mount}/") for mount in mounts.values()), f"{where}: {arg}"

"""The fleets in deploy/kubernetes: who reaches whom, what all share, and how they scale with metrics that the servers export."""

import re
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from app.engine.remote.discovery import LOOK_UP_S
from tests.rendered import Documents, Render, container_of, may_connect, of_kind, pod_of, workloads
from tests.tools import ROOT, tool

LABEL = "app.kubernetes.io/name"
PORTS = {"ponder": 8000, "ponder-replica": 8000, "ponder-valkey": 6379}
REACH = {
    ("a client", "ponder"),
    ("ponder", "ponder"),
    ("ponder", "ponder-replica"),
    ("ponder", "ponder-valkey"),
}
"""Who may reach whom: clients front ends alone, and these everything."""


def mounts(workload: dict) -> dict[str, dict]:
    """Return the mounts of a pod's container by their paths."""
    return {mount["mountPath"]: mount for mount in container_of(workload)["volumeMounts"]}


def keys(workload: dict) -> dict[str, str]:
    """Return the names in the secret of a pod's keys, by the files that they become."""
    (volume,) = [volume["secret"] for volume in pod_of(workload)["volumes"] if volume["name"] == "keys"]
    return {item["path"]: item["key"] for item in volume["items"]}


@pytest.mark.parametrize("source", ["a client", *PORTS])
@pytest.mark.parametrize("target", PORTS)
def test_who_reaches_whom(fleet: Documents, source: str, target: str) -> None:
    """On the port that is served, and on no other one."""
    port = PORTS[target]
    (named,) = container_of(workloads(fleet)[target])["ports"]

    def may(number: int) -> bool:
        return may_connect(fleet, {LABEL: source}, {LABEL: target}, number, {named["name"]: named["containerPort"]})

    assert may(port) is ((source, target) in REACH)
    assert not may(29500)  # as vLLM's processes use among themselves


def test_names_are_looked_up_and_models_come_from_public_addresses(fleet: Documents) -> None:
    """By front ends and replicas, and by nobody else. Whoever deletes the policy for models can still look up names."""
    policies = [of_kind(fleet, "NetworkPolicy", name)["spec"] for name in ("ponder-names", "ponder-outside")]
    (names,), (hub,) = (one["egress"] for one in policies)
    for one in policies:
        (chosen,) = one["podSelector"]["matchExpressions"]
        assert set(chosen["values"]) == {"ponder", "ponder-replica"}
    assert {(one["port"], one["protocol"]) for one in names["ports"]} == {(53, "UDP"), (53, "TCP")}
    assert hub["ports"] == [{"port": 443}]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} < set(hub["to"][0]["ipBlock"]["except"])


def test_front_ends_find_every_replica(fleet: Documents) -> None:
    """By the headless service, whose name has the addresses of all that are ready, and with the key that replicas ask for."""
    url = urlsplit(of_kind(fleet, "ConfigMap")["data"]["PONDER_REPLICAS"])
    service = of_kind(fleet, "Service", url.hostname)["spec"]
    replica = workloads(fleet)["ponder-replica"]
    assert service["clusterIP"] == "None"
    assert not service.get("publishNotReadyAddresses")
    assert (url.port, url.hostname) == (container_of(replica)["ports"][0]["containerPort"], replica["spec"]["serviceName"])
    front_end = keys(workloads(fleet)["ponder"])
    assert keys(replica) == {"ponder_api_keys": front_end["ponder_replica_api_key"]}


def test_a_replica_that_ends_is_sent_nothing_new(fleet: Documents) -> None:
    """It waits until a front end that looked its name up at the last moment has looked again. Names are cached for 30 seconds at most."""
    before = container_of(workloads(fleet)["ponder-replica"])["lifecycle"]["preStop"]["exec"]["command"]
    assert int(before[1]) >= LOOK_UP_S + 30


def test_replicas_read_the_adapters_that_front_ends_write(fleet: Documents) -> None:
    """They are at the same path, in one volume that all nodes can mount."""
    folder = of_kind(fleet, "ConfigMap")["data"]["PONDER_ADAPTER_DIR"]
    front_end, replica = workloads(fleet)["ponder"], workloads(fleet)["ponder-replica"]
    assert mounts(front_end)[folder]["name"] == mounts(replica)[folder]["name"] == "adapters"
    assert not mounts(front_end)[folder].get("readOnly")
    assert mounts(replica)[folder]["readOnly"] is True
    (claim,) = [one for one in fleet if one["kind"] == "PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_front_ends_keep_nothing_and_are_found_by_each_other(fleet: Documents) -> None:
    """Their own volumes end with them. Each announces its own address."""
    front_end = workloads(fleet)["ponder"]
    kept = [volume["name"] for volume in pod_of(front_end)["volumes"] if not {"emptyDir", "secret"} & set(volume)]
    assert kept == ["adapters"]
    address, own_url = container_of(front_end)["env"]
    assert address["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert own_url["value"] == f"http://$({address['name']}):8000"
    assert "ponder_shared_state_url" in keys(front_end)
    assert "nvidia.com/gpu" not in container_of(front_end)["resources"]["limits"]


def test_replicas_grow_with_what_front_ends_export(fleet: Documents, exported: set[str]) -> None:
    """By running and waiting branches before engines are full, and nothing else sets the number of replicas."""
    autoscaler, replica = (
        of_kind(fleet, "HorizontalPodAutoscaler", "ponder-replica")["spec"],
        workloads(fleet)["ponder-replica"],
    )
    asked = {metric["object"]["metric"]["name"]: metric["object"] for metric in autoscaler["metrics"]}
    most = int(of_kind(fleet, "ConfigMap")["data"]["PONDER_MAX_BRANCHES"])
    assert set(asked) <= exported
    assert int(asked["ponder_branches_running"]["target"]["averageValue"]) < most
    for one in asked.values():
        assert one["target"]["type"] == "AverageValue"
        assert one["describedObject"] == {
            "apiVersion": "v1",
            "kind": "Service",
            "name": of_kind(fleet, "Service", "ponder")["metadata"]["name"],
        }
    assert_scales(autoscaler, replica)


def test_front_ends_grow_with_their_processors(fleet: Documents) -> None:
    """The share is one of what they request."""
    autoscaler, front_end = of_kind(fleet, "HorizontalPodAutoscaler", "ponder")["spec"], workloads(fleet)["ponder"]
    (metric,) = autoscaler["metrics"]
    assert metric["resource"]["name"] == "cpu"
    assert container_of(front_end)["resources"]["requests"]["cpu"] == "1"
    assert_scales(autoscaler, front_end)


def assert_scales(autoscaler: dict, workload: dict) -> None:
    """The autoscaler, and nothing else, says how many there are."""
    target = {"apiVersion": "apps/v1", "kind": workload["kind"], "name": workload["metadata"]["name"]}
    assert autoscaler["scaleTargetRef"] == target
    assert "replicas" not in workload["spec"]
    assert autoscaler["minReplicas"] >= 2


def test_the_adapter_of_metrics_passes_them_on(fleet: Documents) -> None:
    """The rule of the prometheus-adapter finds the autoscaler's metrics, and adds them up for the Service that it asks of."""
    values = yaml.safe_load(
        (ROOT / "deploy/kubernetes/components/fleet/prometheus-adapter.values.yaml").read_text(encoding="utf-8")
    )
    (rule,) = values["rules"]["custom"]
    found = re.search(r'__name__=~"([^"]+)"', rule["seriesQuery"])[1]
    for metric in of_kind(fleet, "HorizontalPodAutoscaler", "ponder-replica")["spec"]["metrics"]:
        assert re.fullmatch(found, metric["object"]["metric"]["name"])
    assert rule["resources"]["overrides"]["service"] == {"resource": "service"}
    assert rule["metricsQuery"].startswith("sum(")


def test_the_store_starts_as_it_is_told(render: Render, tmp_path: Path) -> None:
    """With a real server: it asks for the password, drops no keys, and finds what it was given after a restart."""
    (command,) = container_of(workloads(render("overlays/fleet"))["ponder-valkey"])["command"][2:]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "valkey_password").write_text("a secret", encoding="ascii")
    command = command.replace("/data", str(tmp_path)).replace("/run/secrets", str(tmp_path))
    command = command.strip().replace("valkey-server", f"{tool('valkey-server')} --port {port} --bind 127.0.0.1", 1)

    def ask(*words: str) -> bytes:
        for _ in range(200):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as connection:
                for line in words:
                    connection.sendall(f"{line}\r\n".encode())
                connection.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: connection.recv(4096), b""))
            time.sleep(0.05)
        pytest.fail("it takes no connections")

    for written in ("SET kept 1", "PING"):
        server = subprocess.Popen(["sh", "-c", command], stdout=subprocess.DEVNULL)
        try:
            assert ask("GET kept").startswith(b"-NOAUTH")
            told = ask('AUTH "a secret"', "CONFIG GET maxmemory-policy", written, "GET kept")
        finally:
            server.terminate()
            assert server.wait(20) == 0
        assert b"noeviction" in told
        assert told.endswith(b"$1\r\n1\r\n")


def test_the_example_of_the_secret_names_the_store(fleet: Documents) -> None:
    """The URL that its comment shows is that of the Service."""
    text = (ROOT / "deploy/kubernetes/secret.example.yaml").read_text(encoding="utf-8")
    url = urlsplit(re.search(r"redis://\S+", text)[0])
    (port,) = of_kind(fleet, "Service", url.hostname)["spec"]["ports"]
    assert url.port == port["port"]

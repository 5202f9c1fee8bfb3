"""The pods in deploy/kubernetes: their privileges, settings, volumes, and their end."""

from pathlib import Path

import pytest

from app.settings import ReplicaSettings, Settings
from tests.rendered import Documents, container_of, of_kind, pod_of, workloads

SERVERS = {"ponder": Settings, "ponder-replica": ReplicaSettings}
"""What runs ponder, and how each reads the common settings."""


@pytest.fixture
def config(documents: Documents) -> dict[str, str]:
    return of_kind(documents, "ConfigMap")["data"]


@pytest.fixture
def servers(documents: Documents) -> dict[str, dict]:
    return {name: one for name, one in workloads(documents).items() if name in SERVERS}


@pytest.fixture
def engine(servers: dict[str, dict]) -> dict:
    """What has an engine: the server, or a fleet's replica."""
    return servers.get("ponder-replica", servers["ponder"])


def test_pods_are_restricted(documents: Documents) -> None:
    """They are not root, cannot gain privileges, can write to volumes alone, and have no account with the cluster."""
    for name, workload in workloads(documents).items():
        pod = pod_of(workload)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == (10001 if name in SERVERS else 999)
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert container_of(workload)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert not any("hostPath" in volume for volume in pod["volumes"])


def test_a_service_of_this_name_does_not_set_our_variables(documents: Documents) -> None:
    """By default Kubernetes would: PONDER_PORT would be an URL, and the server would not start."""
    assert all(pod_of(one)["enableServiceLinks"] is False for one in workloads(documents).values())


def test_settings_are_settings(config: dict[str, str], servers: dict[str, dict], variables: set[str]) -> None:
    """Every variable is a setting with a valid value, for front ends and for replicas; keys are files, which processes do not inherit."""
    assert set(config) <= variables
    given = {name.removeprefix("PONDER_").lower(): value for name, value in config.items()}
    for name, workload in servers.items():
        kind, container = SERVERS[name], container_of(workload)
        kind(**{field: value for field, value in given.items() if field in kind.model_fields})
        assert {"configMapRef": {"name": of_name(container)}} in container["envFrom"]
        assert {one["name"] for one in container.get("env", ())} <= {"POD_IP", "PONDER_ADVERTISE_URL"}


def of_name(container: dict) -> str:
    """Return the name of the only config map of a container's variables."""
    (source,) = container["envFrom"]
    return source["configMapRef"]["name"]


def test_who_has_been_accepted_is_answered(config: dict[str, str], servers: dict[str, dict]) -> None:
    """A pod ends later than it drains, and it drains longer than the longest request takes."""
    drain, longest = float(config["PONDER_DRAIN_SECONDS"]), float(config["PONDER_MAX_REQUEST_SECONDS"])
    assert longest < drain
    for workload in servers.values():
        before = int(container_of(workload)["lifecycle"]["preStop"]["exec"]["command"][1])
        assert before + drain < pod_of(workload)["terminationGracePeriodSeconds"]


def test_volumes_are_there(documents: Documents, config: dict[str, str]) -> None:
    """Mounts are declared, claims exist, and folders of the settings are in volumes."""
    claims = {document["metadata"]["name"] for document in documents if document["kind"] == "PersistentVolumeClaim"}
    claimed = set()
    for name, workload in workloads(documents).items():
        volumes = {volume["name"]: volume for volume in pod_of(workload)["volumes"]}
        own = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())}
        mounts = {mount["mountPath"]: mount for mount in container_of(workload)["volumeMounts"]}
        assert {mount["name"] for mount in mounts.values()} == set(volumes) | own
        claimed |= {one["persistentVolumeClaim"]["claimName"] for one in volumes.values() if "persistentVolumeClaim" in one}
        if name in SERVERS:
            assert {"/tmp", "/home/ponder/.cache", "/run/secrets"} <= set(mounts)
            folders = {key: value for key, value in config.items() if key.endswith("_DIR")}
            missing = {key for key, value in folders.items() if not any(Path(value).is_relative_to(path) for path in mounts)}
            assert missing == (set() if name == "ponder" else {"PONDER_POLICY_DIR", "PONDER_LIVE_CALIBRATION_DIR"})
    assert claimed == claims


def test_the_engine_finds_shared_memory(engine: dict) -> None:
    """The engine needs 160 MiB; with a container's default of 64 it does not start."""
    (shm,) = [volume["emptyDir"] for volume in pod_of(engine)["volumes"] if volume["name"] == "shm"]
    assert shm == {"medium": "Memory", "sizeLimit": "1Gi"}
    assert "/dev/shm" in {mount["mountPath"] for mount in container_of(engine)["volumeMounts"]}


def test_a_large_model_may_take_its_time(servers: dict[str, dict]) -> None:
    """It has twenty minutes before the liveness probe begins."""
    for workload in servers.values():
        probe = container_of(workload)["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 1200


def test_keys_come_from_the_secret(documents: Documents, servers: dict[str, dict], example: dict, variables: set[str]) -> None:
    """They have the names that the server looks for. The example holds no keys, so a server with it refuses to start."""
    for name, workload in workloads(documents).items():
        (volume,) = [volume["secret"] for volume in pod_of(workload)["volumes"] if volume["name"] == "keys"]
        assert volume["secretName"] == example["metadata"]["name"]
        assert {item["key"] for item in volume["items"]} < set(example["stringData"])
        if name in servers:
            assert {item["path"].upper() for item in volume["items"]} <= variables
    assert set(example["stringData"].values()) == {""}

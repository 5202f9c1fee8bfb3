"""deploy/kubernetes' pod: what it may do, what it is told, what it keeps, and how it ends."""

from pathlib import Path

import pytest

from app.settings import Settings
from tests.rendered import Documents, of_kind


@pytest.fixture
def config(documents: Documents) -> dict[str, str]:
    return of_kind(documents, "ConfigMap")["data"]


def test_the_pod_is_restricted(pod: dict, container: dict) -> None:
    """Not root, no privileges to gain, nothing to write to but volumes, no account with the cluster."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_a_service_of_this_name_does_not_set_our_variables(pod: dict) -> None:
    """Kubernetes would: PONDER_PORT would be an URL, and the server would not start."""
    assert pod["enableServiceLinks"] is False


def test_settings_are_settings(config: dict[str, str], container: dict, variables: set[str]) -> None:
    """And good ones."""
    ours = {name: value for name, value in config.items() if name.startswith("PONDER_")}
    assert set(ours) <= variables
    assert set(config) - set(ours) <= {"WATCHFILES_FORCE_POLLING"}
    folders = {"adapter_preload_dir": "/tmp"}  # it must be there
    Settings(**{name.removeprefix("PONDER_").lower(): value for name, value in ours.items()} | folders)
    assert "env" not in container, "keys are files, which processes do not inherit"


def test_who_has_been_accepted_is_answered(config: dict[str, str], pod: dict, container: dict) -> None:
    """The pod goes on for longer than the server drains, and the server drains for longer than the longest request."""
    drain, longest = float(config["PONDER_DRAIN_SECONDS"]), float(config["PONDER_MAX_REQUEST_SECONDS"])
    before = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert longest < drain
    assert before + drain < pod["terminationGracePeriodSeconds"]


def test_volumes_are_there(documents: Documents, pod: dict, container: dict, config: dict[str, str]) -> None:
    """What is mounted is declared, claims are made, and the server's folders are in a volume."""
    names = {volume["name"] for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert {mount["name"] for mount in mounts.values()} == names
    claims = {document["metadata"]["name"] for document in documents if document["kind"] == "PersistentVolumeClaim"}
    assert {
        volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume
    } == claims
    assert {"/tmp", "/dev/shm", "/home/ponder/.cache", "/run/secrets"} <= set(mounts)
    for name, value in config.items():
        if name.endswith("_DIR"):
            assert any(Path(value).is_relative_to(path) for path in mounts), name


def test_the_engine_finds_shared_memory(pod: dict) -> None:
    """160 MiB; with a container's usual 64 the engine does not start."""
    (shm,) = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shm"]
    assert shm == {"medium": "Memory", "sizeLimit": "1Gi"}


def test_a_large_model_may_take_its_time(container: dict) -> None:
    """Twenty minutes until liveness is asked about."""
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 1200


def test_keys_come_from_the_secret(pod: dict, example: dict, variables: set[str]) -> None:
    """By the names that the server looks for; the example has none in it, so that a server with it refuses to start."""
    (volume,) = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "keys"]
    assert volume["secretName"] == example["metadata"]["name"]
    assert {item["key"] for item in volume["items"]} < set(example["stringData"])
    assert {item["path"].upper() for item in volume["items"]} <= variables
    assert set(example["stringData"].values()) == {""}

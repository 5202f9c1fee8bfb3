"""The pod in deploy/kubernetes: its privileges, settings, volumes, and its end."""

from pathlib import Path

import pytest

from app.settings import Settings
from tests.rendered import Documents, of_kind


@pytest.fixture
def config(documents: Documents) -> dict[str, str]:
    return of_kind(documents, "ConfigMap")["data"]


def test_the_pod_is_restricted(pod: dict, container: dict) -> None:
    """It is not root, cannot gain privileges, can write to volumes alone, and has no account with the cluster."""
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
    """By default Kubernetes would: PONDER_PORT would be an URL, and the server would not start."""
    assert pod["enableServiceLinks"] is False


def test_settings_are_settings(config: dict[str, str], container: dict, variables: set[str]) -> None:
    """Every variable is a setting of the server, with a valid value."""
    ours = {name: value for name, value in config.items() if name.startswith("PONDER_")}
    assert set(ours) <= variables
    assert set(config) - set(ours) <= {"WATCHFILES_FORCE_POLLING"}
    folders = {"adapter_preload_dir": "/tmp"}  # it must be there
    Settings(**{name.removeprefix("PONDER_").lower(): value for name, value in ours.items()} | folders)
    assert "env" not in container, "keys are files, which processes do not inherit"


def test_who_has_been_accepted_is_answered(config: dict[str, str], pod: dict, container: dict) -> None:
    """The pod ends later than the server drains, and the server drains longer than the longest request takes."""
    drain, longest = float(config["PONDER_DRAIN_SECONDS"]), float(config["PONDER_MAX_REQUEST_SECONDS"])
    before = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert longest < drain
    assert before + drain < pod["terminationGracePeriodSeconds"]


def test_volumes_are_there(documents: Documents, pod: dict, container: dict, config: dict[str, str]) -> None:
    """Mounts are declared, claims exist, and the server's folders are in volumes."""
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
    """The engine needs 160 MiB; with a container's default of 64 it does not start."""
    (shm,) = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shm"]
    assert shm == {"medium": "Memory", "sizeLimit": "1Gi"}


def test_a_large_model_may_take_its_time(container: dict) -> None:
    """It has twenty minutes before the liveness probe begins."""
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 1200


def test_keys_come_from_the_secret(pod: dict, example: dict, variables: set[str]) -> None:
    """They have the names that the server looks for. The example holds no keys, so a server with it refuses to start."""
    (volume,) = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "keys"]
    assert volume["secretName"] == example["metadata"]["name"]
    assert {item["key"] for item in volume["items"]} < set(example["stringData"])
    assert {item["path"].upper() for item in volume["items"]} <= variables
    assert set(example["stringData"].values()) == {""}

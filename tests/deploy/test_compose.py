"""docker-compose.yml: the services that one command starts, who can reach them, and what they may do."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

from app.settings import Settings
from tests.tools import ROOT

KEPT_BY_SERVER = {"/home/ponder/.cache", "/home/ponder/adapters", "/home/ponder/policies"}
SERVERS = ("ponder", "ponder-gpu")
FRONT_ENDS = ("front-end-1", "front-end-2")
REPLICAS = ("replica-1", "replica-2")
FLEET = (*FRONT_ENDS, *REPLICAS, "valkey")
WATCHERS = ("prometheus", "grafana")
LASTING = (*SERVERS, *FLEET, *WATCHERS)
SECONDS = {"s": 1, "m": 60}


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services(compose: dict) -> dict[str, dict]:
    return compose["services"]


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


def test_it_is_a_compose_file(compose: dict) -> None:
    """It is valid by the schema of the Compose specification."""
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text(encoding="utf-8"))
    jsonschema.validate(compose, schema)


@pytest.mark.parametrize(
    ("arguments", "servers"), [([], ["ponder"]), (["--profile", "gpu"], ["ponder-gpu"]), (["--profile", "fleet"], FLEET)]
)
def test_compose_starts_a_server_or_the_fleet(arguments: list[str], servers: Sequence[str]) -> None:
    """Docker Compose says so itself, where it is installed; it needs no Docker engine for that."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("no docker-compose")
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    run = subprocess.run(
        [program, *arguments, "config", "--services"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert set(run.stdout.split()) == {"keys", *servers, *WATCHERS}, run.stderr


def test_the_cpu_is_what_is_there_without_a_profile(services: dict[str, dict]) -> None:
    """A profile on the command line replaces the one in .env, so the two never start together."""
    lines = (ROOT / ".env").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == ["COMPOSE_PROFILES=cpu"], "and no secrets"
    wanted = {"ponder": ["cpu"], "ponder-gpu": ["gpu"], **{name: ["fleet"] for name in FLEET}}
    assert {name: services[name].get("profiles") for name in LASTING} == {name: wanted.get(name) for name in LASTING}


@pytest.mark.parametrize("name", LASTING)
def test_services_can_do_little(services: dict[str, dict], name: str) -> None:
    """They are not root, cannot become root, and can write to volumes and /tmp alone."""
    service = services[name]
    assert service["user"].split(":")[0] not in {"0", "root"}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert not service.get("privileged")
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_keys_are_made_without_network_or_root(services: dict[str, dict]) -> None:
    """Every service waits until the keys are there."""
    keys = services["keys"]
    assert (keys["user"], keys["network_mode"], keys["restart"]) == ("65534:10001", "none", "no")
    assert (keys["read_only"], keys["cap_drop"]) == (True, ["ALL"])
    for name in LASTING:
        assert services[name]["depends_on"]["keys"] == {"condition": "service_completed_successfully"}
        assert "keys:/run/secrets:ro" in services[name]["volumes"]


@pytest.mark.parametrize("name", LASTING)
def test_only_this_machine_reaches_them(services: dict[str, dict], name: str) -> None:
    """The operator can publish servers, which have keys, on other addresses, and nothing else. Nobody reaches replicas and the store."""
    ports = services[name].get("ports", [])
    assert len(ports) == (0 if name in (*REPLICAS, "valkey") else 1)
    prefix = "${PUBLISH_ADDRESS:-127.0.0.1}:" if name in (*SERVERS, *FRONT_ENDS) else "127.0.0.1:"
    assert all(port.startswith(prefix) for port in ports)


def test_the_fleet_is_put_together(services: dict[str, dict]) -> None:
    """Front ends know all replicas and are known by a name each; they and the replicas have one folder of adapters at one path."""
    folders = [dict(reversed(mount.split(":")[:2]) for mount in services[name]["volumes"]) for name in (*FRONT_ENDS, *REPLICAS)]
    assert {folder["/home/ponder/adapters"] for folder in folders} == {"adapters"}
    for name in FRONT_ENDS:
        environment = services[name]["environment"]
        assert environment["PONDER_REPLICAS"].split(",") == [f"http://{one}:8000" for one in REPLICAS]
        assert environment["PONDER_ADVERTISE_URL"] == f"http://{name}:8000"
        assert services[name]["networks"]["default"]["aliases"] == ["ponder"], "as Prometheus looks for them"
        assert services[name]["command"] == ["--config", "/run/secrets/front-end.yml"]
        assert "entrypoint" not in services[name]
    for name in REPLICAS:
        assert (services[name]["entrypoint"], services[name]["command"]) == (
            ["ponder", "replica"],
            ["--config", "/run/secrets/replica.yml"],
        )
        assert "adapters:/home/ponder/adapters:ro" in services[name]["volumes"]
        assert services[name]["environment"]["PONDER_API_KEYS"] == ""
    own = [folder["/home/ponder/policies"] for folder in folders[:2]]
    assert len(set(own)) == 2, "each has policies of its own, and the store says which hold"


def test_what_a_server_writes_is_in_a_volume(dockerfile: str) -> None:
    """The root file system is read-only, so every folder that the settings name is in one."""
    [volumes] = [line.split()[1:] for line in dockerfile.splitlines() if line.startswith("VOLUME ")]
    folders = dict(re.findall(r"(PONDER_\w+_DIR)=(\S+)", dockerfile))
    written = {f"PONDER_{name.upper()}" for name, field in Settings.model_fields.items() if field.annotation is Path}
    assert folders.keys() == written
    assert all(any(Path(folder).is_relative_to(volume) for volume in volumes) for folder in folders.values())


def test_the_store_is_that_of_kubernetes(services: dict[str, dict]) -> None:
    """Its image, its command, where `$$` is a dollar, and the question whether it is well."""
    (pod,) = [
        one
        for one in yaml.safe_load_all((ROOT / "deploy/kubernetes/components/valkey/valkey.yaml").read_text())
        if one["kind"] == "StatefulSet"
    ]
    (container,) = pod["spec"]["template"]["spec"]["containers"]
    store = services["valkey"]
    assert store["image"] == container["image"]
    assert [word.replace("$$", "$") for word in store["command"]] == container["command"]
    assert store["healthcheck"]["test"][3].replace("$$", "$") == container["readinessProbe"]["exec"]["command"][2]


def test_prometheus_finds_every_front_end(services: dict[str, dict]) -> None:
    """By a name that has the addresses of all."""
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert found["names"] == ["ponder"]
    assert "ponder" in services
    assert (found["type"], found["port"]) == ("A", 8000)


def test_health_is_asked_of_all(services: dict[str, dict], dockerfile: str) -> None:
    """The server's health check is in its image; the other images have busybox' wget."""
    assert "urlopen('http://127.0.0.1:8000/health'" in dockerfile.split("HEALTHCHECK", 1)[1]
    for name, port in (("prometheus", 9090), ("grafana", 3000)):
        command = services[name]["healthcheck"]["test"]
        assert command[:2] == ["CMD", "wget"]
        assert command[-1].startswith(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("name", [*SERVERS, *FRONT_ENDS, *REPLICAS])
def test_settings_are_settings(services: dict[str, dict], dockerfile: str, variables: set[str], name: str) -> None:
    """This holds for variables in the file and in the image; ponder.env is the operator's."""
    assert set(services[name]["environment"]) <= variables
    assert set(re.findall(r"\bPONDER_\w+", dockerfile)) <= variables


@pytest.mark.parametrize("name", SERVERS)
def test_the_server_keeps_what_it_must(services: dict[str, dict], compose: dict, dockerfile: str, name: str) -> None:
    """It is in named volumes over folders of the image that belong to its user, who has the same ids in both."""
    mounts = dict(mount.split(":")[:2] for mount in services[name]["volumes"])
    assert {path for volume, path in mounts.items() if volume != "keys"} == KEPT_BY_SERVER
    assert set(mounts) <= set(compose["volumes"])
    assert re.search(r"^USER 10001:10001$", dockerfile, re.MULTILINE)
    assert set(re.search(r"^VOLUME (.*)$", dockerfile, re.MULTILINE)[1].split()) == KEPT_BY_SERVER
    assert services[name]["user"] == "10001:10001"
    for variable, path in re.findall(r"(\w+)=(/home/ponder\S*)", dockerfile):
        assert any(Path(path).is_relative_to(kept) for kept in KEPT_BY_SERVER), variable


@pytest.mark.parametrize("name", [*SERVERS, *REPLICAS])
def test_the_engine_finds_shared_memory(services: dict[str, dict], name: str) -> None:
    """The engine needs 160 MiB; with Docker's default of 64 it does not start."""
    assert services[name]["shm_size"] == "1g"


@pytest.mark.parametrize("name", [*SERVERS, *FRONT_ENDS, *REPLICAS])
def test_there_is_time_to_drain(services: dict[str, dict], name: str) -> None:
    """There is time left for the engine to end."""
    number, unit = re.fullmatch(r"(\d+)([sm])", services[name]["stop_grace_period"]).groups()
    assert int(number) * SECONDS[unit] >= Settings().drain_seconds + 15


def test_the_gpu_is_asked_for(services: dict[str, dict]) -> None:
    """Its image is built for GPUs, and Prometheus finds either server under one name."""
    (device,) = services["ponder-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert services["ponder-gpu"]["build"]["args"]["TARGET"] == "cuda"
    assert services["ponder-gpu"]["networks"]["default"]["aliases"] == ["ponder"]
    assert services["ponder-gpu"]["image"] != services["ponder"]["image"]


def test_images_are_pinned(services: dict[str, dict]) -> None:
    """Versions are pinned to the patch level."""
    for name in ("keys", "valkey", *WATCHERS):
        assert re.search(r":v?\d+\.\d+\.\d+$", services[name]["image"])


def test_what_is_mounted_is_there(services: dict[str, dict]) -> None:
    """Mounted files are in the repository, and read-only."""
    mounts = [mount for service in services.values() for mount in service["volumes"] if mount.startswith(".")]
    assert len(mounts) == 4
    for mount in mounts:
        path, _, mode = mount.split(":")
        assert (ROOT / path).exists(), path
        assert mode == "ro"


def test_prometheus_keeps_exemplars(services: dict[str, dict]) -> None:
    """Exemplars link latencies to traces."""
    assert "--enable-feature=exemplar-storage" in services["prometheus"]["command"]


def test_grafana_shows_to_all_and_obeys_a_password(services: dict[str, dict]) -> None:
    """The password is not `admin`."""
    environment = services["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana_admin_password"

"""deploy/kubernetes/examples/ray: the whole server on a Ray cluster, by KubeRay. The schema is ours, as much of KubeRay's as is used."""

import re
from importlib import import_module
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from app.settings import Settings
from tests.custom_resources import COUNT, TEXT, TEXTS, strict_document, strict_object
from tests.rendered import Documents, Render, may_connect, of_kind
from tests.tools import ROOT

RAY = "ray.io/v1"
POD = strict_object("spec", metadata={"type": "object"}, spec={"type": "object"})  # Kubernetes' own schema has it
SCHEMA = strict_document(
    RAY,
    "RayService",
    strict_object(
        "serveConfigV2 rayClusterConfig",
        serveConfigV2=TEXT,
        rayClusterConfig=strict_object(
            "headGroupSpec",
            rayVersion=TEXT,
            enableInTreeAutoscaling={"type": "boolean"},
            autoscalerOptions=strict_object(
                idleTimeoutSeconds=COUNT, resources={"type": "object"}, securityContext={"type": "object"}
            ),
            authOptions=strict_object("mode", mode={"enum": ["disabled", "token"]}),
            headGroupSpec=strict_object("rayStartParams template", rayStartParams=TEXTS, template=POD),
            workerGroupSpecs={
                "type": "array",
                "minItems": 1,
                "items": strict_object(
                    "groupName rayStartParams template",
                    groupName=TEXT,
                    replicas=COUNT,
                    minReplicas=COUNT,
                    maxReplicas=COUNT,
                    rayStartParams=TEXTS,
                    template=POD,
                ),
            },
        ),
    ),
)


@pytest.fixture(scope="module")
def documents(render: Render) -> Documents:
    return render("examples/ray")


@pytest.fixture(scope="module")
def cluster(documents: Documents) -> dict:
    return of_kind(documents, "RayService")["spec"]["rayClusterConfig"]


@pytest.fixture(scope="module")
def pods(cluster: dict) -> dict[str, dict]:
    (workers,) = cluster["workerGroupSpecs"]
    return {"head": cluster["headGroupSpec"]["template"]["spec"], "worker": workers["template"]["spec"]}


@pytest.fixture(scope="module")
def config(documents: Documents) -> dict:
    return yaml.safe_load(of_kind(documents, "RayService")["spec"]["serveConfigV2"])


@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_documents_are_valid(documents: Documents, pods: dict[str, dict], version: str) -> None:
    """Pods are Kubernetes' own."""
    jsonschema.validate(of_kind(documents, "RayService"), SCHEMA)
    templates = [
        {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": {"spec": spec}}
        for name, spec in pods.items()
    ]
    for document in [*templates, *(one for one in documents if one["apiVersion"] != RAY)]:
        kubernetes_validate.validate(document, version, strict=True)
    assert {one["metadata"]["namespace"] for one in documents} == {"ponder"}


def test_a_misspelt_field_is_seen(documents: Documents) -> None:
    document = of_kind(documents, "RayService")
    with pytest.raises(jsonschema.ValidationError, match="Additional properties"):
        jsonschema.validate(document | {"spec": document["spec"] | {"serveConfig": ""}}, SCHEMA)


def test_ray_serve_knows_what_it_is_told(config: dict) -> None:
    """By Ray Serve's own schema."""
    schema = pytest.importorskip("ray.serve.schema").ServeDeploySchema
    read = schema.model_validate(config)
    assert [one.name for one in read.applications] == ["ponder"]
    assert str(read.proxy_location.value) == "EveryNode"


def test_the_application_is_there_and_its_arguments_are_settings(config: dict) -> None:
    """It is the one of deploy/ray/serve.yaml, with deployments of the same names, and has no keys among its arguments."""
    (application,) = config["applications"]
    (plain,) = yaml.safe_load((ROOT / "deploy/ray/serve.yaml").read_text(encoding="utf-8"))["applications"]
    for field in ("import_path", "name", "route_prefix"):
        assert application[field] == plain[field]
    assert [one["name"] for one in application["deployments"]] == [one["name"] for one in plain["deployments"]]
    module, _, name = application["import_path"].partition(":")
    assert callable(getattr(import_module(module), name))
    settings = Settings(**application["args"])
    assert settings.max_request_seconds < settings.drain_seconds
    assert not any("key" in argument for argument in application["args"])


def test_every_replica_has_a_worker(cluster: dict, config: dict) -> None:
    """A worker has the GPU of one replica, and the head has no processors to give."""
    (workers,) = cluster["workerGroupSpecs"]
    settings = Settings(**config["applications"][0]["args"])
    assert (workers["minReplicas"], workers["maxReplicas"]) == (settings.ray_replicas, settings.ray_max_replicas)
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == str(settings.ray_gpus)
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_it_is_the_ray_of_the_image(cluster: dict) -> None:
    """The version is that of the lock file, and ports of Ray need its token."""
    locked = re.search(r"^ray==(\S+)$", (ROOT / "locks/ray.txt").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert cluster["rayVersion"] == locked
    assert cluster["authOptions"] == {"mode": "token"}
    assert "locks/ray.txt" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_pods_are_restricted_and_alike(pods: dict[str, dict], example: dict) -> None:
    """They differ in what they compute with. Keys come from the Secret; what Ray and vLLM write is in volumes."""
    head, worker = (spec["containers"][0] for spec in pods.values())
    for spec, container in ((pods["head"], head), (pods["worker"], worker)):
        assert (spec["securityContext"]["runAsNonRoot"], spec["securityContext"]["runAsUser"]) == (True, 10001)
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert container["image"] == "ponder:cuda-ray"
        paths = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"/tmp", "/dev/shm", "/run/secrets", "/home/ponder/.cache"} <= paths
        folders = {one["value"] for one in container["env"] if one["name"].endswith("_DIR")}
        assert all(any(Path(folder).is_relative_to(path) for path in paths) for folder in folders)
    assert head["env"] == worker["env"]
    assert head["volumeMounts"] == worker["volumeMounts"]
    assert pods["head"]["volumes"] == pods["worker"]["volumes"]
    (keys,) = [volume["secret"] for volume in pods["head"]["volumes"] if volume["name"] == "keys"]
    assert keys["secretName"] == example["metadata"]["name"]
    assert {item["key"] for item in keys["items"]} < set(example["stringData"])


def test_variables_are_settings(pods: dict[str, dict], variables: set[str]) -> None:
    ours = {one["name"] for one in pods["head"]["containers"][0]["env"] if one["name"].startswith("PONDER_")}
    assert ours <= variables


def test_clients_reach_the_server_and_nothing_of_ray(documents: Documents) -> None:
    """Ray's own ports are open to its pods alone."""
    node, client = {"ray.io/is-ray-node": "yes"}, {"app": "a client"}
    for port in (8000, 6379, 8265, 10001, 52365):
        assert may_connect(documents, node, node, port, {"serve": 8000})
        assert may_connect(documents, client, node, port, {"serve": 8000}) is (port == 8000)

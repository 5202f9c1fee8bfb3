"""deploy/kubernetes/examples/several-nodes: a fleet whose replicas are groups of pods, by LeaderWorkerSet.

The schema is ours, as much of LeaderWorkerSet's as is used: no package has its own.
"""

import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import jsonschema
import kubernetes_validate
import pytest

from app.engine.vllm.options import EngineOptions
from tests.custom_resources import COUNT, strict_document, strict_object
from tests.rendered import OPERATOR, Documents, Render, may_connect, of_kind, workloads

GROUPS = "leaderworkerset.x-k8s.io/v1"
NAME, INDEX = "leaderworkerset.sigs.k8s.io/name", "leaderworkerset.sigs.k8s.io/worker-index"
GIVEN = {"LWS_GROUP_SIZE", "LWS_WORKER_INDEX", "LWS_LEADER_ADDRESS"}
"""The variables that LeaderWorkerSet sets in each container."""

POD = {"type": "object"}  # Kubernetes' own schema has it
SCHEMA = strict_document(
    GROUPS,
    "LeaderWorkerSet",
    strict_object(
        "leaderWorkerTemplate",
        replicas=COUNT,
        startupPolicy={"enum": ["LeaderCreated", "LeaderReady"]},
        leaderWorkerTemplate=strict_object(
            "workerTemplate",
            leaderTemplate=POD,
            workerTemplate=POD,
            size=COUNT,
            restartPolicy={"enum": ["RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None"]},
        ),
    ),
)


@pytest.fixture(scope="module")
def nodes(render: Render) -> Documents:
    return render("examples/several-nodes")


@pytest.fixture(scope="module")
def group(nodes: Documents) -> dict:
    return of_kind(nodes, "LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]


@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_documents_are_valid(nodes: Documents, group: dict, version: str) -> None:
    """Pods of a group are Kubernetes' own."""
    jsonschema.validate(of_kind(nodes, "LeaderWorkerSet"), SCHEMA)
    pods = [
        {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": group[name]}
        for name in ("leaderTemplate", "workerTemplate")
    ]
    for document in [*pods, *(one for one in nodes if one["apiVersion"] not in (GROUPS, OPERATOR))]:
        kubernetes_validate.validate(document, version, strict=True)


def test_a_misspelt_field_is_seen(nodes: Documents) -> None:
    document = of_kind(nodes, "LeaderWorkerSet")
    with pytest.raises(jsonschema.ValidationError, match="Additional properties"):
        jsonschema.validate(document | {"spec": document["spec"] | {"replica": 2}}, SCHEMA)


def test_all_pods_of_a_group_run_the_same_command(group: dict) -> None:
    """It is `ponder replica`, with options that vLLM's engine knows, and its sizes are those of the group."""
    leader, worker = (group[name]["spec"]["containers"][0] for name in ("leaderTemplate", "workerTemplate"))
    assert leader["command"] == ["ponder", "replica"]
    for field in ("command", "args", "image", "envFrom", "resources", "securityContext", "volumeMounts"):
        assert leader[field] == worker[field]
    assert group["leaderTemplate"]["spec"]["volumes"] == group["workerTemplate"]["spec"]["volumes"]
    assert set(re.findall(r"\$\((\w+)\)", " ".join(leader["args"]))) == GIVEN
    values = {
        "LWS_GROUP_SIZE": str(group["size"]),
        "LWS_WORKER_INDEX": "0",
        "LWS_LEADER_ADDRESS": "ponder-nodes-0.ponder-nodes",
    }
    words = tuple(re.sub(r"\$\((\w+)\)", lambda name: values[name[1]], word) for word in leader["args"])
    from app.engine.vllm.arguments import engine_arguments

    made = engine_arguments(EngineOptions(model="m", name="m", engine_args=words))
    assert (made.nnodes, made.pipeline_parallel_size, made.node_rank) == (group["size"], group["size"], 0)
    assert made.tensor_parallel_size == int(leader["resources"]["limits"]["nvidia.com/gpu"])
    assert made.master_addr == values["LWS_LEADER_ADDRESS"]


def test_only_the_first_pod_of_a_group_serves(nodes: Documents, group: dict) -> None:
    """It is the one that front ends find, and the one that is probed."""
    service = of_kind(nodes, "Service", "ponder-replica")["spec"]
    labels = group["leaderTemplate"]["metadata"]["labels"]
    assert service["selector"] == {**labels, INDEX: "0"}
    assert group["leaderTemplate"]["spec"]["containers"][0]["ports"][0]["name"] == service["ports"][0]["targetPort"]
    assert not {"ports", "livenessProbe", "readinessProbe", "startupProbe"} & set(
        group["workerTemplate"]["spec"]["containers"][0]
    )
    assert "ponder-replica" not in workloads(nodes)


def test_pods_of_a_group_reach_each_other_and_nobody_else_reaches_them(nodes: Documents, group: dict) -> None:
    """On every port, since vLLM chooses some of them."""
    pod = {**group["workerTemplate"]["metadata"]["labels"], NAME: "ponder-nodes"}
    front_end, client = {"app.kubernetes.io/name": "ponder"}, {"app.kubernetes.io/name": "a client"}
    for port in (8000, 29501, 41234):
        assert may_connect(nodes, pod, pod, port, {"http": 8000})
        assert may_connect(nodes, front_end, pod, port, {"http": 8000}) is (port == 8000)
        assert not may_connect(nodes, client, pod, port, {"http": 8000})


def test_groups_are_scaled_as_replicas_are(nodes: Documents) -> None:
    """The group counts as one."""
    scaled = of_kind(nodes, "HorizontalPodAutoscaler", "ponder-replica")["spec"]["scaleTargetRef"]
    assert scaled == {
        "apiVersion": GROUPS,
        "kind": "LeaderWorkerSet",
        "name": of_kind(nodes, "LeaderWorkerSet")["metadata"]["name"],
    }
    assert "replicas" not in of_kind(nodes, "LeaderWorkerSet")["spec"]


def test_all_read_the_same_settings(nodes: Documents, group: dict) -> None:
    """The config map has its name in every pod, with the hash of what is in it."""
    name = of_kind(nodes, "ConfigMap")["metadata"]["name"]
    assert all(
        group[pod]["spec"]["containers"][0]["envFrom"] == [{"configMapRef": {"name": name}}]
        for pod in ("leaderTemplate", "workerTemplate")
    )


def test_a_worker_ends_after_its_leader(group: dict) -> None:
    """Its preStop waits as long as the leader answers, which may still compute with it."""
    command = group["workerTemplate"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    leader = ThreadingHTTPServer(("127.1.9.1", 8000), Healthy)
    serving = Thread(target=leader.serve_forever)
    serving.start()
    waiting = subprocess.Popen([sys.executable, *command[1:]], env={"LWS_LEADER_ADDRESS": "127.1.9.1"})
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(2)
    finally:
        leader.shutdown()
        leader.server_close()
        serving.join()
    assert waiting.wait(20) == 0


class Healthy(BaseHTTPRequestHandler):
    """A server that is well."""

    def do_GET(self) -> None:
        """Answer `/health`."""
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write nothing."""

"""The pods of deploy/kubernetes as processes here: a front end and a replica with their own settings, secrets, volumes and rights.

Both have the user of the image, no capability, a root file system that is read-only, and the volumes of the manifests alone. What is not
the cluster's: addresses, names in /etc/hosts, and the store, which is Valkey without its pod.
"""

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.engine.weights.default_model import ensure_default_model
from app.settings import Settings
from tests.pods import Pod, can_run_pods
from tests.rendered import container_of, of_kind, rendered, workloads
from tests.tools import ROOT
from tests.valkey import Valkey

pytestmark = [pytest.mark.vllm, pytest.mark.skipif(not can_run_pods(), reason="it takes the rights of root, and mounts")]

ADAPTER = ROOT / "tests" / "data" / "adapters" / "red"
REPLICA, FRONT_END = "127.1.7.1", "127.1.7.2"
CLIENT, ADMIN = ({"Authorization": f"Bearer {key}"} for key in ("of-a-client", "of-an-administrator"))
START_S = 400


@pytest.fixture(scope="module")
def pods(tmp_path_factory) -> Iterator[dict[str, Pod]]:
    """Both, ready by their own probes."""
    folder: Path = tmp_path_factory.mktemp("pods")
    documents = rendered("overlays/fleet")
    config = of_kind(documents, "ConfigMap")["data"] | {"PONDER_KV_CACHE_GIB": "1", "PONDER_MAX_MODEL_LEN": "2048"}
    store = Valkey(folder / "valkey")
    store.start()
    secret = {
        "ponder_api_keys": "of-a-client",
        "ponder_admin_keys": "of-an-administrator",
        "ponder_replica_api_key": "between-them",
        "ponder_shared_state_url": store.url,
    }
    kept = folder / "ponder-replica" / "volumes" / "cache" / "ponder"  # it has started before; the front end makes its own
    model = ensure_default_model(Settings().cache_dir.expanduser(), print)
    shutil.copytree(model, kept / model.name)
    started: dict[str, Pod] = {}
    try:
        for name, address in (("ponder-replica", REPLICA), ("ponder", FRONT_END)):
            (folder / name).mkdir(exist_ok=True)
            started[name] = Pod(
                workloads(documents)[name], config, secret, address=address, hosts={"ponder-replica": REPLICA, "localhost": "127.0.0.1"},
                claims={"ponder-adapters": folder / "adapters"}, folder=folder / name,
            )  # fmt: skip
        for name, pod in started.items():
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                wait_for(pod, container_of(workloads(documents)[name])[probe]["httpGet"]["path"])
        yield started
    finally:
        statuses = [pod.stop() for pod in started.values()]
        store.kill()
    assert statuses == [0, 0]


def wait_for(pod: Pod, path: str) -> None:
    """Until a route answers as a probe wants it; without a key."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and pod.process.poll() is None:
        try:
            if httpx.get(f"{pod.url}{path}", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.3)
    pytest.fail(f"{path} of {pod.url}:\n{pod.log.read_text(errors='replace')[-4000:]}")


def ask(pods: dict[str, Pod], model: str = "smollm2-135m", **fields: Any) -> dict[str, Any]:
    """The reply of the front end to a question."""
    body = {"model": model, "messages": [{"role": "user", "content": "What is 17 + 25?"}], "max_tokens": 16, **fields}
    reply = httpx.post(f"{pods['ponder'].url}/v1/chat/completions", json=body, headers=CLIENT, timeout=100)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_they_have_no_rights(pods: dict[str, Pod]) -> None:
    """Their user is the image's, and they can gain no capability."""
    for pod in pods.values():
        told = Path(f"/proc/{pod.process.pid}/status").read_text(encoding="ascii")
        assert re.search(r"^Uid:\t10001\t10001\t10001\t10001$", told, re.MULTILINE)
        assert re.search(r"^CapBnd:\t0{16}$", told, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\t1$", told, re.MULTILINE)


def test_clients_keys_are_no_keys_of_replicas(pods: dict[str, Pod]) -> None:
    """The front end answers them, and has a key of its own for the replica."""
    assert ask(pods)["choices"][0]["message"]["content"]
    replica = pods["ponder-replica"].url
    statuses = [httpx.get(f"{replica}/v1/models", headers=headers).status_code for headers in ({}, CLIENT, ADMIN)]
    assert statuses == [401, 401, 401]


def test_an_adapter_that_the_front_end_takes_is_served_by_the_replica(pods: dict[str, Pod]) -> None:
    """It is read from the common volume, into which the replica cannot write. The store has agreed."""
    files = [("files", (path.name, path.read_bytes())) for path in sorted(ADAPTER.iterdir()) if path.suffix != ".md"]
    reply = httpx.post(f"{pods['ponder'].url}/v1/adapters", data={"name": "red"}, files=files, headers=ADMIN, timeout=100)
    assert reply.status_code == 201, reply.text
    assert "red red red" in ask(pods, "red", ponder={"strategy": "direct"})["choices"][0]["message"]["content"]
    (listed,) = httpx.get(f"{pods['ponder'].url}/v1/replicas", headers=ADMIN).json()["data"]
    assert any(one.startswith("red:") for one in listed["adapters"])
    assert httpx.get(f"{pods['ponder'].url}/ready").json() == {"status": "ready"}


def test_the_front_end_needs_little(pods: dict[str, Pod]) -> None:
    """It fits into the memory that it requests, starts no other process, and writes into no folder for temporary files."""
    front_end = pods["ponder"]
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{front_end.process.pid}/status").read_text(encoding="ascii"))
    requested = container_of(workloads(rendered("overlays/fleet"))["ponder"])["resources"]["requests"]["memory"]
    assert int(peak[1]) / 2**20 < int(requested.removesuffix("Gi"))
    assert not Path(f"/proc/{front_end.process.pid}/task/{front_end.process.pid}/children").read_text(encoding="ascii")
    assert front_end.written() == set()


def test_a_replica_that_ends_lets_its_branches_end(pods: dict[str, Pod]) -> None:
    """They are answered whole, though no other replica could go on with them; then it ends. Last, since it ends the replica."""
    replica = pods["ponder-replica"]
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(ask, pods, max_tokens=300, ignore_eos=True, ponder={"strategy": "best_of_n", "n": 2})
        deadline = time.monotonic() + 60
        while " 2.0" not in running(replica.url):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(replica.process.pid, signal.SIGTERM)
        assert reply.result()["ponder"]["branches"]["moved"] == 0
    assert reply.result()["usage"]["completion_tokens"] == 600
    assert replica.process.wait(Settings().drain_seconds + 60) == 0


def running(url: str) -> str:
    """The line of metrics that tells how many branches a replica runs."""
    return re.search(r"^vllm:num_requests_running.*$", httpx.get(f"{url}/metrics", timeout=30).text, re.MULTILINE)[0]

"""More than two hundred adapters, each wrong in one thing: all are refused by name, and none reaches the engine or the store."""

import httpx
import pytest

from adapters.weights import BaseModel
from app.engine.scripted import SMALL
from tests import malformed, peft_folder

pytestmark = pytest.mark.anyio

BASE = BaseModel("scripted", SMALL.num_layers, SMALL.linear_modules)


async def refused(client: httpx.AsyncClient, case: malformed.Case) -> str:
    """What is wrong with the answer; empty when nothing is."""
    response = await client.post("/v1/adapters", **case.request())
    if response.status_code not in (400, 404, 413):
        return f"{case.name}: {response.status_code} {response.text[:300]}"
    error = response.json()["error"]
    if not str(error["param"]).startswith(case.field) or not error["message"]:
        return f"{case.name}: {case.field} is not named: {error}"
    return ""


async def test_every_malformed_adapter_is_refused_by_name(serve, tmp_path) -> None:
    """The reply is a 4xx with the field at fault. The store is unchanged, and the adapter that is served goes on."""
    root = tmp_path / "import"
    cases = malformed.cases(BASE, root, max_rank=16)
    assert len(cases) >= 200
    assert len({case.name for case in cases}) == len(cases)
    settings = {"adapter_import_dir": root, "max_adapter_bytes": 1 << 23, "max_body_bytes": 1 << 20}
    async with serve(**settings) as served:
        good = peft_folder.write(root / "ours", BASE, rank=2)
        assert (await served.client.post("/v1/adapters", json={"name": "ours", "path": good.name})).status_code == 201
        held = dict(served.engine.adapters)
        before = {path for path in (tmp_path / "adapters").rglob("*") if path.name != ".incoming"}
        wrong = [text for case in cases if (text := await refused(served.client, case))]
        assert wrong == []
        assert served.engine.adapters == held
        assert {path for path in (tmp_path / "adapters").rglob("*") if path.name != ".incoming"} == before
        assert (await served.chat(model="ours")).status_code == 200


async def test_the_unspoiled_adapter_is_accepted(serve, tmp_path) -> None:
    """So each of the others is refused for the one thing that was spoiled."""
    parts = malformed.good(BASE)
    async with serve() as served:
        response = await served.client.post("/v1/adapters", **parts.case("good", "").request())
    assert response.status_code == 201, response.text

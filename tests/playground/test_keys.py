"""Who has keys, and what for."""

import httpx
from playwright.sync_api import expect

from adapters.weights import BaseModel
from app.engine.scripted import SMALL
from tests import peft_folder
from tests.example_policies import policy
from tests.playground.visitor import ask, finished

BASE = BaseModel("scripted", SMALL.num_layers, SMALL.linear_modules)


def test_a_key_is_asked_for_and_kept_in_this_tab_alone(site, look) -> None:
    with site(api_keys="secret") as served:
        page = look.at(served, expected=("401",))
        expect(page.locator("#key")).to_be_focused()
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key-form")).to_be_visible()
        page.fill("#key", "secret")
        page.keyboard.press("Enter")
        expect(page.locator("#key-form")).to_be_hidden()
        assert page.locator("#model option").all_text_contents() == ["scripted", "auto"]
        ask(page)
        finished(page)
        stored = page.evaluate("[Object.values(sessionStorage).includes('secret'), localStorage.length, document.cookie]")
        assert stored == [True, 0, ""]


def test_administration_is_loaded_with_its_key_only(site, look, tmp_path) -> None:
    """Nothing of it is asked for before the panel is opened; then a key is, and goes with these calls alone."""
    (tmp_path / "import").mkdir()
    for seed in (1, 2):
        peft_folder.write(tmp_path / "import" / f"red-{seed}", BASE, seed=seed)
    with site(admin_keys="admin", adapter_import_dir=tmp_path / "import") as served:
        admin = {"Authorization": "Bearer admin"}
        for seed in (1, 2):
            body = {"name": "red", "path": f"red-{seed}"}
            httpx.post(f"{served.url}/v1/adapters", json=body, headers=admin).raise_for_status()
        put = httpx.put(f"{served.url}/v1/policies/scripted", content=policy(model="scripted").model_dump_json(), headers=admin)
        put.raise_for_status()
        page = look.at(served, expected=("401",))
        sent: list[tuple[str, str | None]] = []
        page.on("request", lambda request: sent.append((request.url, request.headers.get("authorization"))))
        page.click("#open-admin")
        page.fill("#admin-key", "admin")
        page.keyboard.press("Enter")
        red = page.get_by_role("article", name="Adapter red")
        expect(red.locator(".versions .tag")).to_have_count(1)
        first, second = red.locator("li").all()
        expect(second).to_contain_text("served")
        first.get_by_role("button", name="Serve version").click()
        expect(first).to_contain_text("served")
        red.get_by_role("button", name="Remove red").click()
        assert httpx.get(f"{served.url}/v1/adapters", headers=admin).json()["data"], "asked once more before"
        red.get_by_role("button", name="Remove red").click()
        expect(red).to_have_count(0)
        kept = page.get_by_role("article", name="Policy of scripted")
        kept.get_by_role("button", name="Use none").click()
        expect(kept.locator(".tag")).to_have_text("none")
        assert httpx.get(f"{served.url}/v1/policies", headers=admin).json()["data"][0]["current"] is None
        assert {key for url, key in sent if "/v1/models" in url} == {None}
        assert page.locator("#model option").all_text_contents() == ["scripted", "auto"]

"""Versions on disk are immutable, named by their content, and there whole or not at all, whenever the process is killed."""

import hashlib
import json
import signal
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest

from adapters.errors import AdapterRefused
from adapters.upload import from_files, from_folder, from_operator_folder

MAX = 1 << 20
VERIFIER_PROMPT = {"template": "\nIs this answer correct (Yes or No)?", "yes": " Yes", "no": " No"}
PONDER_CONFIG = {"verifier_prompt": VERIFIER_PROMPT}
OLD_PONDER_CONFIG = {"inquiry": VERIFIER_PROMPT}


def put(store, folder: Path, name: str = "a"):
    return store.put(name, from_operator_folder(folder, MAX), "test")


def files(root: Path) -> set[str]:
    """Return all paths below a folder, without the folder for incomplete files."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.name != ".incoming"}


def test_a_version_is_its_content(store, folder) -> None:
    """The manifest describes it, the folder is named by the hash, and only known files are kept."""
    one = store()
    version, is_new = put(one, folder(seed=1, rank=2, modules=("q_proj", "v_proj"), lora_alpha=3, use_rslora=True))
    assert is_new
    assert (version.name, version.rank, version.alpha, version.use_rslora) == ("a", 2, 3.0, True)
    assert version.target_modules == ("q_proj", "v_proj")
    assert version.parameters == 2 * 2 * ((64 + 64) + (64 + 32))
    assert (version.base_model, version.declared_base, version.dtype) == ("scripted", "some/base", "F32")
    assert {path.name for path in one.path(version).iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "manifest.json",
    }  # fmt: skip
    assert one.path(version).name == version.version
    assert one.is_intact(version)
    assert one.check(version) is None
    assert version.verifier_prompt is None


def test_a_verifier_keeps_its_prompt(store, folder) -> None:
    """It is in the manifest, and in a file that is written again in the spelling that hashes know; after a restart too."""
    one = store()
    version, _ = put(one, folder(ponder_config=PONDER_CONFIG))
    assert version.verifier_prompt.model_dump() == VERIFIER_PROMPT
    assert json.loads((one.path(version) / "ponder.json").read_text()) == OLD_PONDER_CONFIG
    assert one.check(version) is None
    assert [stored.versions for stored in store().scan()] == [(version,)]


def test_a_chat_template_of_the_operator_is_content(store, folder) -> None:
    """It is hashed, written and in the manifest; the same weights without it are another version, and a change of it is noticed."""
    one, place = store(), folder()
    without, _ = put(one, place)
    (place / "chat_template.jinja").write_text("{{ messages }}<think>")
    version, is_new = put(one, place)
    assert is_new
    assert (version.chat_template, without.chat_template) == ("{{ messages }}<think>", None)
    assert version.version != without.version
    assert one.check(version) is None
    assert {stored for found in store().scan() for stored in found.versions} == {version, without}
    (one.path(version) / "chat_template.jinja").write_text("{{ other }}")
    assert "changed" in one.check(version)
    (one.path(version) / "chat_template.jinja").unlink()
    assert not one.is_intact(version)


@pytest.mark.parametrize("content", [b"\xff", b" " * 65_537])
def test_a_chat_template_is_a_small_text(store, folder, content: bytes) -> None:
    place = folder()
    (place / "chat_template.jinja").write_bytes(content)
    with pytest.raises(AdapterRefused):
        put(store(), place)


def test_a_client_brings_no_chat_template(store, folder) -> None:
    """A template is a program, which may run for ever: of uploads and imports it is left out."""
    one, place = store(), folder()
    (place / "chat_template.jinja").write_text("{% for one in range(10 ** 9) %}{% endfor %}")
    for name, write_files in {
        "files": from_files([(path.name, BytesIO(path.read_bytes())) for path in place.iterdir()], MAX),
        "import": from_folder(place.parent, place.name, MAX),
    }.items():
        version, _ = one.put(name, write_files, "test")
        assert version.chat_template is None
        assert not (one.path(version) / "chat_template.jinja").exists()


def test_the_verifier_prompt_is_content(store, folder) -> None:
    """The same weights with another prompt are another version. The same prompt in another spelling is the same version."""
    one = store()
    first, _ = put(one, folder("1", ponder_config=PONDER_CONFIG))
    spelled = folder("2")
    turned = {"verifier_prompt": dict(reversed(VERIFIER_PROMPT.items()))}
    (spelled / "ponder.json").write_text(json.dumps(turned).replace('" Yes"', '"\\u0020Yes"'), encoding="utf-8-sig")
    again, is_new = put(one, spelled)
    assert (again, is_new) == (first, False)
    others = [
        put(one, folder("3", ponder_config={"verifier_prompt": {**VERIFIER_PROMPT, "template": "Right?"}})),
        put(one, folder("4")),
    ]
    assert all(is_new for _, is_new in others)
    assert len({first.version, *(version.version for version, _ in others)}) == 3


def test_a_version_that_ponder_0_1_stored_keeps_its_id_and_is_served(store, folder) -> None:
    """0.1 wrote `inquiry` into `ponder.json`, which is in the hash, and into the manifest. The same adapter is not new today."""
    one = store()
    version, _ = put(one, folder(ponder_config=PONDER_CONFIG))
    place = one.path(version)
    stored = json.dumps(OLD_PONDER_CONFIG, indent=2).encode()
    config, weights = ((place / file).read_bytes() for file in ("adapter_config.json", "adapter_model.safetensors"))
    sized = b"".join(len(content).to_bytes(8, "little") + content for content in (stored, config))
    assert version.version == hashlib.sha256(b"\xff" * 8 + sized + weights).hexdigest()
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["inquiry"] = manifest.pop("verifier_prompt")
    (place / "manifest.json").write_text(json.dumps(manifest))
    (place / "ponder.json").write_bytes(stored)
    one.set_current("a", version)
    again = store()
    (found,) = again.scan()
    assert (found.versions, found.current) == ((version,), version.version)
    assert found.versions[0].verifier_prompt.model_dump() == VERIFIER_PROMPT
    assert again.check(found.versions[0]) is None
    assert [
        put(again, folder(name, ponder_config=spelling))
        for name, spelling in (("old", OLD_PONDER_CONFIG), ("new", PONDER_CONFIG))
    ] == [(version, False)] * 2


def test_versions_from_before_there_was_a_ponder_json_stay_valid(store, folder) -> None:
    """Without the file the hash covers config and weights, as it did at first. A manifest without a verifier prompt is read."""
    one = store()
    version, _ = put(one, folder())
    config, weights = ((one.path(version) / file).read_bytes() for file in ("adapter_config.json", "adapter_model.safetensors"))
    assert version.version == hashlib.sha256(len(config).to_bytes(8, "little") + config + weights).hexdigest()
    manifest = json.loads((one.path(version) / "manifest.json").read_text())
    del manifest["verifier_prompt"]
    (one.path(version) / "manifest.json").write_text(json.dumps(manifest))
    assert [stored.versions for stored in store().scan()] == [(version,)]
    assert one.check(version) is None


def test_the_same_content_twice_is_one_version(store, folder) -> None:
    """Fields that matter only to training make no difference. Other weights or another scale are another version."""
    one = store()
    first, _ = put(one, folder("1", seed=1))
    again, is_new = put(one, folder("2", seed=1, lora_dropout=0.5, base_model_name_or_path="other/name"))
    assert (again, is_new) == (first, False)
    others = [put(one, folder("3", seed=2)), put(one, folder("4", seed=1, lora_alpha=1)), put(one, folder("5", seed=1), "b")]
    assert all(is_new for _, is_new in others)
    assert len({first.version, others[0][0].version, others[1][0].version}) == 3


def test_only_what_was_checked_is_served(store, folder) -> None:
    """The config is written again without the fields that were not checked."""
    one = store()
    version, _ = put(one, folder(auto_mapping={"parent_library": "os"}, revision="../../etc"))
    config = json.loads((one.path(version) / "adapter_config.json").read_text())
    assert set(config) == {"peft_type", "task_type", "r", "lora_alpha", "use_rslora", "bias", "target_modules"}


def test_a_restart_finds_all_versions(store, folder) -> None:
    """It also finds which version each name stands for."""
    one = store()
    first, _ = put(one, folder("1", seed=1))
    second, _ = put(one, folder("2", seed=2))
    put(one, folder("3", seed=3), "b")
    one.set_current("a", second)
    one.set_current("a", first)
    stored = {stored.name: stored for stored in store().scan()}
    assert set(stored) == {"a", "b"}
    assert set(stored["a"].versions) == {first, second}
    assert stored["a"].current == first.version
    assert stored["b"].current is None


def test_removal_leaves_nothing(store, folder, tmp_path) -> None:
    """A version is removed, and then the whole name."""
    one = store()
    first, _ = put(one, folder("1", seed=1))
    second, _ = put(one, folder("2", seed=2))
    one.set_current("a", first)
    one.remove("a", second)
    assert [stored.versions for stored in one.scan()] == [(first,)]
    one.remove("a")
    assert one.scan() == []
    assert files(tmp_path / "root") == set()
    one.remove("a")  # again is no error


def test_a_refused_adapter_leaves_nothing(store, folder, tmp_path) -> None:
    """No file stays, neither under its name nor where it was received."""
    broken = folder()
    (broken / "adapter_model.safetensors").write_bytes(b"\x00" * 100)
    one = store()
    with pytest.raises(AdapterRefused):
        put(one, broken)
    assert files(tmp_path / "root") == set()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda place: (place / "adapter_model.safetensors").unlink(), "gone"),
        (lambda place: (place / "adapter_config.json").unlink(), "gone"),
        (lambda place: (place / "adapter_model.safetensors").write_bytes(b"x" * 10), "changed"),
        (lambda place: (place / "adapter_config.json").write_text("{}"), "changed"),
        (lambda place: (place / "ponder.json").unlink(), "gone"),
        (lambda place: (place / "ponder.json").write_text("{}"), "changed"),
        (
            lambda place: (place / "ponder.json").write_text(
                json.dumps({"verifier_prompt": {**VERIFIER_PROMPT, "yes": " No", "no": " Yes"}})
            ),
            "changed",
        ),
    ],
)
def test_damage_is_noticed_and_the_same_content_repairs_it(store, folder, damage, why: str) -> None:
    """It is noticed before the engine reads the files."""
    one = store()
    version, _ = put(one, folder(ponder_config=PONDER_CONFIG))
    damage(one.path(version))
    assert why in one.check(version)
    assert one.is_intact(version) == (
        why == "changed" and (one.path(version) / "adapter_model.safetensors").stat().st_size > 10
    )
    repaired, is_new = put(one, folder(ponder_config=PONDER_CONFIG))
    assert repaired.version == version.version
    assert is_new
    assert one.check(version) is None


@pytest.mark.parametrize("prompt", [None, {**VERIFIER_PROMPT, "template": "Wrong?"}])
def test_a_manifest_with_another_prompt_is_noticed(store, folder, prompt: object) -> None:
    """Requests are served by the manifest, but the hash does not cover it."""
    one = store()
    version, _ = put(one, folder(ponder_config=PONDER_CONFIG))
    manifest = json.loads((one.path(version) / "manifest.json").read_text())
    (one.path(version) / "manifest.json").write_text(json.dumps({**manifest, "verifier_prompt": prompt}))
    ((found,),) = [stored.versions for stored in one.scan()]
    assert "changed" in one.misfit(found)
    assert "changed" in one.check(found)


def test_a_ponder_json_that_is_put_beside_a_version_is_noticed(store, folder) -> None:
    """A version never changes after it was stored."""
    one = store()
    version, _ = put(one, folder())
    (one.path(version) / "ponder.json").write_text(json.dumps(PONDER_CONFIG))
    assert "changed" in one.check(version)


def test_another_base_model_is_noticed(store, folder, tmp_path) -> None:
    """A version that was stored for one model is not served on another."""
    from adapters.store import AdapterStore
    from adapters.weights import BaseModel

    version, _ = put(store(), folder(rank=8))
    other = AdapterStore(tmp_path / "root", BaseModel("other", 1, {"v_proj": (64, 32)}), max_rank=16)
    assert "does not fit other" in other.check(version)
    small = AdapterStore(tmp_path / "root", BaseModel("scripted", 2, {"v_proj": (64, 32)}), max_rank=4)
    assert "rank 8 is above 4" in small.check(version)


def test_every_file_is_on_disk_before_it_has_its_name(store, folder, monkeypatch) -> None:
    """So a power cut leaves whole files. A kill could not show this, since the system keeps what a killed process has written."""
    flushed: list[set[str]] = []
    monkeypatch.setattr("adapters.store.flush", lambda *paths: flushed.append({path.name for path in paths if path.exists()}))
    one = store(on_step=lambda step: flushed.append({step}))
    version, _ = put(one, folder(ponder_config=PONDER_CONFIG))
    names = {path.name for path in one.path(version).iterdir()}
    before = set().union(*flushed[: flushed.index({"renamed"})])
    assert "ponder.json" in names
    assert names <= before


def test_two_processes_do_not_clear_each_other(store, folder) -> None:
    """Files that another process is receiving at the moment are not removed."""
    first, second = store(), store()
    received = []

    def write_files(into: Path) -> None:
        second.scan()
        from_operator_folder(folder(), MAX)(into)
        received.append(into)

    version, _ = first.put("a", write_files, "test")
    assert first.is_intact(version)
    assert received


PROGRAM = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from adapters.upload import from_operator_folder
from adapters.store import AdapterStore
from adapters.weights import BaseModel
from app.engine.scripted import SMALL

left = int(sys.argv[1])
def on_step(step):
    global left
    if left == 0:
        print(step, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1

base = BaseModel("scripted", SMALL.num_layers, SMALL.linear_modules)
store = AdapterStore(Path({store!r}), base, max_rank=16, on_step=on_step)
first, second = (from_operator_folder(Path(path), 1 << 20) for path in ({first!r}, {second!r}))
one, _ = store.put("a", first, "test")
store.set_current("a", one)
two, _ = store.put("a", second, "test")
store.set_current("a", two)
store.set_current("a", one)
store.remove("a", two)
store.set_current("a", None)
store.remove("a")
print("done")
"""


@pytest.mark.timeout(300)
def test_a_kill_between_any_two_steps_leaves_a_whole_state(store, folder, tmp_path) -> None:
    """A process makes a series of changes and is killed after each step in turn. The next start always finds a valid state.

    Every version is whole, the name stands for one of them, no other files are left, and the same changes succeed afterwards.
    """
    first, second = folder("1", seed=1, ponder_config=PONDER_CONFIG), folder("2", seed=2)
    killed = []
    for number in range(100):
        root = tmp_path / f"root-{number}"
        program = PROGRAM.format(root=str(Path(__file__).parents[2]), store=str(root), first=str(first), second=str(second))
        run = subprocess.run([sys.executable, "-c", program, str(number)], capture_output=True, text=True, timeout=60)
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL, run.stderr
        killed.append(run.stdout.strip())
        after = type(store())(root, store()._base, max_rank=16)
        for stored in after.scan():
            assert stored.name == "a"
            assert all(after.check(version) is None for version in stored.versions)
            assert stored.current is None or stored.current in {version.version for version in stored.versions}
            kept = {"current"} if stored.current else set()
            assert {path.name for path in (root / "a").iterdir()} == kept | {version.version for version in stored.versions}
        assert not list((root / ".incoming").iterdir())
        version, _ = put(after, first)
        after.set_current("a", version)
        assert after.scan()[0].current == version.version
    assert {"staged", "received", "written", "placed", "renamed", "pointed", "set", "unset", "discarded"} <= set(killed)
    assert run.stdout.strip() == "done"

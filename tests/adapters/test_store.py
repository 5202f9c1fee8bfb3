"""Versions on disk: immutable, named by content, whole or not there, whatever kills the process."""

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.errors import AdapterRefused
from adapters.upload import from_trusted_folder

MAX = 1 << 20
INQUIRY = {"template": "\nIs this answer correct (Yes or No)?", "yes": " Yes", "no": " No"}
NOTES = {"inquiry": INQUIRY}


def put(store, folder: Path, name: str = "a"):
    return store.put(name, from_trusted_folder(folder, MAX), "test")


def files(root: Path) -> set[str]:
    """Everything beneath, but for the folder of what is under way."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.name != ".incoming"}


def test_a_version_is_its_content(store, folder) -> None:
    """The manifest tells what it is; the folder bears the hash; only the three files are kept, and notes where it came with some."""
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
    assert version.inquiry is None


def test_a_judge_keeps_how_it_was_taught_to_be_asked(store, folder) -> None:
    """In its manifest, and in a file that is written anew; after a restart too."""
    one = store()
    version, _ = put(one, folder(notes=NOTES))
    assert version.inquiry.model_dump() == INQUIRY
    assert json.loads((one.path(version) / "ponder.json").read_text()) == NOTES
    assert one.check(version) is None
    assert [shelf.versions for shelf in store().scan()] == [(version,)]


def test_the_inquiry_is_content(store, folder) -> None:
    """The same weights asked otherwise are another version; the same inquiry spelled otherwise is not."""
    one = store()
    first, _ = put(one, folder("1", notes=NOTES))
    spelled = folder("2")
    turned = {"inquiry": dict(reversed(INQUIRY.items()))}
    (spelled / "ponder.json").write_text(json.dumps(turned).replace('" Yes"', '"\\u0020Yes"'), encoding="utf-8-sig")
    again, is_new = put(one, spelled)
    assert (again, is_new) == (first, False)
    others = [put(one, folder("3", notes={"inquiry": {**INQUIRY, "template": "Right?"}})), put(one, folder("4"))]
    assert all(is_new for _, is_new in others)
    assert len({first.version, *(version.version for version, _ in others)}) == 3


def test_versions_from_before_there_were_notes_stay_valid(store, folder) -> None:
    """Without notes the hash is what it was, config and weights; a manifest that knows nothing of inquiries is read."""
    one = store()
    version, _ = put(one, folder())
    config, weights = ((one.path(version) / file).read_bytes() for file in ("adapter_config.json", "adapter_model.safetensors"))
    assert version.version == hashlib.sha256(len(config).to_bytes(8, "little") + config + weights).hexdigest()
    manifest = json.loads((one.path(version) / "manifest.json").read_text())
    del manifest["inquiry"]
    (one.path(version) / "manifest.json").write_text(json.dumps(manifest))
    assert [shelf.versions for shelf in store().scan()] == [(version,)]
    assert one.check(version) is None


def test_the_same_content_twice_is_one_version(store, folder) -> None:
    """Also when what matters only to training differs; other weights or another scale are another version."""
    one = store()
    first, _ = put(one, folder("1", seed=1))
    again, is_new = put(one, folder("2", seed=1, lora_dropout=0.5, base_model_name_or_path="other/name"))
    assert (again, is_new) == (first, False)
    others = [put(one, folder("3", seed=2)), put(one, folder("4", seed=1, lora_alpha=1)), put(one, folder("5", seed=1), "b")]
    assert all(is_new for _, is_new in others)
    assert len({first.version, others[0][0].version, others[1][0].version}) == 3


def test_what_is_served_is_what_was_checked(store, folder) -> None:
    """The config is written anew, with nothing in it that was not looked at."""
    one = store()
    version, _ = put(one, folder(auto_mapping={"parent_library": "os"}, revision="../../etc"))
    config = json.loads((one.path(version) / "adapter_config.json").read_text())
    assert set(config) == {"peft_type", "task_type", "r", "lora_alpha", "use_rslora", "bias", "target_modules"}


def test_a_restart_finds_what_was_there(store, folder) -> None:
    """Versions, and what each name stands for."""
    one = store()
    first, _ = put(one, folder("1", seed=1))
    second, _ = put(one, folder("2", seed=2))
    put(one, folder("3", seed=3), "b")
    one.set_current("a", second)
    one.set_current("a", first)
    shelves = {shelf.name: shelf for shelf in store().scan()}
    assert set(shelves) == {"a", "b"}
    assert set(shelves["a"].versions) == {first, second}
    assert shelves["a"].current == first.version
    assert shelves["b"].current is None


def test_removal_leaves_nothing(store, folder, tmp_path) -> None:
    """One version, then the name."""
    one = store()
    first, _ = put(one, folder("1", seed=1))
    second, _ = put(one, folder("2", seed=2))
    one.set_current("a", first)
    one.remove("a", second)
    assert [shelf.versions for shelf in one.scan()] == [(first,)]
    one.remove("a")
    assert one.scan() == []
    assert files(tmp_path / "root") == set()
    one.remove("a")  # again is no error


def test_a_refused_adapter_leaves_nothing(store, folder, tmp_path) -> None:
    """Neither under its name nor where it was received."""
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
            lambda place: (place / "ponder.json").write_text(json.dumps({"inquiry": {**INQUIRY, "yes": " No", "no": " Yes"}})),
            "changed",
        ),
    ],
)
def test_damage_is_noticed_and_the_same_content_mends_it(store, folder, damage, why: str) -> None:
    """Before the engine reads it."""
    one = store()
    version, _ = put(one, folder(notes=NOTES))
    damage(one.path(version))
    assert why in one.check(version)
    assert one.is_intact(version) == (
        why == "changed" and (one.path(version) / "adapter_model.safetensors").stat().st_size > 10
    )
    mended, is_new = put(one, folder(notes=NOTES))
    assert mended.version == version.version
    assert is_new
    assert one.check(version) is None


@pytest.mark.parametrize("inquiry", [None, {**INQUIRY, "template": "Wrong?"}])
def test_a_manifest_that_asks_otherwise_is_noticed(store, folder, inquiry: object) -> None:
    """It is what requests are served by, but it is not in the hash."""
    one = store()
    version, _ = put(one, folder(notes=NOTES))
    manifest = json.loads((one.path(version) / "manifest.json").read_text())
    (one.path(version) / "manifest.json").write_text(json.dumps({**manifest, "inquiry": inquiry}))
    ((found,),) = [shelf.versions for shelf in one.scan()]
    assert "changed" in one.misfit(found)
    assert "changed" in one.check(found)


def test_notes_put_beside_a_version_that_came_without_are_noticed(store, folder) -> None:
    """Versions never change."""
    one = store()
    version, _ = put(one, folder())
    (one.path(version) / "ponder.json").write_text(json.dumps(NOTES))
    assert "changed" in one.check(version)


def test_another_base_model_is_noticed(store, folder, tmp_path) -> None:
    """A version that was taken in for one model is not served on another."""
    from adapters.store import AdapterStore
    from adapters.weights import BaseModel

    version, _ = put(store(), folder(rank=8))
    other = AdapterStore(tmp_path / "root", BaseModel("other", 1, {"v_proj": (64, 32)}), max_rank=16)
    assert "does not fit other" in other.check(version)
    small = AdapterStore(tmp_path / "root", BaseModel("scripted", 2, {"v_proj": (64, 32)}), max_rank=4)
    assert "rank 8 is above 4" in small.check(version)


def test_every_file_is_on_disk_before_it_has_its_name(store, folder, monkeypatch) -> None:
    """What a power cut leaves is whole, notes included; a kill would not tell, since the system keeps what was written."""
    flushed: list[set[str]] = []
    monkeypatch.setattr("adapters.store.flush", lambda *paths: flushed.append({path.name for path in paths if path.exists()}))
    one = store(on_step=lambda step: flushed.append({step}))
    version, _ = put(one, folder(notes=NOTES))
    names = {path.name for path in one.path(version).iterdir()}
    before = set().union(*flushed[: flushed.index({"renamed"})])
    assert "ponder.json" in names
    assert names <= before


def test_two_processes_do_not_clear_each_other(store, folder) -> None:
    """What another process is just receiving is not rubbish."""
    first, second = store(), store()
    seen = []

    def fill(into: Path) -> None:
        second.scan()
        from_trusted_folder(folder(), MAX)(into)
        seen.append(into)

    version, _ = first.put("a", fill, "test")
    assert first.is_intact(version)
    assert seen


PROGRAM = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from adapters.upload import from_trusted_folder
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
first, second = (from_trusted_folder(Path(path), 1 << 20) for path in ({first!r}, {second!r}))
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
    """SIGKILL after each step in turn of a life of changes: what is found afterwards is one of the states that were ever right.

    Every version found is whole, the name stands for one that is there, nothing is left over, and the same changes go through then.
    """
    first, second = folder("1", seed=1, notes=NOTES), folder("2", seed=2)
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
        for shelf in after.scan():
            assert shelf.name == "a"
            assert all(after.check(version) is None for version in shelf.versions)
            assert shelf.current is None or shelf.current in {version.version for version in shelf.versions}
            kept = {"current"} if shelf.current else set()
            assert {path.name for path in (root / "a").iterdir()} == kept | {version.version for version in shelf.versions}
        assert not list((root / ".incoming").iterdir())
        version, _ = put(after, first)
        after.set_current("a", version)
        assert after.scan()[0].current == version.version
    assert {"staged", "received", "written", "placed", "renamed", "pointed", "set", "unset", "discarded"} <= set(killed)
    assert run.stdout.strip() == "done"

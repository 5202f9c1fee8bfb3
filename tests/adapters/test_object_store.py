"""Versions behind a URL: written by one machine, read by another, and never used unless they are whole."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from adapters.errors import AdapterFailed
from adapters.object_store import FILES, AdapterCache, ObjectStore, ObjectStoreFailed
from adapters.store import AdapterStore
from adapters.upload import from_operator_folder
from app.settings import ReplicaSettings, Settings
from tests import peft_folder
from tests.adapters.conftest import BASE, MAX_BYTES


@pytest.fixture
def objects(tmp_path) -> ObjectStore:
    """A store in a folder, behind a URL as any other."""
    return ObjectStore(f"file://{tmp_path}/objects/")


def store_of(tmp_path: Path, name: str, objects: ObjectStore | None) -> AdapterStore:
    """The store of one machine."""
    (tmp_path / name).mkdir(exist_ok=True)
    return AdapterStore(tmp_path / name, BASE, max_rank=16, objects=objects)


def added(store: AdapterStore, tmp_path: Path, name: str = "a", seed: int = 0):
    """A version of a made-up adapter."""
    folder = peft_folder.write(tmp_path / f"made-{seed}", BASE, seed=seed)
    return store.put(name, from_operator_folder(folder, MAX_BYTES), "test")[0]


def test_another_machine_finds_what_was_published(tmp_path, objects) -> None:
    """As the same version, and keeps it. What was not published is not there."""
    here, there = (store_of(tmp_path, name, objects) for name in ("here", "there"))
    version, other = added(here, tmp_path), added(store_of(tmp_path, "alone", None), tmp_path, seed=1)
    assert there.find("a", version.version) == version
    assert there.check(version) is None
    assert there.find("a", other.version) is None
    assert [one.name for one in there.scan()] == ["a"]
    here.remove("a", version)
    assert there.find("a", version.version) == version
    assert store_of(tmp_path, "later", objects).find("a", version.version) is None


def test_a_version_is_written_once_and_its_manifest_last(tmp_path, objects, monkeypatch) -> None:
    """So nobody finds half of it."""
    files = objects._files()
    written, put = [], type(files).put_file
    monkeypatch.setattr(
        type(files), "put_file", lambda self, *a, **k: (written.append(a[1].rpartition("/")[2]), put(self, *a, **k))
    )
    store = store_of(tmp_path, "here", objects)
    version = added(store, tmp_path)
    store.publish(version)
    ObjectStore(objects.url).put(version.key, store.path(version))
    assert written == [name for name in FILES if (store.path(version) / name).is_file()]
    assert written[-1] == "manifest.json"


def test_a_replica_reads_a_version_into_its_cache(tmp_path, objects) -> None:
    """Once, and only by URLs of its own store."""
    store = store_of(tmp_path, "here", objects)
    version = added(store, tmp_path)
    cache = AdapterCache(ObjectStore(objects.url), tmp_path / "cache")
    folder = cache.find(objects.url_of(version.key))
    assert folder is not None
    assert {path.name for path in folder.iterdir()} == {path.name for path in store.path(version).iterdir()}
    objects.remove("a")
    assert cache.find(objects.url_of(version.key)) == folder


HASH = "0" * 64


@pytest.mark.parametrize(
    "url",
    [
        "/etc",
        "file:///etc",
        "{store}/a",
        "{store}/../../etc",
        f"{{store}}/a/../{HASH}",
        f"{{store}}x/a/{HASH}",
        f"{{store}}/./{HASH}",
    ],
)
def test_a_replica_reads_nothing_else(tmp_path, objects, url) -> None:
    """Whoever calls it names only versions."""
    cache = AdapterCache(objects, tmp_path / "cache")
    assert cache.find(url.format(store=objects.url)) is None


def test_changed_content_is_not_used(tmp_path, objects) -> None:
    """The hash in the URL tells: by replicas, and by other front ends."""
    store = store_of(tmp_path, "here", objects)
    version = added(store, tmp_path)
    config = tmp_path / "objects" / "a" / version.version / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "lora_alpha": 1}))
    assert AdapterCache(objects, tmp_path / "cache").find(objects.url_of(version.key)) is None
    assert store_of(tmp_path, "there", objects).find("a", version.version) is None


def test_a_version_that_another_machine_removed_is_written_again(tmp_path, objects) -> None:
    """Whoever adds it once more has not told itself that it is there."""
    here, there = (store_of(tmp_path, name, ObjectStore(objects.url)) for name in ("here", "there"))
    version = added(here, tmp_path)
    assert there.find("a", version.version) == version
    there.remove("a")
    assert objects.fetch(version.key, tmp_path) is False
    added(here, tmp_path)
    assert there.find("a", version.version) == version


@pytest.mark.parametrize("left", [b"", b'{"name": "a"', b"{}"])
def test_a_manifest_that_a_kill_cut_off_is_none(tmp_path, objects, left) -> None:
    """The version is not there, nothing is kept of it, and it is written again."""
    here, there = (store_of(tmp_path, name, objects) for name in ("here", "there"))
    version = added(here, tmp_path)
    (tmp_path / "objects" / "a" / version.version / "manifest.json").write_bytes(left)
    assert there.find("a", version.version) is None
    assert AdapterCache(objects, tmp_path / "cache").find(objects.url_of(version.key)) is None
    here.publish(version)
    assert there.find("a", version.version) == version


def test_a_version_that_a_kill_left_half_removed_is_written_again(tmp_path, objects, monkeypatch) -> None:
    """Its manifest goes first, so what is left is no version."""
    store = store_of(tmp_path, "here", objects)
    version = added(store, tmp_path)
    files = objects._files()
    rm = type(files).rm
    removed: list[str] = []

    def killed(self, path, *args, **kwargs) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.extend([path] if isinstance(path, str) else path)
        rm(self, path, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(type(files), "rm", killed)
        with pytest.raises(KeyboardInterrupt):
            objects.remove(version.key)
    assert [path.rpartition("/")[2] for path in removed] == ["manifest.json"]
    store.publish(version)
    assert store_of(tmp_path, "there", objects).find("a", version.version) == version


def test_what_two_processes_read_at_once_is_read_by_both(tmp_path, objects, monkeypatch) -> None:
    """The later one finds the place taken, and uses what is there: a replica, and a front end."""
    version = added(store_of(tmp_path, "here", objects), tmp_path)
    fetch = ObjectStore.fetch
    cache = AdapterCache(ObjectStore(objects.url), tmp_path / "cache")
    there = store_of(tmp_path, "there", ObjectStore(objects.url))

    def overtaken(self, key, folder) -> bool:
        monkeypatch.setattr(ObjectStore, "fetch", fetch)
        AdapterCache(objects, tmp_path / "cache").find(objects.url_of(key))
        assert store_of(tmp_path, "there", objects).find("a", version.version) == version
        return fetch(self, key, folder)

    monkeypatch.setattr(ObjectStore, "fetch", overtaken)
    assert cache.find(objects.url_of(version.key)) == tmp_path / "cache" / "a" / version.version
    (tmp_path / "there" / "a").rename(tmp_path / "away")
    monkeypatch.setattr(ObjectStore, "fetch", overtaken)
    assert there.find("a", version.version) == version


def test_a_damaged_copy_is_fetched_again(tmp_path, objects) -> None:
    """A front end whose own manifest is cut off replaces the version by that of the store."""
    version = added(store_of(tmp_path, "here", objects), tmp_path)
    there = store_of(tmp_path, "there", objects)
    assert there.find("a", version.version) == version
    (there.path(version) / "manifest.json").write_bytes(b"")
    assert there.find("a", version.version) == version
    assert there.check(version) is None


def test_a_store_that_cannot_be_written_refuses_the_adapter(tmp_path) -> None:
    """Replicas could not read it. One that cannot be read is tried again."""
    (tmp_path / "file").write_text("no folder")
    broken = ObjectStore(f"file://{tmp_path}/file/objects")
    store = store_of(tmp_path, "here", broken)
    with pytest.raises(AdapterFailed, match="cannot be written"):
        added(store, tmp_path)
    assert store.scan() == []
    version = added(store_of(tmp_path, "alone", None), tmp_path)
    unknown = ObjectStore("nothing://bucket")
    with pytest.raises(ObjectStoreFailed, match="nothing"):
        unknown.fetch(version.key, tmp_path)
    assert store_of(tmp_path, "there", unknown).find("a", version.version) is None


@pytest.mark.parametrize(
    ("url", "why"),
    [("/folder", "a URL of a folder"), ("nothing://a", "cannot open"), ("s3://key:secret@a/b", "without a user")],
)
def test_urls_that_are_none(url, why) -> None:
    """They are refused at the start, of servers and of replicas."""
    for kind in (Settings, ReplicaSettings):
        with pytest.raises(ValidationError, match=why):
            kind(adapter_store_url=url)

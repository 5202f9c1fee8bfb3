"""The hub is asked for a model once, so that a start without a network ends soon."""

import contextlib
from pathlib import Path

import httpx2
import pytest
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from app.engine.vllm import hub

ANSWER = httpx2.Response(404, request=httpx2.Request("HEAD", "https://huggingface.co/owner/name/resolve/main/config.json"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were asked for."""
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("VLLM_USE_MODELSCOPE", raising=False)
    urls: list[str] = []
    monkeypatch.setattr(hub, "get_hf_file_metadata", urls.append)
    return urls


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (httpx2.ConnectError("[Errno -2] Name or service not known"), LocalEntryNotFoundError),
        (httpx2.ConnectTimeout("timed out"), LocalEntryNotFoundError),
        (RepositoryNotFoundError("404", response=ANSWER), RepositoryNotFoundError),
        (GatedRepoError("403", response=ANSWER), GatedRepoError),
        (RemoteEntryNotFoundError("no config.json", response=ANSWER), None),
        (FileMetadataError("no etag"), None),
    ],
)
def test_the_answer_of_the_hub(
    asked, monkeypatch: pytest.MonkeyPatch, answer: Exception, expected: type[Exception] | None
) -> None:
    """What a model without a config.json is, is left to vLLM."""

    def fail(url: str) -> None:
        asked.append(url)
        raise answer

    monkeypatch.setattr(hub, "get_hf_file_metadata", fail)
    with pytest.raises(expected) if expected else contextlib.nullcontext():
        hub.ask_hub("nobody/no-model")
    assert asked == ["https://huggingface.co/nobody/no-model/resolve/main/config.json"]


def test_models_elsewhere(asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, a store of another kind, and everything where the hub is not to be asked."""
    hub.ask_hub(str(tmp_path))
    hub.ask_hub("s3://bucket/model")
    monkeypatch.setenv("VLLM_USE_MODELSCOPE", "1")
    hub.ask_hub("nobody/no-model")
    monkeypatch.delenv("VLLM_USE_MODELSCOPE")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    hub.ask_hub("nobody/no-model")
    assert asked == []

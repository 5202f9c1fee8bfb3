"""Asks the hub for a model once: transformers would ask a hub that cannot be reached again and again, for minutes."""

import os
import re
from pathlib import Path

import httpx2  # the client of huggingface_hub
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
"""The form of a model's name on the hub. Models elsewhere have other names, such as s3://bucket/model."""


def ask_hub(model: str) -> None:
    """Ask the hub whether it has this model, unless it is a folder, is in the hub's cache, or the hub is not to be asked.

    Raises:
        RepositoryNotFoundError: the hub has no such model, or (`GatedRepoError`) does not give it to everybody.
        LocalEntryNotFoundError: the hub cannot be reached.

    """
    is_elsewhere = Path(model).exists() or not _NAME.fullmatch(model) or os.environ.get("VLLM_USE_MODELSCOPE")
    if is_elsewhere or constants.HF_HUB_OFFLINE or isinstance(try_to_load_from_cache(model, "config.json"), str):
        return
    try:
        get_hf_file_metadata(hf_hub_url(model, "config.json"))
    except RepositoryNotFoundError:
        raise
    except (HfHubHTTPError, FileMetadataError):
        return  # of the file or its revision; vLLM looks for files of other names too
    except (httpx2.TransportError, OSError) as error:
        raise LocalEntryNotFoundError(str(error)) from error

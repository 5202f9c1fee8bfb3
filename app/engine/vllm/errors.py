"""From vLLM's errors to ours."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jinja2 import TemplateError
from pydantic import ValidationError
from vllm.exceptions import VLLMClientError, VLLMError
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from adapters.errors import AdapterFailed
from app.engine.base import Branch
from app.engine.vllm.post_mortem import PostMortem
from app.errors import EngineDead, InvalidRequest, PonderError
from app.faults import describe
from app.images.loading import has_images

logger = logging.getLogger("ponder.engine")


@contextmanager
def request_errors(post_mortem: PostMortem | None = None) -> Iterator[None]:
    """Turn vLLM's errors into ours: mistakes of the client into `InvalidRequest`, failures of the engine into `EngineDead`."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        where, message = describe(error.errors())
        parameter = where or getattr(first.get("ctx", {}).get("error"), "parameter", None)
        raise InvalidRequest(f"{where}: {message}" if where else message, parameter=parameter) from error
    except VLLMClientError as error:
        raise InvalidRequest(str(error), parameter=getattr(error, "parameter", None)) from error
    except EngineDeadError as error:
        is_known = post_mortem is not None and post_mortem.ran_out_of_memory
        raise EngineDead("The engine died: the memory was too small." if is_known else "The engine died.") from error
    except EngineGenerateError as error:
        # vLLM wraps what goes wrong in `generate` in this error; wrong sampling parameters are the client's fault.
        if isinstance(error.__cause__, ValueError | TypeError | VLLMError):
            raise InvalidRequest(str(error.__cause__)) from error
        raise EngineDead("The engine failed to generate.") from error
    except TimeoutError as error:
        raise InvalidRequest("messages: the chat template took too long to render them", parameter="messages") from error
    except TemplateError as error:
        raise InvalidRequest(f"messages: the chat template cannot be used: {error}", parameter="messages") from error
    except (ValueError, TypeError) as error:
        # vLLM's renderer and sampling parameters refuse what a client sent with these.
        raise InvalidRequest(str(error)) from error


@contextmanager
def image_errors(body: Mapping[str, Any]) -> Iterator[None]:
    """Turn what the model's image processor raises into `InvalidRequest`, where there are images.

    Processors are of many authors. They raise errors of all kinds for sizes that they cannot work with, and vLLM one with a dump of all
    data around them.
    """
    try:
        yield
    except (PonderError, VLLMClientError):
        raise
    except Exception as error:
        if not has_images(body):
            raise
        cause = error.__cause__ or error
        logger.warning("an image processor failed with %s", type(cause).__name__)  # the traceback has the prompt
        message = f"messages: the model cannot work with these images: {str(cause)[:300]}"
        raise InvalidRequest(message, parameter="messages") from error


@contextmanager
def form_errors(request: Any) -> Iterator[None]:
    """Let the errors of vLLM's checks name the field of a schema, pattern or grammar, where they name none."""
    try:
        yield
    except VLLMClientError as error:
        field = getattr(error, "parameter", None) or _form_field(request)
        raise InvalidRequest(f"{field}: {error}", parameter=field) from error


def impossible_form(branch: Branch) -> InvalidRequest:
    """Return the error for a schema, pattern or grammar that passed vLLM's checks, and that no text fulfils."""
    field = _form_field(branch.prompt.request)
    return InvalidRequest(
        f"{field}: no answer can have this form, for example because a $ref leads to itself.", parameter=field
    )


def _form_field(request: Any) -> str:
    """Return the field of a request that gives its answer a form."""
    response_format = getattr(request, "response_format", None)
    if response_format is not None and response_format.type != "text":
        return "response_format"
    return "tools" if getattr(request, "tools", None) else "structured_outputs"


@contextmanager
def adapter_errors() -> Iterator[None]:
    """Turn every error of vLLM into `AdapterFailed`, but `EngineDead` where the engine died of it."""
    try:
        yield
    except (AdapterFailed, EngineDead):
        raise
    except EngineDeadError as error:
        raise EngineDead("The engine died.") from error
    except Exception as error:
        # The message may hold a whole traceback of the worker process; its last line says what was wrong.
        message = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise AdapterFailed(f"The engine refused it: {message[:500]}") from error

"""`/v1/adapters`: add, list, switch and delete LoRA adapters while the server runs. vLLM's two routes for adapters are here too.

All these routes need a key for administration. No uploaded file is executed; `adapters.upload` describes which files are accepted.
"""

from contextlib import AsyncExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError
from starlette.datastructures import FormData, UploadFile

from adapters.config import CONFIG_FILE
from adapters.errors import AdapterRefused
from adapters.names import AdapterRef, RegisteredAdapter
from adapters.registry import AdapterRegistry
from adapters.upload import MAX_ENTRIES, WriteFiles, from_archive, from_files, from_folder
from adapters.verifier_prompt import PONDER_CONFIG_FILE
from adapters.version import AdapterVersion
from adapters.weights import WEIGHTS_FILE
from app.api.access import changer
from app.api.body import ClosedBody
from app.api.errors import RESPONSES
from app.api.pools import pools_of
from app.errors import Forbidden, InvalidRequest, NotFound
from app.settings import Settings
from app.telemetry.adapter_metrics import state_of

router = APIRouter(
    dependencies=[Depends(changer)], responses={status: RESPONSES[status] for status in (400, 401, 403, 404, 409, 410, 503)}
)

Name = Annotated[str, Field(min_length=1, max_length=64)]


class ImportBody(ClosedBody):
    """The name of a new adapter, its path inside the server's import folder, and the base model; the server's first one by default."""

    name: Name
    path: Annotated[str, Field(min_length=1, max_length=4096)]
    activate: bool = True
    base_model: Annotated[str | None, Field(max_length=512)] = None


class ActivateBody(ClosedBody):
    """The version that is served under the adapter's name from now on: its hash, or at least the first eight digits of the hash."""

    version: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]


class LoadBody(ClosedBody):
    """vLLM's body of `/v1/load_lora_adapter`."""

    lora_name: Name
    lora_path: Annotated[str, Field(min_length=1, max_length=4096)]
    load_inplace: bool = False
    is_3d_lora_weight: bool = False


class UnloadBody(ClosedBody):
    """vLLM's body of `/v1/unload_lora_adapter`."""

    lora_name: Name
    lora_int_id: int | None = None


_PUSH = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": ImportBody.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"},
                        "activate": {"type": "boolean", "default": True},
                        "base_model": {"type": "string", "description": "a base model of the server; by default the first one"},
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": f"{CONFIG_FILE}, {WEIGHTS_FILE}, and {PONDER_CONFIG_FILE} of a verifier",
                        },
                        "archive": {"type": "string", "format": "binary", "description": "a zip of the same"},
                    },
                }
            },
        },
    }
}


@router.get("/v1/adapters")
async def list_adapters(request: Request) -> dict[str, Any]:
    """List all adapters with their versions, and how many versions the engines report to hold."""
    registries = _registries(request)
    return {
        "object": "list",
        "data": [_shown(registry, adapter) for registry in registries for adapter in registry.adapters()],
        "slots": {
            "total": sum(one.slots for one in registries),
            "held": sum([await one.num_held() for one in registries]),
        },
    }


@router.post(
    "/v1/adapters",
    status_code=201,
    openapi_extra=_PUSH,
    responses={200: {"description": "The server already has this version."}},
)
async def push(request: Request, response: Response) -> dict[str, Any]:
    """Add a version from the files of a peft folder, a zip of them, or a path inside the import folder. It is served at once by default."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    async with AsyncExitStack() as stack:
        if kind == "multipart/form-data":
            # FastAPI would read a declared form before it checks the key. So the form is not declared, and is read here.
            form = await stack.enter_async_context(request.form(max_files=MAX_ENTRIES, max_fields=8))
            name, write_files, source, activate = _upload(form, _settings(request).max_adapter_bytes)
            base = form.get("base_model")
        elif kind == "application/json":
            body = _parsed(await request.body())
            name, source, activate = body.name, f"import:{body.path[:1024]}", body.activate
            write_files, base = _import(request, body.path), body.base_model
        else:
            raise InvalidRequest("Send multipart/form-data with the adapter's files, or application/json with a path.")
        registry = _registry_for(request, name, str(base) if base else None)
        version, is_new = await registry.add(name, write_files, source=source, activate=activate)
    response.status_code = 201 if is_new else 200
    return {**_shown(registry, registry.adapter(name)), "version": version.version}


@router.get("/v1/adapters/{name}")
async def show(request: Request, name: str) -> dict[str, Any]:
    """Return one adapter, or one version of it as `name:sha8`."""
    ref = AdapterRef.parse(name)
    registry = _registry_with(request, ref.name)
    adapter = registry.adapter(ref.name)
    return _shown(registry, adapter) if ref.pin is None else _version(registry, adapter, adapter.find(ref))


@router.delete("/v1/adapters/{name}")
async def delete(request: Request, name: str) -> dict[str, Any]:
    """Delete an adapter, or one version of it as `name:sha8`. Running requests that use it are completed."""
    ref = AdapterRef.parse(name)
    await _registry_with(request, ref.name).remove(ref)
    return {"id": name, "object": "adapter", "deleted": True}


@router.post("/v1/adapters/{name}/activate")
async def activate(request: Request, name: str, body: ActivateBody) -> dict[str, Any]:
    """Serve another version under the adapter's name. Running requests keep the version that they began with."""
    registry = _registry_with(request, name)
    version = await registry.activate(name, body.version)
    return {**_shown(registry, registry.adapter(name)), "version": version.version}


@router.post("/v1/load_lora_adapter", response_class=Response)
async def load_lora_adapter(request: Request, body: LoadBody) -> Response:
    """Add a folder inside the import folder, as vLLM's route does. `load_inplace` adds a version, and overwrites none."""
    registry = _registry_for(request, body.lora_name, None)
    if not body.load_inplace and any(one.name == body.lora_name and one.current for one in registry.adapters()):
        message = (
            f"The lora adapter '{body.lora_name}' has already been loaded. "
            "If you want to load the adapter in place, set 'load_inplace' to True."
        )
        raise AdapterRefused(message, parameter="lora_name")
    if body.is_3d_lora_weight:
        raise AdapterRefused("Adapters of mixture-of-experts models are not supported.", parameter="is_3d_lora_weight")
    await registry.add(body.lora_name, _import(request, body.lora_path), source=f"import:{body.lora_path[:1024]}")
    return Response(f"Success: LoRA adapter '{body.lora_name}' added successfully.", media_type="text/plain")


@router.post("/v1/unload_lora_adapter", response_class=Response)
async def unload_lora_adapter(request: Request, body: UnloadBody) -> Response:
    """Stop serving an adapter, as vLLM's route does. Its versions are kept, and can be activated again."""
    await _registry_with(request, body.lora_name).deactivate(body.lora_name)
    return Response(f"Success: LoRA adapter '{body.lora_name}' removed successfully.", media_type="text/plain")


def _registries(request: Request) -> list[AdapterRegistry]:
    """Return the registries of all base models that can have adapters, or raise `NotFound` where none can."""
    if found := [service.adapters for service in pools_of(request) if service.adapters is not None]:
        return found
    raise NotFound("This server holds no adapters: it was started with PONDER_ADAPTER_SLOTS=0.")


def _registry_with(request: Request, name: str) -> AdapterRegistry:
    """Return the registry that has an adapter, or the first one, which will say that there is none."""
    registries = _registries(request)
    return next((one for one in registries if _has(one, name)), registries[0])


def _registry_for(request: Request, name: str, base: str | None) -> AdapterRegistry:
    """Return the registry to which an adapter is added: of the base model that is named, or else of the first one.

    Raises `NotFound`, or `AdapterRefused` where another base model has an adapter of that name: a name stands for one adapter.
    """
    holder = _registry_with(request, name)
    service = next((one for one in pools_of(request) if base in (None, one.names.base)), None)
    if service is None:
        raise NotFound(f"There is no base model `{base}`.", parameter="base_model")
    if service.adapters is None:
        raise NotFound(f"The model `{service.names.base}` holds no adapters: its `adapter_slots` is 0.", parameter="base_model")
    if holder is not service.adapters and _has(holder, name):
        message = f"Another base model of this server has an adapter `{name[:200]}`: delete it, or choose another name."
        raise AdapterRefused(message, parameter="name")
    return service.adapters


def _has(registry: AdapterRegistry, name: str) -> bool:
    return any(name == known.name for known in registry.adapters())


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _parsed(content: bytes) -> ImportBody:
    try:
        return ImportBody.model_validate_json(content)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


def _import(request: Request, path: str) -> WriteFiles:
    settings = _settings(request)
    if settings.adapter_import_dir is None:
        raise Forbidden("This server imports no paths: start it with PONDER_ADAPTER_IMPORT_DIR.", parameter="path")
    return from_folder(settings.adapter_import_dir, path, settings.max_adapter_bytes)


def _upload(form: FormData, max_bytes: int) -> tuple[str, WriteFiles, str, bool]:
    """Return (name, function that writes the files, source, whether to activate) from an upload form."""
    texts = {key: value for key, value in form.multi_items() if isinstance(value, str)}
    files = [(key, value) for key, value in form.multi_items() if isinstance(value, UploadFile)]
    if unknown := {*texts} - {"name", "activate", "base_model"} | {key for key, _ in files} - {"files", "archive"}:
        raise InvalidRequest("this field is not supported", parameter=min(unknown))
    if texts.get("activate", "true") not in ("true", "false"):
        raise InvalidRequest("`activate` is true or false", parameter="activate")
    archives = [file for key, file in files if key == "archive"]
    if len(archives) > 1 or bool(archives) == (len(archives) < len(files)):
        raise InvalidRequest("Send the adapter's files as `files`, or one zip as `archive`.", parameter="files")
    if archives:
        write_files, source = from_archive(archives[0].file, max_bytes), "upload:archive"
    else:
        write_files, source = from_files([(file.filename or "", file.file) for _, file in files], max_bytes), "upload:files"
    return texts.get("name", ""), write_files, source, texts.get("activate", "true") == "true"


def _shown(registry: AdapterRegistry, adapter: RegisteredAdapter) -> dict[str, Any]:
    return {
        "id": adapter.name,
        "object": "adapter",
        "state": state_of(adapter),
        "current": adapter.current and adapter.current.version,
        "awaited": adapter.awaited,
        "versions": [_version(registry, adapter, version) for version in adapter.versions.values()],
    }


def _version(registry: AdapterRegistry, adapter: RegisteredAdapter, version: AdapterVersion) -> dict[str, Any]:
    loaded = registry.loaded_version(version)
    described = version.model_dump(mode="json", exclude={"chat_template"})
    return {
        **described,
        "has_chat_template": version.chat_template is not None,
        "inquiry": described["verifier_prompt"],  # deprecated: its name in ponder 0.1
        "id": version.id,
        "object": "adapter.version",
        "is_current": version is adapter.current,
        "engine": loaded.state.value if loaded else None,
        "leases": loaded.leases if loaded else 0,
        "lost": adapter.unusable.get(version.version),
    }

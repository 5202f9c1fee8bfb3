"""`/v1/policies`: show, replace and roll back policies of `ponder calibrate` while requests are served."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from app.api.access import administrator, changer
from app.api.body import ClosedBody
from app.api.errors import RESPONSES
from app.api.pools import pools_of, service_of
from app.errors import InvalidRequest, NotFound
from app.routing.cascade_file import CASCADE, parse_cascade
from app.routing.policies import Policies, PolicyHistory, parse_policy
from app.routing.policy_file import PolicyFile
from app.serving.pools import Pools
from app.serving.service import Service

router = APIRouter(responses={status: RESPONSES[status] for status in (400, 401, 403, 404, 409, 503)})

_PUT = {"requestBody": {"required": True, "content": {"application/json": {"schema": PolicyFile.model_json_schema()}}}}


class ChooseBody(ClosedBody):
    """The policy to use: its number, 0 for the one that ships with the server, null for none."""

    number: Annotated[int, Field(ge=0)] | None


@router.get("/v1/policies", dependencies=[Depends(administrator)])
async def list_policies(request: Request) -> dict[str, Any]:
    """List the models and adapters that have policies."""
    found = {name: one for service in pools_of(request) for one in [_policies_of(service)] for name in one.names()}
    return {"object": "list", "data": [_summary(name, one.history(name)) for name, one in sorted(found.items())]}


@router.get("/v1/policies/{model}", dependencies=[Depends(administrator)])
async def show(request: Request, model: str) -> dict[str, Any]:
    """Return the whole policy in use, and the numbers of the earlier ones."""
    history = _policies(request, model).history(model)
    policy = None if history.file is None else history.file.model_dump(mode="json")
    return {**_summary(model, history), "drift": _drift(request, model, history), "policy": policy}


@router.put("/v1/policies/{model}", dependencies=[Depends(changer)], openapi_extra=_PUT)
async def put(request: Request, model: str) -> dict[str, Any]:
    """Use a policy from the next request on. A broken policy, or one for another model, is refused; then the old one stays in use."""
    if model == CASCADE:
        return await _put_cascade(pools_of(request), await request.body())
    service = service_of(request, model)
    file = parse_policy(await request.body())
    adapter = service.names.resolve_policy(model)
    if (mismatch := service.planning.planner.mismatch(adapter, file)) is not None:
        raise InvalidRequest(f"This policy is not for `{model}`: {mismatch}.", parameter="model")
    await service.planning.planner.policies.put(model, file)
    return _summary(model, service.planning.planner.policies.history(model))


@router.post("/v1/policies/{model}/choose", dependencies=[Depends(changer)])
async def choose(request: Request, model: str, body: ChooseBody) -> dict[str, Any]:
    """Roll back to an earlier policy, or to none."""
    policies = _policies(request, model)
    await policies.choose(model, body.number)
    return _summary(model, policies.history(model))


async def _put_cascade(pools: Pools, content: bytes) -> dict[str, Any]:
    file = parse_cascade(content)
    if len(set(pools.cascade.places(file).values())) < 2:
        raise InvalidRequest("This cascade is for other models: fewer than two of its members are served.", parameter="members")
    policies = _policies_of(pools.first)
    await policies.put(CASCADE, file)
    return _summary(CASCADE, policies.history(CASCADE))


def _drift(request: Request, model: str, history: PolicyHistory) -> dict[str, Any] | None:
    """Return what outcomes say of the policy in use; None where there is none, or where what it was made for is not served."""
    service = pools_of(request).with_policy(model)
    if history.policy is None:
        return None
    try:
        adapter = service.names.resolve_policy(model)
    except NotFound:
        return None
    drift = service.planning.planner.drift(adapter, history.policy)
    return {"is_left": drift.is_left, "evidence": round(drift.evidence, 3), "outcomes": round(drift.outcomes, 3)}


def _summary(name: str, history: PolicyHistory) -> dict[str, Any]:
    policy = history.policy
    return {
        "object": "ponder.policy",
        "model": name,
        "current": history.current,
        "numbers": [*([0] if history.shipped else []), *history.numbers],
        "made_for": None if policy is None else {"model": policy.file.model, "adapter": policy.file.adapter},
        "provenance": None if history.file is None else history.file.provenance,
    }


def _policies(request: Request, model: str) -> Policies:
    return _policies_of(pools_of(request).with_policy(model))


def _policies_of(service: Service) -> Policies:
    return service.planning.planner.policies

"""The reply of a dry run: what a request would do, and what it is expected to take."""

from dataclasses import asdict
from typing import Any

from app.api.replies import plan_fields
from app.routing.cascade import Member
from app.serving.preview import Preview


def preview(result: Preview) -> dict[str, Any]:
    """Return the body of a dry run's reply: the plan, its expected cost, and the budget of the request."""
    plan, run = result.planned.plan, result.predicted
    return {
        "object": "ponder.preview",
        "model": result.model,
        "ponder": {
            **plan_fields(result.planned),
            "difficulty": plan.difficulty_before,
            "alternatives": [one.model_dump(mode="json") for one in plan.alternatives],
            "answer_kind": result.planned.kind.value,
            "prompt_tokens": result.prompt_tokens,
            "predicted": {
                "branches": run.branches,
                "rounds": run.rounds,
                "tokens": run.cost.tokens,
                "flops": run.cost.flops,
                "seconds": None if run.cost.seconds is None else round(run.cost.seconds, 3),
                "answer_tokens": run.cost.answer_tokens,
            },
            "budget": asdict(result.budget),
            "members": [_member(one) for one in result.members],
            **({"cascade": [{"model": result.model, "why": result.why}]} if result.why else {}),
        },
    }


def _member(one: Member) -> dict[str, Any]:
    return {
        "model": one.name,
        "difficulty": round(one.difficulty.probability, 4),
        "estimator": one.difficulty.estimator,
        "flops": round(one.answer_flops),
    }

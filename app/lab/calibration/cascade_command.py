"""What `ponder cascade` does: it fits a cascade to the pools of several models, and reports what it is worth."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from adapters.disk import write_whole
from adapters.training.folders import exclusive_folder
from app.lab.calibration.cascade_report import cascade_page
from app.lab.calibration.cascade_runs import MeasuredMember
from app.lab.calibration.cascades import build_cascade
from app.lab.calibration.cross_validation import direct_flops
from app.lab.calibration.fitting import MIN_QUESTIONS
from app.lab.calibration.observed_questions import observe
from app.lab.calibration.options import CascadeOptions
from app.lab.calibration.pool import PoolRefused, read_pool
from app.lab.calibration.pooled_questions import PooledQuestion
from app.lab.progress import counting, say
from app.routing.pool_file import POOL
from strategies.answers.equivalence import Equivalence
from strategies.core.verifier import StrategyContext

ORDERS = 4
"""The number of orders of the samples of a question. Each is replayed at every price, for every member."""

CASCADE, REPORT = "cascade.json", "cascade.html"


def cascade(options: CascadeOptions) -> None:
    """Fit a cascade, and write it with a report.

    Raises:
        MachineRefused: the folder of the result cannot be written.
        PoolRefused: the pools do not belong together.
        RecipeRefused: another process works on the folder of the result.

    """
    with exclusive_folder(options.out), closing(Equivalence()) as equivalence:
        _cascade(options, equivalence)


def _cascade(options: CascadeOptions, equivalence: Equivalence) -> None:
    members = asyncio.run(read_members(options.pools, equivalence))
    num = len(members[0].observed)
    provenance = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"), "ponder": version("ponder"), "questions": num,
    }  # fmt: skip
    file, outcomes = build_cascade(members, provenance=provenance)
    write_whole(options.out / CASCADE, file.model_dump_json())
    write_whole(options.out / REPORT, cascade_page(members, file, outcomes))
    say(f"the cascade is {options.out / CASCADE}, the report {options.out / REPORT}")


async def read_members(folders: Sequence[Path], equivalence: Equivalence) -> list[MeasuredMember]:
    """Return the members of a cascade, cheapest first, with the questions that all of them have answered.

    Args:
        folders: the folder of each member.
        equivalence: of answers.

    Raises:
        PoolRefused: a file is no pool, two are of the same model, or they have too few questions in common.

    """
    pools = [read_pool(folder / POOL) for folder in folders]
    fields = [settings.model_dump(include={"model", "adapter", "architecture"}) for settings, _ in pools]
    for number, own in enumerate(fields):
        if own in fields[:number]:
            raise PoolRefused(f"{folders[fields.index(own)]} and {folders[number]} have the answers of the same model")
    by_key = [{entry.key: entry for entry in entries} for _, entries in pools]
    keys = [key for key in by_key[0] if all(key in one for one in by_key)]
    if len(keys) < MIN_QUESTIONS:
        raise PoolRefused(f"the pools have {len(keys)} questions in common; at least {MIN_QUESTIONS} are needed")
    members = []
    for folder, (settings, _), own, entries in zip(folders, pools, fields, by_key, strict=True):
        context = StrategyContext(equivalence=equivalence, vocab_size=settings.flops.vocab_size)
        with counting(f"trajectories of {folder}") as report:
            observed = await observe([PooledQuestion(entries[key], settings) for key in keys], context, report, ORDERS)
        members.append(MeasuredMember(own, observed))
    return sorted(members, key=lambda one: direct_flops(one.observed))

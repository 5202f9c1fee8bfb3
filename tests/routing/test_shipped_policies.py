"""The policies that come with the repository fit the shipped adapters, were measured, and are plausible."""

from pathlib import Path

import pytest

from adapters.config import CONFIG_FILE, read_config
from adapters.content import digest
from adapters.preload import SHIPPED as ADAPTERS
from adapters.weights import WEIGHTS_FILE
from app.lifespan import SHIPPED
from app.request import Effort
from app.routing.calibrated import CalibratedPolicy
from app.routing.policies import read_policy
from app.routing.policy import Query
from app.settings import DEFAULT_MODEL
from strategies.core.values import AnswerKind

SUMS = ("What is 3 + 4?", "Calculate 1 + 2 + 3.")
STORY = (
    "A farmer sells 17 crates for $12 each, spends a third of it on seed and shares the rest among his four sons. "
    "How much more does each get than the 23 dollars that he got a year ago, and in which month was that?"
)


@pytest.fixture(params=sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_there_is_one_for_the_shipped_adapter() -> None:
    """The shipped verifier needs no policy, since it answers no requests."""
    assert (SHIPPED / "reasoning.json").is_file()


def test_it_is_for_the_version_that_is_shipped(path: Path, tmp_path: Path) -> None:
    """The policy names the version as the server computes it when it registers the adapter."""
    shipped = ADAPTERS / DEFAULT_MODEL / path.stem
    (tmp_path / CONFIG_FILE).write_bytes(read_config(shipped / CONFIG_FILE).normalised())
    (tmp_path / WEIGHTS_FILE).symlink_to(shipped / WEIGHTS_FILE)
    file = read_policy(path)
    assert file.model == DEFAULT_MODEL
    assert file.adapter == digest(tmp_path, has_ponder_config=False, has_chat_template=False)
    assert {"made", "questions", "data_sha256", "how"} <= file.provenance.keys()


def test_its_efforts_are_prices(path: Path) -> None:
    """A FLOP costs less at a higher effort."""
    prices = read_policy(path).prices
    assert prices[Effort.LOW] > prices[Effort.MEDIUM] > prices[Effort.HIGH] > 0


def test_an_easy_sum_is_less_difficult_than_a_long_story(path: Path) -> None:
    policy = CalibratedPolicy(read_policy(path))

    def difficulty(question: str) -> float:
        return policy.plan(Query(kind=AnswerKind.MATH, effort=Effort.MEDIUM, question=question)).difficulty.probability

    assert max(map(difficulty, SUMS)) < difficulty(STORY)

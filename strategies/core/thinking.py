"""The thinking part of a reply: how a model marks it, and where it ends."""

from dataclasses import dataclass, replace

LONGEST_LANDING = 400
"""The most characters of a sentence that tells the model in its thinking to end it."""


@dataclass(frozen=True, slots=True)
class ExitThreshold:
    """At which confidence of a trial answer a thinking may end, measured for one model (`strategies.early_exit`).

    Attributes:
        confidence: how the probabilities of the answer's tokens were averaged: `mean`, `geometric` or `minimum`.
        transitions: the places where trials were made.
        threshold: the confidence, in [0, 1].

    """

    confidence: str
    transitions: tuple[str, ...]
    threshold: float


@dataclass(frozen=True, slots=True)
class Thinking:
    """How the model marks the thinking in its replies to one prompt.

    Attributes:
        start: the text that begins the thinking, such as `<think>`.
        end: the text that ends it, such as `</think>`.
        end_ids: the tokens that a server writes to end the thinking: those of `end`, or of a longer text with `end` in it.
        is_open: whether the prompt ends inside the thinking, so that the reply begins with thoughts.

    """

    start: str
    end: str
    end_ids: tuple[int, ...] = ()
    is_open: bool = True

    def split(self, text: str) -> tuple[str, str | None]:
        """Return the thinking and the answer of a text that was generated behind the prompt.

        The marks belong to neither. The answer is None while the text has not ended its thinking. A text that does not begin with
        thinking is an answer.
        """
        begins, has_start, rest = text.partition(self.start)
        if has_start and not begins.strip():
            text = rest
        elif not self.is_open:
            return "", text
        thought, has_end, answer = text.partition(self.end)
        return thought, answer if has_end else None

    def behind(self, text: str) -> "Thinking":
        """Return how replies mark their thinking when this text follows the prompt: a part of a reply, or a reply and another turn."""
        return replace(self, is_open=self.is_inside(text) or text.rstrip().endswith(self.start))

    def is_inside(self, text: str) -> bool:
        """Return whether a text that was generated behind the prompt ends inside its thinking."""
        return self.split(text)[1] is None

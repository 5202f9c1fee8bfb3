"""Rules by which vLLM's parsers are chosen from a model: its architecture, its name and its chat template. Imports nothing of vLLM."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

OFF = "none"
"""The setting that switches a parser off."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a parser is chosen: all that is given must hold. Each condition is a regular expression.

    Attributes:
        parser: vLLM's name of it.
        architecture: what the architecture's name begins with.
        name: what the model's name contains, in small letters.
        template: what the chat template contains.

    """

    parser: str
    architecture: str = ""
    name: str = ""
    template: str = ""

    def holds(self, architecture: str, name: str, template: str) -> bool:
        """Return whether the parser fits."""
        return bool(
            re.match(self.architecture, architecture)
            and re.search(self.name, name.lower())
            and re.search(self.template, template, re.DOTALL)
        )


def first_that_holds(rules: Iterable[Rule], architecture: str, name: str, template: str) -> str | None:
    """Return the parser of the first rule that holds, None where none does."""
    return next((rule.parser for rule in rules if rule.holds(architecture, name, template)), None)

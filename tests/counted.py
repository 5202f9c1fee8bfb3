"""Sums of a metrics page, for tests that compare what was counted in two places."""

from prometheus_client.parser import text_string_to_metric_families as read


class Counted:
    """The sums of a page, by name and labels."""

    def __init__(self, page: str) -> None:
        self.families = {family.name: family for family in read(page)}

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of this name with these labels."""
        family = self.families[name.removesuffix("_total")]
        chosen = [one for one in family.samples if one.name == name and labels.items() <= one.labels.items()]
        return sum(one.value for one in chosen)

    def has(self, name: str) -> bool:
        """Return whether the page has this name."""
        return name.removesuffix("_total") in self.families

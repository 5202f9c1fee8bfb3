"""What the reader of a dashboard chooses: where the data is, and what is shown of it."""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")


def source() -> dashboard.DatasourceVariable:
    """The Prometheus that is asked."""
    current = models.VariableOption(selected=True, text="Prometheus", value="prometheus")
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus").current(current)


def strategies() -> dashboard.QueryVariable:
    """One strategy, some, or all."""
    return _choice("strategy", "Strategy", "label_values(ponder_requests_total, strategy)")


def adapters() -> dashboard.QueryVariable:
    """One adapter, some, or all; all of them are the base model too, whose adapter is called nothing."""
    return _choice("adapter", "Adapter", "label_values(ponder_adapter_state, adapter)")


FILTERS = {"strategy": strategies, "adapter": adapters}
"""What a dashboard may let its reader choose from, by the names of the variables."""


def _choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    everything = models.VariableOption(selected=True, text="All", value="$__all")
    variable = dashboard.QueryVariable(name).label(label).datasource(SOURCE).query({"query": query, "refId": name})
    variable.include_all(True).all_value(".*").multi(True).current(everything)
    return variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)

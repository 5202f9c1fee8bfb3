"""The variables of the dashboards: the data source, and filters by strategy and adapter."""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")


def source() -> dashboard.DatasourceVariable:
    """Return the variable of the Prometheus that is queried."""
    current = models.VariableOption(selected=True, text="Prometheus", value="prometheus")
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus").current(current)


def strategies() -> dashboard.QueryVariable:
    """Return the filter by strategy: one, some, or all."""
    return _choice("strategy", "Strategy", "label_values(ponder_requests_total, strategy)")


def adapters() -> dashboard.QueryVariable:
    """Return the filter by adapter: one, some, or all. All includes the base model, whose adapter label is empty."""
    return _choice("adapter", "Adapter", "label_values(ponder_adapter_state, adapter)")


FILTERS = {"strategy": strategies, "adapter": adapters}
"""The filters that a dashboard can have, by the names of their variables."""


def _choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    everything = models.VariableOption(selected=True, text="All", value="$__all")
    variable = dashboard.QueryVariable(name).label(label).datasource(SOURCE).query({"query": query, "refId": name})
    variable.include_all(True).all_value(".*").multi(True).current(everything)
    return variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)

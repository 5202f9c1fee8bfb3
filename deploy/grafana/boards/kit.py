"""The parts of the dashboards: a few kinds of panel with one look, rows of panels, and PromQL queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmaps
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from boards.variables import FILTERS, SOURCE, source

TAG = "ponder"

FLOP = "si:FLOP"  # Grafana writes GFLOP, TFLOP, … before it
FLOPS = "flops"
SHARE = "percentunit"

BOTH = 'strategy=~"$strategy", adapter=~"$adapter"'
STRATEGY = 'strategy=~"$strategy"'
ADAPTER = 'adapter=~"$adapter"'

BY_NAME = "palette-classic-by-name"  # a strategy has one colour on all panels

P = TypeVar("P", timeseries.Panel, stat.Panel, heatmap.Panel, statetimeline.Panel)
Limits = Sequence[tuple[float, str]]
"""Pairs of a value and the colour that a figure has from that value on; below the first it is green."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Panels beneath a title. A collapsed row sends no queries until it is opened."""

    title: str
    panels: Sequence[Any]
    collapsed: bool = False


@dataclass(frozen=True, kw_only=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    filters: Sequence[str] = ("strategy", "adapter")

    def build(self) -> models.Dashboard:
        """Return the dashboard as Grafana reads it, with every panel numbered and placed."""
        board = (
            dashboard.Dashboard(self.title)
            .uid(self.uid)
            .description(self.description)
            .tags([TAG])
            .readonly()
            .timezone("browser")
            .time("now-1h", "now")
            .refresh("30s")
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .link(_others())
            .with_variable(source())
        )
        for name in self.filters:
            board.with_variable(FILTERS[name]())
        number = 0
        for row in self.rows:
            header = dashboard.Row(row.title).id(number := number + 1).collapsed(row.collapsed)
            numbered = [_unfiltered(panel, self.filters).id(number := number + 1) for panel in row.panels]
            if row.collapsed:
                for panel in numbered:
                    header.with_panel(panel)
            board.with_row(header)
            if not row.collapsed:
                for panel in numbered:
                    board.with_panel(panel)
        return board.build()


def rate(metric: str, labels: str = BOTH, by: str = "") -> str:
    """Return the query of a counter's rate, summed by the labels `by`."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{labels}}}[$__rate_interval]))"


def answers(labels: str = BOTH, by: str = "") -> str:
    """Return the query of the rate of answered requests."""
    return rate("ponder_requests_total", f'{labels}, outcome="completed"', by)


def quantile(share: float, histogram: str, labels: str, by: str = "", window: str = "$__rate_interval") -> str:
    """Return the query of a histogram's quantile, by the labels `by`."""
    grouping = f"{by}, le" if by else "le"
    return f"histogram_quantile({share:g}, sum by ({grouping}) (rate({histogram}_bucket{{{labels}}}[{window}])))"


def mean(histogram: str, labels: str, by: str = "") -> str:
    """Return the query of a histogram's mean, by the labels `by`."""
    return f"{rate(f'{histogram}_sum', labels, by)} / {rate(f'{histogram}_count', labels, by)}"


def named(expr: str) -> str:
    """Return the query with a name for the base model, whose adapter label is empty."""
    return f'label_replace({expr}, "adapter", "base model", "adapter", "")'


def lines(
    title: str,
    unit: str,
    description: str,
    *queries: tuple[str, str],
    width: int = 8,
    stacked: bool = False,
    bars: bool = False,
    exemplars: bool = False,
    top: float | None = None,
    has_signs: bool = False,
    limits: Limits = (),
    colours: dict[str, str] | None = None,
) -> timeseries.Panel:
    """Return a panel of values over time.

    `queries` are pairs of a query and the name of its series. Shares of a whole are stacked; rare events are drawn as bars.
    """
    panel = _dressed(timeseries.Panel(), title, unit, description, queries, width=width, height=8, exemplars=exemplars)
    panel.line_width(1).fill_opacity(25 if stacked else 8).show_points(shapes.VisibilityMode.NEVER)
    panel.legend(_legend()).tooltip(_tooltip()).thresholds(_thresholds(limits)).color_scheme(_colour(BY_NAME))
    if limits:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(shapes.GraphTresholdsStyleMode.DASHED))
    if stacked:
        panel.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL))
    if bars:
        panel.draw_style(shapes.GraphDrawStyle.BARS).fill_opacity(60)
    if not has_signs:
        panel.min(0)
    if top is not None:
        panel.max(top)
    for name, colour in (colours or {}).items():
        panel.override_by_name(name, [models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})])
    return panel


def figure(
    title: str,
    unit: str,
    description: str,
    query: str,
    *,
    width: int = 4,
    limits: Limits = (),
    decimals: int | None = None,
) -> stat.Panel:
    """Return a panel of the last value in large digits, with a graph behind it."""
    panel = _dressed(stat.Panel(), title, unit, description, [(query, title)], width=width, height=4)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).thresholds(_thresholds(limits))
    panel.color_scheme(_colour("thresholds")).graph_mode(shapes.BigValueGraphMode.AREA).no_value("none yet")
    if decimals is not None:
        panel.decimals(decimals)
    return panel


def heat_map(title: str, unit: str, description: str, histogram: str, labels: str, *, width: int = 8) -> heatmap.Panel:
    """Return a heat map: how many values fell into each bucket of a histogram, over time."""
    query = f"sum by (le) (increase({histogram}_bucket{{{labels}}}[$__rate_interval]))"
    panel = _dressed(heatmap.Panel(), title, unit, description, [(query, "{{le}}")], width=width, height=8, exemplars=True)
    panel.calculate(False).y_axis(heatmap.YAxisConfig().unit(unit)).cell_gap(1).filter_values(
        heatmap.FilterValueRange().le(1e-9)
    )
    panel.color(heatmap.HeatmapColorOptions().mode(heatmaps.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
    return panel.show_legend().show_tooltip()


def states(title: str, description: str, *queries: tuple[str, str], words: dict[str, tuple[str, str]]) -> statetimeline.Panel:
    """Return a panel of the state of each series over time. `words` gives each state's name and colour by its value."""
    panel = _dressed(statetimeline.Panel(), title, "none", description, queries, width=12, height=8)
    panel.line_width(0).fill_opacity(70).mappings([_mapping(words)]).merge_values(True).show_value(
        shapes.VisibilityMode.AUTO
    ).legend(_legend(calcs=()))
    return panel.color_scheme(_colour("thresholds")).thresholds(_thresholds(()))


def _unfiltered(panel: P, filters: Sequence[str]) -> P:
    """Return the panel with a description that says which filters do not apply to it, such as "All adapters"."""
    built = panel.build()
    names = {"strategy": "strategies", "adapter": "adapters"}
    ignored = [names[name] for name in filters if not all(f"${name}" in target.expr for target in built.targets)]
    return panel.description(f"{built.description} All {' and '.join(ignored)}.") if ignored else panel


def _others() -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("ponder").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.include_vars(True).keep_time(True).tooltip("The other dashboards, at the same time and with the same choices")


def _dressed(
    panel: P,
    title: str,
    unit: str,
    description: str,
    queries: Sequence[tuple[str, str]],
    *,
    width: int,
    height: int,
    exemplars: bool = False,
) -> P:
    kind = PromQueryFormat.HEATMAP if isinstance(panel, heatmap.Panel) else PromQueryFormat.TIME_SERIES
    panel.title(title).description(description).unit(unit).datasource(SOURCE).span(width).height(height)
    for letter, (expr, name) in zip("ABCDEFGH", queries, strict=False):
        query = prometheus.Dataquery().expr(expr).legend_format(name).ref_id(letter).range()
        panel.with_target(query.exemplar(exemplars).format(kind).datasource(SOURCE))
    return panel


def _legend(calcs: Sequence[str] = ("mean", "max")) -> common.VizLegendOptions:
    legend = common.VizLegendOptions().show_legend(True).placement(shapes.LegendPlacement.BOTTOM).calcs(list(calcs))
    return legend.display_mode(shapes.LegendDisplayMode.TABLE if calcs else shapes.LegendDisplayMode.LIST)


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI).sort(shapes.SortOrder.DESCENDING)


def _colour(mode: str) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(models.FieldColorModeId(mode))


def _thresholds(limits: Limits) -> dashboard.ThresholdsConfig:
    steps = [
        models.Threshold(value=None, color="green"),
        *(models.Threshold(value=value, color=colour) for value, colour in limits),
    ]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _mapping(words: dict[str, tuple[str, str]]) -> models.ValueMap:
    options = {
        value: models.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(words.items())
    }
    return models.ValueMap(options=options)

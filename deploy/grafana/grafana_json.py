"""Panels as Grafana's JSON: how, not what. What is shown is in `make_dashboard.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Kind", "Panel", "Query", "Row", "Variable", "dashboard"]

_SCHEMA = 39
"""The form of Grafana 11; later ones read it as well."""
_COLUMNS = 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Kind(StrEnum):
    """What a panel looks like."""

    LINES = "timeseries"
    NUMBER = "stat"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Query:
    """A question to Prometheus, and how its series are named."""

    expr: str
    legend: str = "__auto"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Args:
        title: What it shows, in a few words.
        description: What it means, and when to worry.
        unit: Grafana's name of the unit.
        queries: What is asked.
        kind: What it looks like.
        width: Of 24 columns.
        red: From this value on it is red; None for never.
        green: From this value on it is green, and red below; in place of `red`.
        stacked: Whether lines stand on each other.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = Kind.LINES
    width: int = 8
    red: float | None = None
    green: float | None = None
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]
    height: int = 8


@dataclass(frozen=True, slots=True)
class Variable:
    """What a reader may choose above the panels: values of a label."""

    name: str
    label: str
    of: str
    many: bool = True


def dashboard(
    title: str, *, uid: str, description: str, variables: Sequence[Variable], rows: Sequence[Row]
) -> dict[str, object]:
    """Return the dashboard, ready to be imported or provisioned."""
    chosen = [_source_variable(), *map(_variable, variables), _window_variable()]
    return {
        "title": title,
        "uid": uid,
        "description": description,
        "tags": ["redrive"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": chosen},
        "annotations": {"list": []},
        "links": [],
        "panels": _placed(rows),
    }


def _placed(rows: Sequence[Row]) -> list[dict[str, object]]:
    placed: list[dict[str, object]] = []
    top = 0
    for row in rows:
        placed.append(_heading(row, number=len(placed) + 1, top=top))
        top += 1
        left = 0
        for panel in row.panels:
            if left + panel.width > _COLUMNS:
                left, top = 0, top + row.height
            place = {"x": left, "y": top, "w": panel.width, "h": row.height}
            placed.append(_panel(panel, number=len(placed) + 1, place=place))
            left += panel.width
        top += row.height
    return placed


def _heading(row: Row, *, number: int, top: int) -> dict[str, object]:
    place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
    return {
        "id": number,
        "type": "row",
        "title": row.title,
        "gridPos": place,
        "collapsed": False,
        "panels": [],
    }


def _panel(panel: Panel, *, number: int, place: dict[str, int]) -> dict[str, object]:
    return {
        "id": number,
        "type": panel.kind.value,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel.kind),
        "targets": [
            _target(query, letter=chr(ord("A") + at), kind=panel.kind)
            for at, query in enumerate(panel.queries)
        ],
        **_transformations(panel.kind),
    }


def _target(query: Query, *, letter: str, kind: Kind) -> dict[str, object]:
    now = kind is not Kind.LINES
    return {
        "refId": letter,
        "datasource": _SOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend,
        "instant": now,
        "range": not now,
        "format": "table" if kind is Kind.TABLE else "time_series",
    }


def _field(panel: Panel) -> dict[str, object]:
    steps: list[dict[str, object]] = [{"color": "green", "value": None}]
    if panel.red is not None:
        steps.append({"color": "red", "value": panel.red})
    if panel.green is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.green}]
    field: dict[str, object] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.kind is Kind.LINES:
        shown = panel.red is not None
        field["color"] = {"mode": "palette-classic"}
        field["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 40 if panel.stacked else 5,
            "lineWidth": 1,
            "showPoints": "auto",
            "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
            "thresholdsStyle": {"mode": "dashed" if shown else "off"},
        }
    return field


def _options(kind: Kind) -> dict[str, object]:
    match kind:
        case Kind.LINES:
            return {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        case Kind.NUMBER:
            return {
                "colorMode": "value",
                "graphMode": "none",
                "justifyMode": "auto",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                "textMode": "auto",
            }
        case Kind.TABLE:
            return {"cellHeight": "sm", "showHeader": True}


def _transformations(kind: Kind) -> dict[str, object]:
    if kind is not Kind.TABLE:
        return {}
    hidden = dict.fromkeys(("Time", "Value", "__name__", "alertstate"), True)
    return {"transformations": [{"id": "organize", "options": {"excludeByName": hidden}}]}


def _source_variable() -> dict[str, object]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
    }


def _variable(variable: Variable) -> dict[str, object]:
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": _SOURCE,
        "definition": variable.of,
        "query": {"query": variable.of, "refId": variable.name},
        "refresh": 2,
        "sort": 1,
        "includeAll": variable.many,
        "multi": variable.many,
        **({"allValue": ".*", "current": _chosen("All", "$__all")} if variable.many else {}),
    }


def _window_variable() -> dict[str, object]:
    windows = ("2m", "10m", "1h", "6h", "1d")
    options = [{**_chosen(one, one), "selected": one == "10m"} for one in windows]
    return {
        "name": "window",
        "label": "counted over",
        "type": "interval",
        "query": ",".join(windows),
        "options": options,
        "current": _chosen("10m", "10m"),
        "auto": False,
    }


def _chosen(text: str, value: str) -> dict[str, object]:
    return {"text": text, "value": value, "selected": True}

"""How a figure is asked for in PromQL, at the workers and workflows that a reader has chosen."""

from __future__ import annotations

from redrive.telemetry.instruments import Metric

__all__ = ["counted", "of", "quantile"]

WORKERS = 'job="$job", instance=~"$instance"'
WORKFLOWS = f'{WORKERS}, workflow=~"$workflow"'


def of(figure: Metric, *matchers: str) -> str:
    """Return the figure at the chosen workers, and workflows if it tells them apart."""
    chosen = WORKFLOWS if "workflow" in figure.labels else WORKERS
    return f"{figure.name}{{{', '.join((chosen, *matchers))}}}"


def counted(figure: Metric, *matchers: str) -> str:
    """Return how far a counter went in `window`; one that is new counts as a whole.

    `increase` does not see the first one: the series begins with it.
    """
    one = of(figure, *matchers)
    return f"(({one} unless {one} offset $window) or increase({one}[$window]))"


def quantile(part: float, figure: Metric) -> str:
    """Return below what so large a part of all observations in `window` was."""
    bucket = of(figure).replace(figure.name, f"{figure.name}_bucket", 1)
    labels = ", ".join((*figure.labels, "le"))
    return f"histogram_quantile({part}, sum by ({labels}) (rate({bucket}[$window])))"

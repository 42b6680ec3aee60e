"""One variable against another: the data, the mechanism between them, and what hits made of it."""

from typing import Any

import numpy as np
import xarray as xr

from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import DataError
from pyro_metacadi.plots._shared import LITERAL, TRUTH_COLOUR, Axes, new_axes, shown
from pyro_metacadi.typing import Array

__all__ = ["mechanism_curves"]

MOST_POINTS = 2000
"""More rows than that, evenly spaced ones are drawn: of others there would be a blot."""

STYLES = (("--", "^", TRUTH_COLOUR), (":", "s", "#0072B2"), ("-.", "D", "#009E73"))
"""Line, marker and colour of each task that hit the child: told apart without colour, too."""


def mechanism_curves(
    posterior: Any, parent: str, child: str, *, ax: Axes | None = None, **options: Any
) -> Axes:
    """Draw the rows of a posterior's tasks, parent against child, and the fitted mechanism.

    The black line is the observational mechanism, all else as it was measured, with its interval.
    Tasks that probably hit the child (three at most) have a marker and a line of their own: what
    the child is expected to be in such a task; rows of further such tasks are left out, those of
    all others are grey.

    Args:
        posterior: Of a fitted `MetaCaDI`.
        parent: On the horizontal axis.
        child: On the vertical axis.
        ax: Axes to draw on; a new figure by default.
        **options: Of `Posterior.mechanism_curves`.

    Raises:
        DataError: `posterior` is none, or a variable is unknown.
        ConfigError: An option is out of range, or `parent` is the `child`.
    """
    if not callable(getattr(posterior, "mechanism_curves", None)):
        raise DataError(
            f"posterior: expected that of a fitted MetaCaDI, got {type(posterior).__name__}. Pass "
            f"mc.posterior."
        )
    options = {"most_tasks": len(STYLES), **options}
    curves = posterior.mechanism_curves(parent, child, **options)
    ax = new_axes(7.0, 4.0) if ax is None else ax
    x, share = curves["parent_value"].values, 100 * curves.attrs["interval"]
    label = f"mechanism, {share:g} % interval"
    ax.plot(x, curves["mean"], color="black", lw=2, zorder=4, label=label)
    low, high = curves["lower"].values, curves["upper"].values
    ax.fill_between(x, low, high, color="black", alpha=0.18, lw=0, zorder=3)
    _draw_rows(ax, posterior, curves, parent=parent, child=child)
    edge = float(posterior.edge_probs.sel(parent=parent, child=child))
    ax.set_xlabel(shown(parent), **LITERAL)
    ax.set_ylabel(shown(child), **LITERAL)
    title = f"{shown(parent)} → {shown(child)}: probability {edge:.2f}"
    ax.set_title(title, fontsize=10, **LITERAL)
    ax.spines[["top", "right"]].set_visible(False)
    legend = ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set(**LITERAL)
    return ax


def _draw_rows(ax: Axes, posterior: Any, curves: xr.Dataset, *, parent: str, child: str) -> None:
    """Rows as dots: of tasks without a hit, then of each that is shown with its curve."""
    tasks, x = posterior.tasks, curves["parent_value"].values
    probs = posterior.target_probs.sel(variable=child).values
    free = [name for name, prob in zip(tasks.tasks, probs, strict=True) if prob < 0.5]
    if free:
        first, second = _columns(tasks, free, parent, child)
        ax.scatter(first, second, s=7, color="0.68", lw=0, zorder=1, label="rows of other tasks")
    for at, task in enumerate(curves["task"].values.tolist()):
        line, marker, colour = STYLES[at % len(STYLES)]
        first, second = _columns(tasks, [task], parent, child)
        ax.scatter(first, second, s=20, marker=marker, fc="none", ec=colour, lw=0.9, zorder=2)
        ax.plot(
            x,
            curves["interventional"].sel(task=task),
            color=colour,
            linestyle=line,
            marker=marker,
            markevery=(2 * at, 2 * len(STYLES)),  # curves may lie upon each other
            lw=2,
            zorder=5,
            label=f"{shown(task)}, which hit {shown(child)}",
        )


def _columns(tasks: TaskDataset, names: list[str], parent: str, child: str) -> tuple[Array, Array]:
    """Two variables in the rows of some tasks, or in some of them."""
    rows = tasks[names].values
    rows = rows[:: max(1, -(-len(rows) // MOST_POINTS))]
    first, second = (rows[:, tasks.variables.index(name)] for name in (parent, child))
    return np.asarray(first), np.asarray(second)

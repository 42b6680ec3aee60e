"""Heat maps of edges and of targets; what is known to be true is outlined."""

import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike

from pyro_metacadi.checks import check_count
from pyro_metacadi.plots._shared import (
    LITERAL,
    MOST_SHOWN,
    TRUTH_COLOUR,
    Axes,
    busiest,
    checked_probs,
    known_matrix,
    names_along,
    new_axes,
    strongest_lines,
)
from pyro_metacadi.typing import Array

__all__ = ["edge_heatmap", "target_heatmap"]

CELL_INCHES = (0.16, 0.42)  # the smallest cell that carries a label, and the largest worth drawing


def edge_heatmap(
    edge_probs: Float[xr.DataArray, "parent child"],
    *,
    truth: ArrayLike | None = None,
    max_shown: int = MOST_SHOWN,
    ax: Axes | None = None,
) -> Axes:
    """Draw the posterior probability of every edge; rows are parents, columns children.

    Of more than `max_shown` variables, those with most expected edges are shown; the title
    says so.

    Args:
        edge_probs: P(X_i -> X_j), row = cause, as `Posterior.edge_probs`.
        truth: Known graph, outlined: ``[parent, child]`` of 0 and 1, row = cause; in the same order
            unless it is a DataFrame or DataArray with names.
        max_shown: Variables to show at most.
        ax: Axes to draw on; a new figure by default.

    Raises:
        DataError: `edge_probs` has other axes, or values that are no probabilities; `truth` has
            another shape or other names.
        ConfigError: `max_shown` is not a positive whole number.
    """
    probs = checked_probs(edge_probs, what="edge_probs", dims=("parent", "child"))
    known = known_matrix(truth, probs=probs)
    kept = busiest(probs.values, check_count("max_shown", max_shown))
    part = probs[kept, kept]
    ax = _heatmap(part, label="probability of the edge", ax=ax)
    ax.set_ylabel("parent (cause)")
    ax.set_xlabel("child (effect)")
    _outline(ax, known[np.ix_(kept, kept)], label="known edge")
    if len(kept) < len(probs):
        ax.set_title(
            f"{len(kept)} of {len(probs)} variables, by their most probable edge",
            size=9,
            loc="left",
        )
    return ax


def target_heatmap(
    target_probs: Float[xr.DataArray, "task variable"],
    *,
    truth: ArrayLike | None = None,
    max_shown: int = MOST_SHOWN,
    ax: Axes | None = None,
) -> Axes:
    """Draw, for every task, the posterior probability that it hit each variable.

    Of more than `max_shown` tasks, or variables, those with the most probable targets are shown;
    the title says so.

    Args:
        target_probs: Probabilities, as `Posterior.target_probs`.
        truth: Known targets, outlined: ``[task, variable]`` of 0 and 1; in the same order unless it
            is a DataFrame or DataArray with names.
        max_shown: Tasks, and variables, to show at most.
        ax: Axes to draw on; a new figure by default.

    Raises:
        DataError: `target_probs` has other axes, or values that are no probabilities; `truth` has
            another shape or other names.
        ConfigError: `max_shown` is not a positive whole number.
    """
    probs = checked_probs(target_probs, what="target_probs", dims=("task", "variable"))
    known = known_matrix(truth, probs=probs)
    max_shown = check_count("max_shown", max_shown)
    rows = strongest_lines(probs.values, max_shown)
    columns = strongest_lines(probs.values[rows].T, max_shown)
    ax = _heatmap(probs[rows, columns], label="probability of being hit", ax=ax)
    ax.set_ylabel("task")
    ax.set_xlabel("variable")
    _outline(ax, known[np.ix_(rows, columns)], label="known target")
    kept = zip((rows, columns), probs.shape, ("tasks", "variables"), strict=True)
    cut = [f"{len(at)} of {size} {what}" for at, size, what in kept if len(at) < size]
    if cut:
        ax.set_title(f"{' and '.join(cut)}, by their most probable target", size=9, loc="left")
    return ax


def _heatmap(probs: xr.DataArray, *, label: str, ax: Axes | None) -> Axes:
    rows, columns = (names_along(probs, str(dim)) for dim in probs.dims)
    ax = ax if ax is not None else _new_axes(rows, columns)
    image = ax.imshow(
        probs.values, cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="none"
    )
    size = _font_size(max(len(rows), len(columns)))
    ax.set_xticks(range(len(columns)), columns, rotation=90, fontsize=size, **LITERAL)
    ax.set_yticks(range(len(rows)), rows, fontsize=size, **LITERAL)
    ax.set_xticks(np.arange(1, len(columns)) - 0.5, minor=True)
    ax.set_yticks(np.arange(1, len(rows)) - 0.5, minor=True)
    ax.grid(which="minor", color="0.85", linewidth=0.5)
    ax.tick_params(which="both", length=0)
    height = ax.bbox.height / ax.figure.dpi
    ax.figure.colorbar(image, ax=ax, label=label, aspect=max(6 * height, 6))  # 1/6 inch thick
    return ax


def _new_axes(rows: list[str], columns: list[str]) -> Axes:
    cell = _cell_inches(max(len(rows), len(columns)))
    margin = 0.08 * max(len(name) for name in (*rows, *columns)) + 0.8
    width, height = (max(cell * len(names), 1.5) + margin for names in (columns, rows))
    return new_axes(width + 0.8, height)


def _cell_inches(count: int) -> float:
    smallest, largest = CELL_INCHES
    return float(np.clip(8.0 / count, smallest, largest))


def _font_size(count: int) -> float:
    """Three fifths of a cell's height, in points."""
    return min(10.0, 0.6 * 72 * _cell_inches(count))


def _outline(ax: Axes, known: Array, *, label: str) -> None:
    from matplotlib.patches import Rectangle

    cells, line = np.argwhere(known != 0), 4.5 * _cell_inches(max(known.shape))
    for width, colour in ((2 * line, "white"), (line, TRUTH_COLOUR)):  # a halo, for black cells
        for row, column in cells:
            corner = (column - 0.42, row - 0.42)
            ax.add_patch(Rectangle(corner, 0.84, 0.84, fill=False, ec=colour, lw=width))
    if len(cells):
        handle = Rectangle((0, 0), 1, 1, fill=False, ec=TRUTH_COLOUR, lw=line)
        ax.legend([handle], [label], loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False)

"""The graph itself: causes on the left, their effects to the right of them."""

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike

from pyro_metacadi.checks import check_count, check_threshold
from pyro_metacadi.plots._placing import BOX, SIZE, Placed, placed
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
)
from pyro_metacadi.typing import Array

__all__ = ["graph"]

CERTAIN_POINTS, HALO_POINTS = 3.0, 3.5  # width of an edge of probability 1, and beyond it
DASHES = (0, (3, 2))

Edge = tuple[int, int]


def graph(
    edge_probs: Float[xr.DataArray, "parent child"],
    *,
    truth: ArrayLike | None = None,
    threshold: float = 0.5,
    max_variables: int = MOST_SHOWN,
    max_edges: int = 2 * MOST_SHOWN,
    ax: Axes | None = None,
) -> Axes:
    """Draw the probable edges, causes to the left of their effects; wider is more probable.

    Variables are in layers by a topological order of the edges drawn. Where these have a cycle, as
    means over chains may, its least probable edge is an arc that goes back. Variables without an
    edge are below. Of too many, the variables with most expected edges are shown, and the most
    probable edges; the title says so.

    Args:
        edge_probs: P(X_i -> X_j), row = cause, as `Posterior.edge_probs`.
        truth: Known graph, ``[parent, child]`` of 0 and 1: known edges have a halo, and those less
            probable than the threshold are dashed. In the same order unless it is a DataFrame or
            DataArray with names.
        threshold: Probability from which on an edge is drawn.
        max_variables: Variables to show at most.
        max_edges: Probable edges to show at most.
        ax: Axes to draw on, which should be wide; a new figure of fitting size by default.

    Raises:
        DataError: `edge_probs` has other axes, or values that are no probabilities; `truth` has
            another shape or other names.
        ConfigError: `threshold` is not above 0 and at most 1, or a number is not positive.
    """
    probs = checked_probs(edge_probs, what="edge_probs", dims=("parent", "child"))
    known = known_matrix(truth, probs=probs) != 0
    threshold = check_threshold(threshold)
    max_edges = check_count("max_edges", max_edges)
    kept = busiest(probs.values, check_count("max_variables", max_variables))
    part, known = probs[kept, kept], known[np.ix_(kept, kept)]
    probable = _edges(part.values, part.values >= threshold)
    found, missed = probable[:max_edges], _edges(part.values, known & (part.values < threshold))
    names = names_along(part, "parent")
    places = placed(names, [*found, *missed])
    ax = ax if ax is not None else new_axes(places.size[0] + 0.2, places.size[1] + 0.7)
    scale = _in_inches(ax, places)
    for edge in found[::-1]:  # the most probable on top
        _draw_edge(ax, places.curves[edge], part.values[edge], known=known[edge], scale=scale)
    for edge in missed:
        dashed = {"color": TRUTH_COLOUR, "linestyle": DASHES, "zorder": 2}
        _arrow(ax, places.curves[edge], dashed, width=1.2, scale=scale)
    _draw_names(ax, names, places, scale=scale)
    _legend(ax, threshold, with_truth=truth is not None)
    title = _title(len(kept), len(probs), len(found), len(probable), threshold)
    ax.set_title(title, size=9, loc="left")
    return ax


def _edges(probs: Array, wanted: Array) -> list[Edge]:
    """The wanted edges, the most probable first."""
    edges = [(int(i), int(j)) for i, j in np.argwhere(wanted)]
    return sorted(edges, key=lambda edge: -probs[edge])


def _in_inches(ax: Axes, places: Placed) -> float:
    """Give the axes inches as units; return how large one is drawn, of a real one."""
    width, height = places.size
    ax.set(xlim=(-0.1, width + 0.1), ylim=(0, height), aspect="equal")
    ax.axis("off")
    room = ax.bbox.width / ax.figure.dpi / width, ax.bbox.height / ax.figure.dpi / height
    return min(1.0, 1.2 * min(room))  # what is drawn before the margins are known is too small


def _draw_edge(
    ax: Axes, curve: list[tuple[float, float]], p: float, *, known: bool, scale: float
) -> None:
    width = CERTAIN_POINTS * p
    if known:
        halo = {"color": TRUTH_COLOUR, "alpha": 0.45, "zorder": 1}
        _arrow(ax, curve, halo, width=width + HALO_POINTS, scale=scale, head=False)
    _arrow(ax, curve, {"color": _grey(p), "zorder": 2}, width=width, scale=scale)


def _grey(p: float) -> str:
    return str(0.7 * (1 - p))


def _arrow(
    ax: Axes,
    curve: list[tuple[float, float]],
    style: dict[str, Any],
    *,
    width: float,
    scale: float,
    head: bool = True,
) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    kind = f"-|>,head_length={3.2 + width},head_width={1.4 + width / 2}" if head else "-"
    ax.add_patch(
        FancyArrowPatch(
            path=Path(curve, [Path.MOVETO, *[Path.CURVE4] * (len(curve) - 1)]),
            arrowstyle=kind, mutation_scale=scale, lw=width * scale,
            joinstyle="miter", capstyle="butt", **style,
        )
    )  # fmt: skip


def _draw_names(ax: Axes, names: list[str], places: Placed, *, scale: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    for at, (x, y) in places.centre.items():
        colour, margin = "0.35" if at in places.connected else "0.8", 0.05
        width, height = places.width[at] - 2 * margin, BOX - 2 * margin
        ax.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - height / 2), width, height,
                boxstyle=f"round,pad={margin},rounding_size=0.06",
                fc="white", ec=colour, lw=0.8 * scale, zorder=3,
            )
        )  # fmt: skip
        style = {"ha": "center", "va": "center_baseline", "zorder": 4, **LITERAL}
        ax.text(x, y, names[at], size=SIZE * scale, **style)


def _legend(ax: Axes, threshold: float, *, with_truth: bool) -> None:
    from matplotlib.lines import Line2D

    levels = sorted({1.0, (1 + threshold) / 2, threshold}, reverse=True)
    handles = [
        Line2D([], [], color=_grey(p), lw=CERTAIN_POINTS * p, label=f"P = {p:.3g}") for p in levels
    ]
    if with_truth:
        missed = f"known, P < {threshold:g}"
        handles += [
            Line2D([], [], color=TRUTH_COLOUR, lw=6, alpha=0.45, label="known edge"),
            Line2D([], [], color=TRUTH_COLOUR, lw=1.2, ls=DASHES, label=missed),
        ]
    ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, 0), ncols=len(handles),
        frameon=False, fontsize=8, borderaxespad=0.2, handlelength=2.2, columnspacing=1.4,
    )  # fmt: skip


def _title(kept: int, num_variables: int, found: int, probable: int, threshold: float) -> str:
    edges = f"edges with P ≥ {threshold:g}"
    if found < probable:
        edges = f"the {found} most probable of {probable} {edges}"
    elif not found:
        edges = f"no {edges}"
    if kept == num_variables:
        return edges
    return f"{kept} of {num_variables} variables, by their expected number of edges;\n{edges}"

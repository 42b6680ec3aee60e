"""How a fit went: the loss and its terms over the steps, or the graphs' scores over the draws."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from pyro_metacadi._arrays import as_numeric
from pyro_metacadi.errors import DataError
from pyro_metacadi.plots._shared import Axes, new_axes
from pyro_metacadi.typing import Array

__all__ = ["loss_terms"]

MOST_POINTS = 300
WIDE_RANGE = 30.0  # of a term's size to another's, from which on the axis is logarithmic
FIRST = ("loss", "held_out")
LEAST_SPAN = 2.0  # nats: what is less looks the same
DARK_FIRST = ("black", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 3)))


def loss_terms(history: Mapping[str, ArrayLike], *, ax: Axes | None = None) -> Axes:
    """Draw what `MetaCaDI.history` holds.

    The engine svi: the loss, its unweighted terms and the held-out loss over the steps, one line of
    its own dashes each. The engine evidence, which has a loss only: minus the log score of each
    graph drawn, in nats, one line for each chain; lines that stay apart are chains that disagree.
    The axis is symmetric-logarithmic where terms differ much in size. Long series are means of
    neighbouring steps; the axis says of how many.

    Args:
        history: Series by name, ``[step]`` or ``[chain, step]``, NaN after a chain's last step.
        ax: Axes to draw on; a new figure by default.

    Raises:
        DataError: There is no series, or one is of another shape or without numbers.
    """
    names = sorted(history, key=lambda name: (FIRST.index(name) if name in FIRST else 2, name))
    series = {str(name): _series(name, history[name]) for name in names}
    if not series:
        raise DataError("history: expected at least one series, got none. Pass model.history.")
    ax = ax if ax is not None else new_axes(7.0, 3.6)
    longest = max(values.shape[1] for values in series.values())
    block = -(-longest // MOST_POINTS)
    draws = list(series) == ["loss"]
    (_draw_chains if draws else _draw_terms)(ax, series, block)
    ax.set_xlabel(("draw" if draws else "step") + (f" (means of {block})" if block > 1 else ""))
    ax.set_ylabel("minus log score of the graph (nats)" if draws else "loss and its terms")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="0.9", linewidth=0.5)
    ax.margins(x=0.01)
    return ax


def _series(name: str, values: ArrayLike) -> Array:
    """A series as ``[chain, step]``."""
    array = as_numeric(values, what=f"history of {name}", error=DataError).astype(float)
    if array.ndim not in (1, 2) or not np.isfinite(array).any():
        raise DataError(
            f"history of {name}: expected numbers of shape [step] or [chain, step], got shape "
            f"{list(array.shape)} with {np.isfinite(array).sum()} numbers. Pass model.history."
        )
    return np.atleast_2d(array)


def _draw_chains(ax: Axes, series: Mapping[str, Array], block: int) -> None:
    (chains,) = series.values()
    for index, values in enumerate(chains):
        steps, means = _thinned(values, block)
        colour, dash = DARK_FIRST[index % 7], DASHES[index % 5]
        ax.plot(steps, means, color=colour, linestyle=dash, linewidth=1, label=f"chain {index + 1}")
    low, high = np.nanmin(chains), np.nanmax(chains)
    if high - low < LEAST_SPAN:
        middle = (low + high) / 2
        ax.set_ylim(middle - LEAST_SPAN / 2, middle + LEAST_SPAN / 2)
    ax.ticklabel_format(axis="y", useOffset=False)
    if 1 < len(chains) <= 8:
        _legend_beside(ax)


def _draw_terms(ax: Axes, series: Mapping[str, Array], block: int) -> None:
    sizes = []
    for index, (name, chains) in enumerate(series.items()):
        colour, dash = DARK_FIRST[index % 7], DASHES[index % 5]
        width = 2.0 if name == "loss" else 1.2
        for number, values in enumerate(chains):
            steps, means = _thinned(values, block)
            label = name.replace("_", " ") if number == 0 else None
            ax.plot(steps, means, color=colour, linestyle=dash, linewidth=width, label=label)
            sizes.append(np.median(np.abs(means)))
    sizes = [size for size in sizes if size > 0]
    if sizes and max(sizes) > WIDE_RANGE * min(sizes):
        ax.set_yscale("symlog", linthresh=10 ** np.floor(np.log10(min(sizes))))
    _legend_beside(ax)


def _legend_beside(ax: Axes) -> None:
    ax.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8, handlelength=3.5
    )


def _thinned(values: Array, block: int) -> tuple[Array, Array]:
    """Middle step and mean of every block of steps, up to the last one that there is."""
    values = values[np.isfinite(values)]
    starts = np.arange(0, len(values), block)
    sizes = np.diff(np.r_[starts, len(values)])
    return starts + (sizes + 1) / 2, np.add.reduceat(values, starts) / sizes

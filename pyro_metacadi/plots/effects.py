"""What an intervention moves, and by how much."""

from typing import Any

import numpy as np
import xarray as xr

from pyro_metacadi.checks import check_count
from pyro_metacadi.data.names import position_of
from pyro_metacadi.errors import DataError
from pyro_metacadi.plots._shared import LITERAL, Axes, new_axes, shown, text_inches

__all__ = ["intervention_effect"]

NEEDED = ("mean", "lower", "upper", "path_prob", "start", "end", "deviation")
MOST_EFFECTS = 30  # lines of a page that are taken in at once
LINE_INCHES, BAR_INCHES = 0.24, 1.8


def intervention_effect(
    effects: xr.Dataset, cause: str, *, max_shown: int = MOST_EFFECTS, ax: Axes | None = None
) -> Axes:
    """Draw how far every other variable moves with one that is held, the largest effect on top.

    Dots are average effects in standard deviations of the affected variable, bars their intervals;
    the darker the dot, the more probable is a directed path from the cause. Of more than
    `max_shown` variables, those with the largest effects are shown; the title says so.

    Args:
        effects: As `Posterior.causal_effects` gives them.
        cause: One of its causes.
        max_shown: Variables at most.
        ax: Axes to draw on; a new figure by default.

    Raises:
        DataError: `effects` are no such dataset, or `cause` is none of its causes.
        ConfigError: `max_shown` is no positive whole number.
    """
    most = check_count("max_shown", max_shown)
    own = _checked(effects, cause)
    others = own.isel(effect=own["effect"].values != cause)
    if not others.sizes["effect"]:
        raise DataError(
            f"effects: expected another variable than the cause {cause!r}, got none. Pass effects "
            f"on others."
        )
    order = np.argsort(-np.abs((others["mean"] / others["deviation"]).values), kind="stable")
    part = others.isel(effect=order[:most])
    names = [shown(str(name)) for name in part["effect"].values]
    if ax is None:
        margin = max(text_inches(name, size=9) for name in names)
        ax = new_axes(4.6 + margin, 1.3 + LINE_INCHES * len(names))
    _draw(ax, part, names)
    rest = len(order) - len(names)
    title = f"{shown(cause)} held at {float(own['end']):.3g} instead of {float(own['start']):.3g}"
    if rest:
        title += f"\n(the {len(names)} largest of {len(order)} effects)"
    ax.set_title(title, fontsize=10, **LITERAL)
    return ax


def _checked(effects: Any, cause: str) -> xr.Dataset:
    """The effects of one cause."""
    fits = isinstance(effects, xr.Dataset) and set(NEEDED) <= set(effects.data_vars)
    if not fits or set(effects["mean"].dims) != {"cause", "effect"}:
        raise DataError(
            f"effects: expected a dataset of causal effects, got {type(effects).__name__}. Pass "
            f"posterior.causal_effects()."
        )
    position_of(cause, among=effects["cause"].values.tolist(), what="cause")
    return effects.sel(cause=cause)


def _draw(ax: Axes, part: xr.Dataset, names: list[str]) -> None:
    """One line for each effect, from the top."""
    mean, lower, upper = (
        (part[name] / part["deviation"]).values for name in ("mean", "lower", "upper")
    )
    at = np.arange(len(names))
    ax.axvline(0, color="0.6", linestyle="--", linewidth=1, zorder=0)
    ax.hlines(at, lower, upper, color="0.25", linewidth=1.4, zorder=1)
    dots = ax.scatter(
        mean,
        at,
        c=part["path_prob"].values,
        cmap="Greys",
        vmin=0,
        vmax=1,
        s=36,
        edgecolors="black",
        linewidths=0.9,
        zorder=2,
    )
    ax.set_yticks(at, names, fontsize=9, **LITERAL)
    ax.set_ylim(len(names) - 0.4, -0.6)
    share = float(part.attrs.get("interval", np.nan))
    bars = f" (bars: {100 * share:g} % interval)" if np.isfinite(share) else ""
    ax.set_xlabel(f"effect in standard deviations{bars}")
    ax.spines[["top", "right"]].set_visible(False)
    height = ax.bbox.height / ax.figure.dpi
    shrink = min(0.8, BAR_INCHES / height)  # of a tall picture, no taller bar
    ax.figure.colorbar(dots, ax=ax, label="probability of a path", aspect=15, shrink=shrink)

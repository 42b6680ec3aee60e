"""The paper's Figure 2: distances of graphs and rankings of targets, with floors and ceilings."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchmarks.paper.methods import METHODS
from benchmarks.paper.report import LOWER_IS_BETTER, summary
from benchmarks.paper.worlds import KINDS

__all__ = ["draw_figure"]

PANELS = {
    "e_shd": "E-SHD ↓",
    "e_sid": "E-SID ↓ (logarithmic)",
    "intv_auroc": "Intv-AUROC ↑",
    "intv_ap": "Intv-AUPRC ↑",
}
COLOURS = {
    "ours": "#D55E00",
    "told": "#56B4E9",
    "baseline": "#0072B2",
    "floor": "0.7",
    "ceiling": "#009E73",
}
"""Of kinds of methods; told apart also by the colour-blind."""

STROKE: Mapping[str, Any] = {"marker": "|", "color": "black", "linestyle": "none", "markersize": 9}


def draw_figure(rows: pd.DataFrame) -> Figure:
    """Mean of every method, standard deviation as a bar; a row of panels for each world.

    Says ``failed`` where none of a method's runs ended well. A stroke in a bar is the empty graph's
    distance on that method's seeds, whose graphs are not as large as those of others.
    """
    figures = summary(rows)
    worlds = [world for world in KINDS if (rows["world"] == world).any()]
    methods = [name for name in METHODS if (rows["method"] == name).any()]
    tried = set(zip(rows["world"], rows["method"], strict=True))
    failed = tried - {key[:2] for key in figures.index}
    height = 0.9 + len(worlds) * (0.7 + 0.19 * len(methods))
    figure = Figure(figsize=(15, height), layout="constrained", dpi=80)
    panels = figure.subplots(len(worlds), len(PANELS), squeeze=False, sharey=True)
    for world, row in zip(worlds, panels, strict=True):
        for (score, title), panel in zip(PANELS.items(), row, strict=True):
            _draw_panel(panel, figures, world=world, score=score, methods=methods)
            if score in LOWER_IS_BETTER:
                _draw_no_graph(panel, rows, world=world, score=score, methods=methods)
            for place in [at for at, name in enumerate(methods) if (world, name) in failed]:
                panel.annotate(
                    "failed", (0.01, place), xycoords=panel.get_yaxis_transform(),
                    va="center", fontsize=8, color="0.4",
                )  # fmt: skip
            panel.set_title(f"{world}: {title}", fontsize=10)
        row[0].set_yticks(range(len(methods)), methods, fontsize=9)
        row[0].set_ylim(len(methods) - 0.4, -0.6)
    drawn = {METHODS[name].kind for name in methods}
    handles: list[Artist] = [
        Patch(color=COLOURS[kind], label=kind) for kind in COLOURS if kind in drawn
    ]
    handles.append(Line2D([], [], **STROKE, label="the empty graph, on the same seeds"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _draw_panel(
    panel: Axes, figures: pd.DataFrame, *, world: str, score: str, methods: list[str]
) -> None:
    for place, method in enumerate(methods):
        key = (world, method, score)
        if key in figures.index:
            mean, spread = (float(figures[column][key]) for column in ("mean", "sd"))
            panel.barh(
                place, mean, xerr=None if np.isnan(spread) else spread, height=0.75,
                color=COLOURS[METHODS[method].kind], error_kw={"lw": 1, "capsize": 2},
            )  # fmt: skip
    if score == "e_sid":
        panel.set_xscale("symlog", linthresh=10)
    elif score != "e_shd":
        panel.set_xlim(0, 1.02)
    panel.set_xlim(left=0)
    panel.grid(axis="x", color="0.9")
    panel.set_axisbelow(True)


def _draw_no_graph(
    panel: Axes, rows: pd.DataFrame, *, world: str, score: str, methods: list[str]
) -> None:
    done = rows[(rows["world"] == world) & (rows["error"] == "")]
    nothing = done[done["method"] == "empty"].set_index("seed")[score]
    for place, method in enumerate(methods):
        seeds = done["seed"][(done["method"] == method) & done[score].notna()]
        mean = nothing.reindex(seeds).mean()
        if np.isfinite(mean) and method != "empty":
            panel.plot(mean, place, **STROKE)

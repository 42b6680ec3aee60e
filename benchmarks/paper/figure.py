"""The paper's Figure 2: distances of graphs and rankings of targets, with floors and ceilings."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.paper.methods import METHODS
from benchmarks.paper.report import summary
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


def draw_figure(rows: pd.DataFrame) -> Figure:
    """Mean of every method, standard deviation as a bar; a row of panels for each world.

    Says ``failed`` where none of a method's runs ended well.
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
            for place in [at for at, name in enumerate(methods) if (world, name) in failed]:
                panel.annotate(
                    "failed", (0.01, place), xycoords=panel.get_yaxis_transform(),
                    va="center", fontsize=8, color="0.4",
                )  # fmt: skip
            panel.set_title(f"{world}: {title}", fontsize=10)
        row[0].set_yticks(range(len(methods)), methods, fontsize=9)
        row[0].set_ylim(len(methods) - 0.4, -0.6)
    drawn = {METHODS[name].kind for name in methods}
    handles = [Patch(color=COLOURS[kind], label=kind) for kind in COLOURS if kind in drawn]
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

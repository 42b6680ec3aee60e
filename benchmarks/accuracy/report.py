"""The table and the figure of what was run."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.accuracy.methods import METHODS
from benchmarks.accuracy.runs import SCORES
from benchmarks.accuracy.worlds import KINDS

__all__ = ["draw_figure", "printed", "summary"]

WIDTH = 15
PANELS = {
    "intv_ap": "targets, 10 rows: average precision",
    "intv_ap_3": "targets, 3 rows: average precision",
    "edge_ap": "edges: average precision",
}
STYLES = {  # colours told apart also by the colour-blind
    "chance": ("|", "0.6"),
    "mean_shift": ("v", "#56B4E9"),
    "variance_ratio": ("^", "#0072B2"),
    "paper": ("s", "#E69F00"),
    "metacadi": ("o", "#D55E00"),
    "true_graph": ("D", "#CC79A7"),
    "ceiling": ("*", "#009E73"),
    "ceiling_counted": ("X", "#004D38"),
    "simulation_bound": ("P", "#009E73"),
}


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean, standard error and number of seeds of every score.

    Args:
        table: As `runs.read` gives it; failed runs are left out.

    Returns:
        A row for each world, method and score that has a value: columns ``mean``, ``sem`` (NaN for
        one seed) and ``n``.
    """
    done = table[table["error"] == ""]
    long = done.melt(["world", "method"], value_vars=list(SCORES), var_name="score").dropna()
    long["value"] = long["value"].astype(float)
    groups = long.groupby(["world", "method", "score"])["value"]
    return pd.DataFrame({"mean": groups.mean(), "sem": groups.sem(), "n": groups.count()})


def printed(table: pd.DataFrame) -> str:
    """One table for each world, methods below one another, the goals on top."""
    figures = summary(table)
    blocks = []
    for world, kind in KINDS.items():
        rows = table[table["world"] == world]
        if len(rows):
            head = f"{world}: {kind.title}"
            blocks.append("\n".join([head, *_lines(rows, figures, goals=kind.goals)]))
    return "\n\n".join(blocks)


def _lines(rows: pd.DataFrame, figures: pd.DataFrame, *, goals: Mapping[str, str]) -> list[str]:
    world = rows["world"].iloc[0]
    there = {score for at, _, score in figures.index if at == world}
    scores = [score for score in SCORES if score in there or score in goals]
    lines = [
        _line("", scores, end="n"),
        _line("goal of metacadi", [goals.get(score, "") for score in scores]),
    ]
    for method in METHODS:
        mine = rows[rows["method"] == method]
        if len(mine):
            failed = int((mine["error"] != "").sum())
            cells = [_cell(figures, (world, method, score)) for score in scores]
            note = f" + {failed} failed" if failed else ""
            lines.append(_line(method, cells, end=f"{len(mine) - failed}{note}"))
    return lines


def _line(name: str, cells: Sequence[str], *, end: str = "") -> str:
    return (f"{name:<18}" + "".join(f"{cell:<{WIDTH}}" for cell in cells) + end).rstrip()


def _cell(figures: pd.DataFrame, key: tuple[str, str, str]) -> str:
    if key not in figures.index:
        return "-"
    mean, error = (float(figures[column][key]) for column in ("mean", "sem"))
    digits = 3 if abs(mean) < 2 else 1
    spread = "" if np.isnan(error) else f" ±{error:.{digits}f}"
    return f"{mean:.{digits}f}{spread}"


def draw_figure(table: pd.DataFrame) -> Figure:
    """Average precision of targets and edges of every method on every world, goals as bars."""
    figures = summary(table)
    worlds = [world for world in KINDS if world in set(table["world"])]
    figure = Figure(figsize=(15, 1.2 + 0.75 * len(worlds)), layout="constrained", dpi=80)
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for panel, (score, title) in zip(panels, PANELS.items(), strict=True):
        _draw_panel(panel, figures, worlds=worlds, score=score)
        panel.set_title(title, fontsize=10)
    panels[0].set_yticks(range(len(worlds)), worlds)
    panels[0].set_ylim(len(worlds) - 0.5, -0.5)
    shown = {label: handle for panel in panels for handle, label in _legend(panel)}
    order = [name for name in (*METHODS, "goal") if name in shown]
    handles = [shown[name] for name in order]
    figure.legend(handles, order, loc="outside lower center", ncols=9, frameon=False)
    return figure


def _draw_panel(panel: Axes, figures: pd.DataFrame, *, worlds: Sequence[str], score: str) -> None:
    offsets = dict(zip(METHODS, np.linspace(-0.33, 0.33, len(METHODS)), strict=True))
    for method, offset in offsets.items():
        keys = [(world, method, score) for world in worlds]
        at = [place for place, key in enumerate(keys) if key in figures.index]
        values = figures.reindex([keys[place] for place in at])
        marker, colour = STYLES[method]
        if at:
            panel.errorbar(
                values["mean"], np.array(at) + offset, xerr=values["sem"], fmt=marker,
                color=colour, ms=7, lw=1, label=method,
            )  # fmt: skip
    for place, world in enumerate(worlds):
        goal = KINDS[world].goals.get(score, "").removeprefix(">= ")
        if goal:
            panel.vlines(float(goal), place - 0.4, place + 0.4, color="0.2", lw=1, label="goal")
    panel.set_xlim(0, 1.03)
    panel.grid(axis="x", color="0.9")


def _legend(panel: Axes) -> list[tuple[Artist, str]]:
    return list(zip(*panel.get_legend_handles_labels(), strict=True))

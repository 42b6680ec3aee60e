"""Tables, growth exponents and the figure of what was measured."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.runtime.cells import ANCHOR, AXES
from benchmarks.runtime.measures import MEASURES

__all__ = ["draw_figure", "exponent", "extrapolated", "printed"]

LETTERS = {"num_variables": "d", "num_tasks": "T"}
LAST = 3
"""Largest measured sizes that growth is read off."""


def exponent(size: pd.Series, seconds: pd.Series) -> float:
    """Slope of log seconds over log size at the largest sizes; NaN where only one is known."""
    if len(size) < 2:
        return float("nan")
    order = np.argsort(size.to_numpy())[-LAST:]
    x, y = (np.log(values.to_numpy(dtype=float)[order]) for values in (size, seconds))
    return float(np.polyfit(x, y, 1)[0])


def extrapolated(lines: pd.DataFrame, axis: str) -> pd.Series:
    """Seconds of every line, where none were measured by the growth from the largest that were."""
    known = lines.dropna(subset=["seconds"])
    if known.empty:
        return lines["seconds"]
    growth, last = exponent(known[axis], known["seconds"]), known.sort_values(axis).iloc[-1]
    guess = last["seconds"] * (lines[axis] / last[axis]) ** growth
    return lines["seconds"].fillna(guess)


def printed(table: pd.DataFrame) -> str:
    """For each measure, device and axis: seconds, the ratio to the floor, memory, growth."""
    blocks = []
    kinds: Any = table.groupby(["measure", "device", "threads"], sort=False)
    for (measure, device, threads), group in kinds:
        for axis, letter in LETTERS.items():
            lines = _along(group, axis)
            known = lines.dropna(subset=["seconds"])
            growth = exponent(known[axis], known["seconds"])
            head = f"{measure}, {device}, {threads} thread{'s' * (threads > 1)}, along {letter}"
            blocks.append("\n".join([f"{head}: ~ {letter}^{growth:.2f}", *_rows(lines, axis)]))
    return "\n\n".join(blocks)


def _along(group: pd.DataFrame, axis: str) -> pd.DataFrame:
    (other,) = set(AXES) - {axis}
    there = group[group[other] == ANCHOR].set_index(axis)
    return there.reindex(AXES[axis]).reset_index()  # sizes that were not tried, too


def _rows(lines: pd.DataFrame, axis: str) -> list[str]:
    guesses, shown = extrapolated(lines, axis), []
    for line, guess in zip(lines.to_dict("records"), guesses, strict=True):
        measured, ratio = pd.notna(line["seconds"]), line["seconds"] / line["floor"]
        taken = _seconds(guess) if measured else f"({_seconds(guess)})"
        cells = [
            f"{LETTERS[axis]} = {line[axis]:<6}",
            f"{taken:>10}",
            f"{ratio:6.1f} x floor" if pd.notna(ratio) else " " * 14,
            f"{line['megabytes']:8.0f} MB" if pd.notna(line["megabytes"]) else " " * 11,
            "" if pd.isna(line["note"]) else str(line["note"]),
        ]
        shown.append("  " + "  ".join(cells).rstrip())
    return shown


def _seconds(value: float) -> str:
    if np.isnan(value):
        return "?"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def draw_figure(table: pd.DataFrame) -> Figure:
    """Seconds over size, both logarithmic; floors dashed, extrapolated values hollow."""
    figure = Figure(figsize=(11, 5), layout="constrained", dpi=90)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (axis, letter) in zip(panels, LETTERS.items(), strict=True):
        for number, measure in enumerate(MEASURES):
            colour = f"C{number}"
            mine = table[(table["measure"] == measure)]
            kinds: Any = mine.groupby(["device", "threads"], sort=False)
            for (device, threads), group in kinds:
                lines = _along(group, axis)
                known = lines["seconds"].notna()
                guess, style = extrapolated(lines, axis), _style(device, threads)
                label = f"{measure}, {device}" + f", {threads} threads" * (threads > 1)
                panel.plot(
                    lines[axis][known], guess[known], style, ms=4, color=colour, label=label
                )  # fmt: skip
                panel.plot(lines[axis][~known], guess[~known], "o", ms=5, color=colour, mfc="none")
                panel.plot(lines[axis], lines["floor"], "--", lw=1, color=colour)
        panel.set(xscale="log", yscale="log", xlabel=_title(letter))
        panel.grid(color="0.9")
    panels[0].set_ylabel("seconds (dashed: floor; hollow: extrapolated)")
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def _style(device: str, threads: int) -> str:
    if device == "cuda":
        return "s-."
    return "o-" if threads == 1 else "o:"


def _title(letter: str) -> str:
    if letter == "d":
        return f"variables, of {ANCHOR} tasks of 110 rows"
    return f"tasks of 110 rows, of {ANCHOR} variables"

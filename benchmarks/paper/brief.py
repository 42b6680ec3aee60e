"""The table in short, as README and docs show it: wrong edges and target AP, method by world."""

import pandas as pd

from benchmarks.paper.methods import METHODS
from benchmarks.paper.report import mark, summary, welch
from benchmarks.paper.worlds import KINDS

__all__ = ["brief"]

NAMES = {
    "metacadi": "`MetaCaDI()`",
    "paper": "`MetaCaDI.paper()`",
    "shared": "the same, one predictor for all variables",
    "intv_maml": "the same, Intv-MAML",
    "full_maml": "the same, Full-MAML",
    "jci_pc": "JCI-PC",
    "utigsp": "UT-IGSP",
    "gies": "GIES (is told all targets)",
    "dcdi_g": "DCDI-G",
    "bacadi": "BaCaDI",
    "bacadi_uniform": "BaCaDI, particles alike",
    "linear_gaussian": "linear-Gaussian",
    "mean_shift": "mean shift",
    "variance_ratio": "variance ratio",
    "random": "random graph and targets",
    "empty": "empty graph",
    "true_graph": "`MetaCaDI()` that knows the graph",
    "ceiling": "all known but the targets",
}


def brief(rows: pd.DataFrame) -> str:
    """A Markdown table: mean expected SHD and target AP, on how many seeds.

    Args:
        rows: As `report.joined` gives them; + and - are as in `report.printed`.
    """
    figures = summary(rows)
    worlds = [name for name in KINDS if (rows["world"] == name).any()]
    tests = {world: welch(rows, world) for world in worlds}
    lines = ["| | " + " | ".join(f"`{world}`" for world in worlds) + " | seeds |"]
    lines.append("|---" * (len(worlds) + 2) + "|")
    for method in METHODS:
        counts = [_count(rows, world, method) for world in worlds]
        if any(counts):
            cells = [_cell(figures, tests[world], world, method) for world in worlds]
            lines.append("| " + " | ".join([NAMES[method], *cells, _seeds(counts)]) + " |")
    return "\n".join(lines)


def _count(rows: pd.DataFrame, world: str, method: str) -> int:
    there = (rows["world"] == world) & (rows["method"] == method) & (rows["error"] == "")
    return int(there.sum())


def _seeds(counts: list[int]) -> str:
    some = sorted({count for count in counts if count})
    return str(some[0]) if len(some) == 1 else f"{some[0]} to {some[-1]}"


def _cell(figures: pd.DataFrame, tests: pd.DataFrame, world: str, method: str) -> str:
    parts = []
    for score, digits in (("e_shd", 1), ("intv_ap", 2)):
        if (world, method, score) in figures.index:
            value = f"{figures['mean'][world, method, score]:.{digits}f}"
            value = value.removeprefix("0") if score == "intv_ap" else value
            sign = mark(tests, (method, score)).strip()
            parts.append(value + sign.replace("-", "\N{MINUS SIGN}"))
        elif parts or (world, method, "intv_ap") in figures.index:
            parts.append("·")
    return ", ".join(parts)

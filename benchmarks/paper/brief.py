"""The tables of README and docs: all worlds in short, tasks of unequal size, published rows."""

from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from benchmarks.paper import published
from benchmarks.paper.methods import METHODS
from benchmarks.paper.report import mark, summary, welch
from benchmarks.paper.worlds import KINDS

__all__ = ["beside_published", "brief", "groups", "pages"]

MINUS = "\N{MINUS SIGN}"


def pages(rows: pd.DataFrame) -> str:
    """All tables, of rows as `report.joined` gives them."""
    return "\n\n".join([brief(rows), groups(rows), beside_published(rows)])


def brief(rows: pd.DataFrame) -> str:
    """Wrong edges as a share of the empty graph's, and target AP; + and - as `report.printed` has.

    The share is one of means over a method's own seeds, of which some have more edges than others.
    """
    figures = summary(rows)
    worlds = [name for name in KINDS if (rows["world"] == name).any()]
    tests = {world: welch(rows, world) for world in worlds}
    lines = []
    for method, facts in METHODS.items():
        counts = {world: len(_runs(rows, world, method)) for world in worlds}
        if any(counts.values()):
            cells = [_cell(figures, tests[world], world, method) for world in worlds]
            lines.append([facts.title, *cells, _seeds(counts)])
    return _table(["", *(f"`{world}`" for world in worlds), "seeds"], lines)


def groups(rows: pd.DataFrame, world: str = "gp-imbalanced") -> str:
    """Target AP of the tasks with many rows, and of those with few."""
    figures, lines = summary(rows), []
    for method, facts in METHODS.items():
        keys = [(world, method, f"intv_ap_{group}") for group in ("large", "small")]
        if all(key in figures.index for key in keys):
            cells = [_decimal(figures["mean"][key]) for key in keys]
            lines.append([facts.title, *cells, str(int(figures["n"][keys[0]]))])
    return _table(["", "200 rows", "10 rows", "seeds"], lines)


def beside_published(rows: pd.DataFrame, world: str = "nn-bacadi") -> str:
    """What others published of a world's kind, and what the same methods do here.

    Distances with their share of the empty graph's, of the seeds that have both.
    """
    lines = []
    for method in [method for at, method, *_ in published.ROWS if at == world]:
        here, empty = (_runs(rows, world, name) for name in (method, "empty"))
        here, empty = (a[a["seed"].isin(b["seed"])] for a, b in ((here, empty), (empty, here)))
        if not len(here):
            continue
        theirs = published.row(world, method)
        nothing = published.EMPTY[world]
        cells = [METHODS[method].title]
        for score in ("e_shd", "e_sid"):
            cells.append(_distance(theirs[score], nothing[score]))
            cells.append(_distance(here[score].mean(), empty[score].mean()))
        for score in ("intv_auroc", "intv_ap"):
            cells += [_decimal(theirs[score]), _decimal(here[score].mean())]
        lines.append([*cells, f"{theirs['n']}", f"{len(here)}"])
    names = ("E-SHD", "E-SID", "target AUROC", "target AP", "seeds")
    return _table(["", *(part for name in names for part in (name, "here"))], lines)


def _runs(rows: pd.DataFrame, world: str, method: str) -> pd.DataFrame:
    """Those that ended well."""
    there = (rows["world"] == world) & (rows["method"] == method) & (rows["error"] == "")
    return rows[there]


def _cell(figures: pd.DataFrame, tests: pd.DataFrame, world: str, method: str) -> str:
    found = figures["mean"].to_dict()
    shd, empty, ap = (
        found.get((world, method, score)) for score in ("e_shd", "empty_shd", "intv_ap")
    )
    if shd is None and ap is None:
        return ""
    share = None if shd is None or empty is None else shd / empty
    parts = [("e_shd", share), ("intv_ap", ap)]
    return ", ".join(
        "·" if value is None else _decimal(value) + mark(tests, (method, score)).strip()
        for score, value in parts
    ).replace("-", MINUS)


def _seeds(counts: Mapping[str, int]) -> str:
    """How many in most worlds, and where there are others."""
    most = Counter(count for count in counts.values() if count).most_common(1)[0][0]
    others = [f"`{world}` {n}" for world, n in counts.items() if n not in (0, most)]
    return f"{most}" + (f" ({', '.join(others)})" if others else "")


def _distance(value: float, nothing: float) -> str:
    return f"{value:.1f} ({_decimal(value / nothing)})"


def _decimal(value: float) -> str:
    text = f"{value:.2f}"
    return text.removeprefix("0") if value < 1 else text


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = ["| " + " | ".join(line) + " |" for line in (head, *lines)]
    return "\n".join([rows[0].replace("|  |", "| |"), "|---" * len(head) + "|", *rows[1:]])

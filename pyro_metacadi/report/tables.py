"""The report's tables, each cut to what a page can hold."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.report.subject import Subject

if TYPE_CHECKING:
    import pandas

__all__ = ["Column", "Table", "edge_table", "target_table", "task_table", "variable_table"]

MOST_ROWS = 2000
LEAST_PROBABILITY = 0.01


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: Over it.
        kind: ``"text"``, ``"number"``, ``"share"`` (a number from 0 to 1) or ``"probability"``
            (the same with a bar).
    """

    heading: str
    kind: str = "text"


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Attributes:
        caption: What it shows.
        columns: Its columns.
        rows: A value for each column; NaN or None is left blank.
        note: What was left out, if anything.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    note: str = ""

    @classmethod
    def of(cls, frame: "pandas.DataFrame", *, caption: str) -> "Table":
        """A data frame's columns, without its index; of many rows, the first 2000."""
        kinds = ["number" if kind.kind in "biuf" else "text" for kind in frame.dtypes]
        columns = [Column(str(n), k) for n, k in zip(frame.columns, kinds, strict=True)]
        rows, note = _cut(list(frame.itertuples(index=False)), "rows")
        return cls(caption, columns, rows, note)


def edge_table(subject: Subject) -> Table:
    """Edges that are not all but impossible, the most probable first."""
    probs, names = subject.posterior.edge_probs.values, subject.tasks.variables
    order = np.argsort(-probs, axis=None, kind="stable")
    order = order[: np.count_nonzero(probs >= LEAST_PROBABILITY)]
    pairs = zip(*np.unravel_index(order, probs.shape), strict=True)
    rows = [[names[i], names[j], probs[i, j], probs[j, i]] for i, j in pairs]
    rows, note = _cut(rows, "edges")
    left = f"Edges less probable than {LEAST_PROBABILITY} are left out."
    columns = [Column("cause"), Column("effect")]
    columns += [Column("probability", "probability"), Column("of the reverse", "share")]
    return Table("Edges, the most probable first", columns, rows, f"{left} {note}".strip())


def target_table(subject: Subject) -> Table:
    """Every task's variables, the most suspicious first."""
    frame, names = subject.posterior.rank_targets(), subject.tasks.variables
    most = min(max(1, MOST_ROWS // len(subject.tasks)), len(names))
    kept = frame[frame["rank"] <= most]
    columns = [Column("task"), Column("rank", "number"), Column("variable")]
    columns += [Column("probability", "probability")]
    cells: list[Any] = [kept["task"], kept["rank"], kept["variable"], kept["probability"]]
    if subject.targets_by_graph is not None:
        place = {name: at for at, name in enumerate(names)}
        task = np.repeat(np.arange(len(subject.tasks)), most)
        variable = [place[name] for name in kept["variable"]]
        low, high = np.quantile(subject.targets_by_graph, [0.05, 0.95], axis=0)
        columns += [Column("low", "share"), Column("high", "share")]
        cells += [low[task, variable], high[task, variable]]
    if kept["declared"].any():
        columns.append(Column("declared"))
        cells.append(np.where(kept["declared"], "yes", "no"))
    rows, note = _cut(list(zip(*cells, strict=True)), "rows")
    if most < len(names):
        note = f"Of each task, the first {most} of {len(names)} variables are shown. {note}"
    return Table(
        "Targets, the most suspicious variables of each task first", columns, rows, note.strip()
    )


def task_table(tasks: TaskDataset) -> Table:
    """Rows of every task, and what was declared of its targets."""
    columns = [Column("task"), Column("rows", "number"), Column("declared hit")]
    columns.append(Column("declared not hit", "number"))
    known = tasks.known_targets
    if known is None:
        known = np.full((len(tasks), len(tasks.variables)), -1)
    rows = [
        [name, int(size), ", ".join(_picked(tasks.variables, line == 1)), int((line == 0).sum())]
        for name, size, line in zip(tasks.tasks, tasks.num_rows, known, strict=True)
    ]
    rows, note = _cut(rows, "tasks")
    if not (known >= 0).any():  # nothing was declared
        return Table("Experiments", columns[:2], [row[:2] for row in rows], note)
    return Table("Experiments", columns, rows, note)


def variable_table(tasks: TaskDataset) -> Table:
    """What the values of every variable are like, in the user's units."""
    columns = [Column("variable"), *(Column(n, "number") for n in ("mean", "sd", "least", "most"))]
    if tasks.on_disk:
        return Table(
            "Variables", columns[:1], [[name] for name in tasks.variables], "Rows on disk."
        )
    values = tasks.values
    parts = values.mean(axis=0), values.std(axis=0), values.min(axis=0), values.max(axis=0)
    rows, note = _cut(list(zip(tasks.variables, *parts, strict=True)), "variables")
    return Table("Variables, over all experiments", columns, rows, note)


def _picked(names: Iterable[str], chosen: Iterable[bool]) -> list[str]:
    return [name for name, take in zip(names, chosen, strict=True) if take]


def _cut(rows: list[Any], what: str) -> tuple[list[Any], str]:
    if len(rows) <= MOST_ROWS:
        return rows, ""
    return rows[:MOST_ROWS], f"The first {MOST_ROWS} of {len(rows)} {what} are shown."

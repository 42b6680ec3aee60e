"""The table: mean and standard deviation over seeds, and Welch's test against the default."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.paper import published
from benchmarks.paper.methods import DEFAULT, METHODS
from benchmarks.paper.runs import COLUMNS, SCORES, read
from benchmarks.paper.worlds import KINDS
from pyro_metacadi._files import staged_file
from pyro_metacadi.errors import ConfigError

__all__ = [
    "KEYS",
    "LOWER_IS_BETTER",
    "TESTED",
    "joined",
    "mark",
    "printed",
    "read_table",
    "summary",
    "welch",
    "write_table",
]

LOWER_IS_BETTER = ("e_shd", "e_sid")
"""Distances to the true graph; all other scores are better the higher they are."""

TESTED = ("e_shd", "e_sid", "edge_ap", "intv_auroc", "intv_ap")
"""Scores of the hypotheses; their p-values are adjusted together, world by world."""

LEVEL = 0.05
FEWEST = 3
"""Runs of either that a test needs: two are alike by chance too easily."""

WIDTH = 17
KEYS = ["world", "seed", "method"]
REMEDY = "Pass another: --table."
SECONDS = ("fit_seconds", "adapt_seconds")
COMPARED = ("ours", "told", "baseline")
"""Kinds of methods that are tested; floors and ceilings are not hypotheses."""

LEGEND = f"""\
Mean ± standard deviation, and tests, over the n seeds whose runs ended well. + better and - worse
than {DEFAULT}, by Welch's t-test with false discoveries below {LEVEL:.0%} among the tests of a
world (of {", ".join(TESTED)}; ours, told and baselines), on the
seeds that both have. No mark: no difference is shown, or none can be tested, as of fewer than
{FEWEST} runs, or where neither method's runs differ among themselves. Told: knows all targets.
Graphs of seeds differ in size: compare e_shd with empty_shd, the empty graph's on the same seeds.
Seconds are processor time of one thread, of runs on the machine of most runs unless a line says
otherwise; adapt_seconds is of all new tasks together."""


def joined(table: Path | None, files: Path) -> pd.DataFrame:
    """Rows of the table and of the files: of each run the latest that did not fail.

    Raises:
        ConfigError: The table is none (see `read_table`).
    """
    old = read_table(table) if table is not None and table.exists() else pd.DataFrame()
    new = pd.DataFrame([row for file in sorted(files.glob("*/*.json")) if (row := read(file))])
    rows = pd.concat([part for part in (old, new) if len(part)] or [old])
    rows = rows.reindex(columns=list(COLUMNS)).fillna({"error": ""})
    rows = rows.astype(dict.fromkeys(SCORES, float))
    rows = rows[rows["world"].isin(list(KINDS)) & rows["method"].isin(list(METHODS))]
    rows = rows.assign(good=rows["error"] == "").sort_values(["good", "date"])
    rows = rows.drop_duplicates(KEYS, keep="last").drop(columns="good")
    order = {name: place for place, name in enumerate([*KINDS, *METHODS])}
    rank = [rows["world"].map(order), rows["method"].map(order), rows["seed"]]
    return rows.iloc[np.lexsort(rank[::-1])].reset_index(drop=True)


def read_table(path: Path) -> pd.DataFrame:
    """The rows of a CSV that `write_table` wrote.

    Raises:
        ConfigError: It has other columns, or rows that no run has.
    """
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
        if tuple(rows.columns) != COLUMNS:
            raise ValueError("the columns " + ", ".join(map(str, rows.columns))[:100])
        scores = rows[list(SCORES)].replace("", "nan").astype(float)
        rows = rows.assign(**scores).astype({"seed": int})
        bare = scores.isna().all(axis=1) & (rows["error"] == "")
        absurd = bare | scores.isin([np.inf, -np.inf]).any(axis=1)
        if absurd.any():
            at = int(absurd.argmax())
            raise ValueError(f"neither finite scores nor an error in row {at + 1}")
    except (OSError, ValueError) as error:  # pandas' own are of the latter kind
        raise ConfigError(f"{path}: expected a table of runs, got: {error}. {REMEDY}") from error
    return rows


def write_table(rows: pd.DataFrame, path: Path) -> None:
    """Write a CSV, whole or not at all."""
    with staged_file(path) as fresh:
        rows.to_csv(fresh, index=False)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean, standard deviation and number by world, method and score, failed runs left out.

    Seconds are those of one machine, see `_clocked`.
    """
    done = rows[rows["error"] == ""]
    clocked = _clocked(done)
    done = done.assign(**{name: done[name].where(clocked) for name in SECONDS})
    long = done.melt(["world", "method"], value_vars=list(SCORES), var_name="score").dropna()
    groups = long.astype({"value": float}).groupby(["world", "method", "score"])["value"]
    return pd.DataFrame({"mean": groups.mean(), "sd": groups.std(), "n": groups.count()})


def _clocked(rows: pd.DataFrame) -> pd.Series:
    """Whether the seconds of each row count.

    Of a method on a world those of one machine do: among its own the one that most rows are of.
    """
    machines = rows["machine"].fillna("")
    others = machines.map(machines.value_counts())
    return others == others.groupby([rows["world"], rows["method"]]).transform("max")


def welch(rows: pd.DataFrame, world: str) -> pd.DataFrame:
    """Welch's t-test of every method and tested score against the default, on one world.

    Both on the seeds that both have, for graphs of others have other numbers of edges.

    Returns:
        By method and score: ``difference`` of means, its ``p``, and ``q``, p adjusted for all tests
        of this world (Benjamini and Hochberg); NaN where a test has fewer than `FEWEST` runs of
        either, or neither's runs differ among themselves, which leaves no variance to test against.
    """
    done = rows[(rows["world"] == world) & (rows["error"] == "")]
    own = done[done["method"] == DEFAULT]
    tests = []
    rivals = [name for name in done["method"].unique() if METHODS[name].kind in COMPARED]
    for method in rivals:
        theirs = done[done["method"] == method]
        ours = own[own["seed"].isin(theirs["seed"])]
        theirs = theirs[theirs["seed"].isin(own["seed"])]
        for score in TESTED if method != DEFAULT else ():
            a, b = (part[score].dropna().to_numpy(dtype=float) for part in (theirs, ours))
            if len(a) and len(b):
                tests.append((method, score, a.mean() - b.mean(), _p_value(a, b)))
    found = pd.DataFrame(tests, columns=["method", "score", "difference", "p"])
    found = found.set_index(["method", "score"])
    there = found["p"].notna()
    if there.any():
        found.loc[there, "q"] = stats.false_discovery_control(found.loc[there, "p"])
    return found.reindex(columns=["difference", "p", "q"])


def _p_value(a: np.ndarray, b: np.ndarray) -> float:
    if min(len(a), len(b)) < FEWEST or (np.ptp(a) == 0 and np.ptp(b) == 0):
        return float("nan")
    # From moments, for SciPy's own of constant values come with a warning.
    moments = [(part.mean(), part.std(ddof=1), len(part)) for part in (a, b)]
    return float(stats.ttest_ind_from_stats(*moments[0], *moments[1], equal_var=False).pvalue)


def printed(rows: pd.DataFrame) -> str:
    """A table for each world, what the marks mean, and what others published."""
    figures = summary(rows)
    blocks = [
        "\n".join([f"{name}: {kind.title}", *_lines(rows, figures, world=name)])
        for name, kind in KINDS.items()
        if (rows["world"] == name).any()
    ]
    runs = ["commit", "machine", "torch", "python"]
    made = rows.groupby(runs, sort=False).size().rename("runs").reset_index().to_string(index=False)
    return "\n\n".join([*blocks, LEGEND, f"made by\n{made}", published.printed()])


def _lines(rows: pd.DataFrame, figures: pd.DataFrame, *, world: str) -> list[str]:
    there = {score for at, _, score in figures.index if at == world}
    scores = [score for score in SCORES if score in there]
    tests = welch(rows, world)
    lines, notes = [_line("", "", scores, end="n")], []
    for method, facts in METHODS.items():
        mine = rows[(rows["world"] == world) & (rows["method"] == method)]
        if len(mine):
            cells = [_cell(figures, tests, (world, method, score)) for score in scores]
            failed = int((mine["error"] != "").sum())
            note = f" + {failed} failed" if failed else ""
            lines.append(_line(method, facts.kind, cells, end=f"{len(mine) - failed}{note}"))
            reasons = mine["error"][mine["error"] != ""].str.removeprefix("failed: ")
            counts = reasons.value_counts(sort=False).items()
            notes += [f"{method} failed, {count} x: {why}" for why, count in counts]
    elsewhere = _elsewhere(rows, world=world)
    return lines + notes + elsewhere


def _elsewhere(rows: pd.DataFrame, *, world: str) -> list[str]:
    """Whose seconds are of another machine than most rows are, a line for each machine."""
    done = rows[rows["error"] == ""]
    usual = done["machine"].mode().tolist()
    clocked = done[_clocked(done) & (done["world"] == world)].drop_duplicates(["method", "machine"])
    methods = clocked.groupby("machine", sort=False)["method"].agg(", ".join)
    return [f"seconds are of {at}: {who}" for at, who in methods.items() if at not in usual]


def _line(name: str, kind: str, cells: Sequence[str], *, end: str) -> str:
    return (f"{name:<17}{kind:<10}" + "".join(f"{cell:<{WIDTH}}" for cell in cells) + end).rstrip()


def _cell(figures: pd.DataFrame, tests: pd.DataFrame, key: tuple[str, str, str]) -> str:
    if key not in figures.index:
        return "."
    mean, spread = (float(figures[column][key]) for column in ("mean", "sd"))
    digits = 3 if abs(mean) < 2 else 1
    text = f"{mean:.{digits}f}" + ("" if np.isnan(spread) else f" ± {spread:.{digits}f}")
    return text + mark(tests, key[1:])


def mark(tests: pd.DataFrame, key: tuple[str, str]) -> str:
    """+ or - if a method is better or worse than the default at a score; see `LEGEND`."""
    if key not in tests.index or not tests["q"][key] < LEVEL:
        return ""
    higher = bool(tests["difference"][key] > 0)
    return " -" if higher == (key[1] in LOWER_IS_BETTER) else " +"

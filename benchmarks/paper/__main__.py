"""Every method on every world, side by side: ``python -m benchmarks.paper``.

Runs what has no file yet, one process and one file per world, seed and method, and prints the
report. Stop it whenever you like and start it again. ``python -m benchmarks.paper report`` runs
nothing: it joins the files with the committed table, prints it (mean ± standard deviation over
seeds, Welch's test against the default) and draws the paper's Figure 2 beside it.

Settings are tuned on the seeds 0-9; those from 100 on are for reporting only.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from benchmarks.accuracy.__main__ import positive
from benchmarks.paper.figure import draw_figure
from benchmarks.paper.methods import METHODS
from benchmarks.paper.report import joined, printed
from benchmarks.paper.runs import Cell, measure, missing, plan, write
from benchmarks.paper.sweep import on_cluster, on_this_machine
from benchmarks.paper.worlds import KINDS
from pyro_metacadi.errors import ConfigError

FILES = Path("out/paper")
TABLE = Path(__file__).parents[1] / "results" / "paper.csv"
FIRST_SEED = 100
LIMIT = 1800


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, and report."""
    arguments = parse(argv)
    if arguments.one:
        print(json.dumps(measure(Cell(*json.loads(arguments.one)))))
        return 0
    try:
        if arguments.action == "run":
            sweep(arguments)
    except (ConfigError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    table = joined(None if arguments.smoke else arguments.table, arguments.files)
    report(table, arguments)
    return 0


def sweep(arguments: argparse.Namespace) -> None:
    """Run what has no file yet."""
    seeds = range(arguments.first, arguments.first + arguments.sims)
    wanted = plan(arguments.worlds, arguments.methods, seeds, smoke=arguments.smoke)
    cells = missing(wanted, arguments.files, retry=arguments.retry)
    if arguments.scheduler:
        rows = on_cluster(cells, scheduler=arguments.scheduler, limit=arguments.limit)
    else:
        rows = on_this_machine(cells, jobs=arguments.jobs, limit=arguments.limit)
    for count, (cell, row) in enumerate(rows, start=1):
        write(cell.file(arguments.files), row)
        outcome = row["error"] or f"{row.get('fit_seconds', 0.0):.0f} s"
        name = f"{cell.world} {cell.seed} {cell.method}"
        print(f"{count}/{len(cells)} {name}: {outcome}", flush=True)


def report(table: pd.DataFrame, arguments: argparse.Namespace) -> None:
    """Print the table; write it and the figure, unless it is a smoke test's."""
    print(printed(table))
    if len(table) and not arguments.smoke:
        table.to_csv(arguments.table, index=False)
        draw_figure(table).savefig(arguments.table.with_suffix(".png"))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("action", nargs="?", choices=["run", "report"], default="run")
    choices: dict[str, list[str]] = {"worlds": list(KINDS), "methods": list(METHODS)}
    for name, known in choices.items():
        parser.add_argument(
            f"--{name}", type=partial(chosen, known=known), metavar="A,B", default=known,
            help=f"all, the default, or some of: {', '.join(known)}",
        )  # fmt: skip
    parser.add_argument(
        "--sims", type=positive, default=20, metavar="N",
        help="seeds, default 20; methods that take minutes run on the first five",
    )  # fmt: skip
    parser.add_argument(
        "--first", type=int, default=FIRST_SEED, metavar="SEED", help="default: 100"
    )
    parser.add_argument("--jobs", type=positive, default=2, help="runs side by side; default: 2")
    parser.add_argument("--scheduler", metavar="TCP", help="of a Dask cluster: tcp://host:8786")
    parser.add_argument(
        "--limit", type=float, default=LIMIT, help="seconds a run may take; default: %(default)s"
    )
    parser.add_argument("--retry", action="store_true", help="run again what failed")
    parser.add_argument(
        "--smoke", action="store_true", help="small worlds and short runs: does it all work?"
    )
    parser.add_argument("--files", type=Path, help=f"folder of the runs; default: {FILES}")
    parser.add_argument("--table", type=Path, default=TABLE, help="default: %(default)s")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.files is None:
        arguments.files = FILES.with_name("paper-smoke") if arguments.smoke else FILES
    return arguments


def chosen(text: str, *, known: Sequence[str]) -> list[str]:
    """Names in `text`, which must all be known."""
    names = list(known) if text == "all" else text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"expected all or names from {', '.join(known)}, got {unknown[0]!r}"
        )
    return names


if __name__ == "__main__":
    sys.exit(main())

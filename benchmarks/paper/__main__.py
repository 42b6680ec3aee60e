"""Every method on every world, side by side: ``python -m benchmarks.paper``.

Runs what has no file yet, one process and one file per world, seed and method, and prints the
report. Stop it whenever you like and start it again. ``python -m benchmarks.paper report`` runs
nothing: it joins the files with the committed table, prints it (mean ± standard deviation over
seeds, Welch's test against the default) and draws the paper's Figure 2 beside it. ``brief``
prints the tables of README and docs instead. From a fresh clone everything is run again;
``--extend`` runs what the committed table lacks.

``metacadi`` is the default of this package, its evidence engine; ``paper`` the paper's
configuration. Settings are tuned on the seeds 0-9; those from 100 on are for reporting only.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from benchmarks.accuracy.__main__ import positive
from benchmarks.paper.brief import pages
from benchmarks.paper.figure import draw_figure
from benchmarks.paper.methods import METHODS
from benchmarks.paper.report import KEYS, joined, printed, read_table, write_table
from benchmarks.paper.runs import Cell, measure, missing, plan, write
from benchmarks.paper.sweep import on_cluster, on_this_machine
from benchmarks.paper.worlds import KINDS
from benchmarks.processes import end_children_when_terminated
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
        check_paths(arguments)
        if arguments.action == "run":
            sweep(arguments)
        table = joined(None if arguments.smoke else arguments.table, arguments.files)
        if table.empty:
            raise ConfigError(
                f"runs: expected some, got none in {arguments.table} and {arguments.files}. Run "
                "them first, or pass others."
            )
        if arguments.action == "brief":
            print(pages(table))
        else:
            report(table, arguments)
    except (ConfigError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; what has ended is kept. The same command goes on.", file=sys.stderr)
        return 130
    return 0


def check_paths(arguments: argparse.Namespace) -> None:
    """Whether results can be kept, before they are computed.

    Raises:
        ConfigError: A folder is none, or the table is no such table.
    """
    if arguments.extend and not arguments.table.exists():
        raise ConfigError(f"table: expected one to extend, got {arguments.table}. Pass another.")
    for name, folder in (("files", arguments.files), ("table", arguments.table.parent)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{name}: expected a folder, got {error}. Pass another.") from error
    if arguments.table.exists():
        read_table(arguments.table)


def sweep(arguments: argparse.Namespace) -> None:
    """Run what has no file yet."""
    end_children_when_terminated()
    seeds = range(arguments.first, arguments.first + arguments.sims)
    wanted = plan(arguments.worlds, arguments.methods, seeds, smoke=arguments.smoke)
    cells = missing(wanted, arguments.files, retry=arguments.retry)
    there = [cell for cell in wanted if cell not in set(cells)]
    if broken := missing(there, arguments.files, retry=True):
        print(f"{len(broken)} failed before. --retry runs them again.", file=sys.stderr)
    if arguments.extend:
        cells = beyond(cells, read_table(arguments.table), retry=arguments.retry)
    if arguments.scheduler:
        rows = on_cluster(cells, scheduler=arguments.scheduler, limit=arguments.limit)
    else:
        rows = on_this_machine(cells, jobs=arguments.jobs, limit=arguments.limit)
    for count, (cell, row) in enumerate(rows, start=1):
        write(cell.file(arguments.files), row)
        outcome = row["error"] or f"{row.get('fit_seconds', 0.0):.0f} s"
        name = f"{cell.world} {cell.seed} {cell.method}"
        print(f"{count}/{len(cells)} {name}: {outcome}", flush=True)


def beyond(cells: Sequence[Cell], table: pd.DataFrame, *, retry: bool) -> list[Cell]:
    """Those that the table has no row of; with `retry` also those that failed there."""
    rows = table[table["error"] == ""] if retry else table
    known = set(rows[KEYS].itertuples(index=False, name=None))
    return [cell for cell in cells if cell[:3] not in known]


def report(table: pd.DataFrame, arguments: argparse.Namespace) -> None:
    """Print the table; write it and the figure, unless it is a smoke test's."""
    print(printed(table))
    if not arguments.smoke:
        write_table(table, arguments.table)
        if (table["error"] == "").any():
            draw_figure(table).savefig(arguments.table.with_suffix(".png"))
        else:
            print("No figure is drawn: no run has ended well.")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.smoke and arguments.extend:
        parser.error("--extend: the table has no smoke tests. Leave out one of the two.")
    if arguments.smoke:  # never to be taken for the others
        arguments.files /= "smoke"
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("action", nargs="?", choices=["run", "report", "brief"], default="run")
    choices: dict[str, list[str]] = {"worlds": list(KINDS), "methods": list(METHODS)}
    for name, known in choices.items():
        parser.add_argument(
            f"--{name}", type=partial(chosen, known=known), metavar="A,B", default=known,
            help=f"all, the default, or some of: {', '.join(known)}",
        )  # fmt: skip
    parser.add_argument(
        "--sims", type=positive, default=20, metavar="N",
        help="the first so many seeds, default 20; five at most where a run takes over two minutes",
    )  # fmt: skip
    parser.add_argument(
        "--first", type=seed, default=FIRST_SEED, metavar="SEED", help="default: 100"
    )
    parser.add_argument("--jobs", type=positive, default=2, help="runs side by side; default: 2")
    parser.add_argument(
        "--scheduler", type=address, metavar="TCP", help="of a Dask cluster: tcp://host:8786"
    )
    parser.add_argument(
        "--limit", type=seconds, default=LIMIT, help="seconds a run may take; default: %(default)s"
    )
    parser.add_argument("--retry", action="store_true", help="run again what failed")
    parser.add_argument(
        "--extend", action="store_true", help="leave out what the table has, also without files"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="small worlds and short runs: does it all work?"
    )
    parser.add_argument(
        "--files", type=Path, default=FILES, help="folder of the runs; default: %(default)s"
    )
    parser.add_argument("--table", type=Path, default=TABLE, help="default: %(default)s")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser


def chosen(text: str, *, known: Sequence[str]) -> list[str]:
    """Names in `text`, which must all be known."""
    names = list(known) if text == "all" else text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"expected all or names from {', '.join(known)}, got {unknown[0]!r}"
        )
    return list(dict.fromkeys(names))


def address(text: str) -> str:
    """One of a scheduler; whether it is there is seen later."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected an address such as tcp://host:8786, got none")
    return text


def seed(text: str) -> int:
    """A whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """A positive number of them, at most a week."""
    if not 0 < float(text) <= 7 * 24 * 3600:
        raise argparse.ArgumentTypeError(f"expected seconds, above 0 and up to a week, got {text}")
    return float(text)


if __name__ == "__main__":
    sys.exit(main())

"""Every method on every world with known truth: ``python -m benchmarks.accuracy``.

Runs what is not in the file yet, one row per world, seed and method, and then prints for each world
the methods side by side (mean and standard error over seeds, the goal on top) and draws a figure
beside the file. Stop it whenever you like and start it again; runs that failed are tried again.

Settings are tuned on the seeds 0:10; the seeds 100:120 are for reporting only. Rows do not know the
code that made them: after a change, delete a method's rows, or write to another file.
"""

import argparse
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from benchmarks.accuracy.methods import DEFAULT_METHODS, METHODS
from benchmarks.accuracy.report import draw_figure, printed
from benchmarks.accuracy.runs import append, missing, plan, read, run_cells
from benchmarks.accuracy.worlds import KINDS

OUT = Path(__file__).parents[1] / "results" / "accuracy.csv"


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing, print the table, draw the figure."""
    arguments = parse(argv)
    path = arguments.out
    wanted = plan(arguments.worlds, arguments.methods, arguments.seeds)
    cells = [] if arguments.report else missing(wanted, path)
    for count, row in enumerate(run_cells(cells, jobs=arguments.jobs), start=1):
        append(path, row)
        outcome = row["error"] or f"intv_ap {row.get('intv_ap', '-')}"
        name = f"{row['world']} {row['seed']} {row['method']}"
        print(f"{count}/{len(cells)} {name}: {outcome}", flush=True)
    table = read(path)
    table = table[table["seed"].isin(arguments.seeds) & table["world"].isin(arguments.worlds)]
    print(f"\nseeds {min(arguments.seeds)} to {max(arguments.seeds)}\n\n{printed(table)}")
    if len(table):
        draw_figure(table).savefig(path.with_suffix(".png"))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument(
        "--worlds", type=_names(KINDS), default=list(KINDS), help=", ".join(KINDS), metavar="A,B"
    )
    parser.add_argument(
        "--methods",
        type=_names(METHODS),
        default=list(DEFAULT_METHODS),
        help=f"{', '.join(METHODS)}; default: all. paper runs on the first five seeds",
        metavar="A,B",
    )
    parser.add_argument(
        "--seeds", type=seed_range, default="100:120", help="default: 100:120", metavar="FROM:TO"
    )
    parser.add_argument("--jobs", type=positive, default=2, help="runs side by side; default: 2")
    parser.add_argument("--out", type=Path, default=OUT, help="the file; default: %(default)s")
    parser.add_argument("--report", action="store_true", help="run nothing")
    return parser.parse_args(argv)


def seed_range(text: str) -> list[int]:
    """Seeds from the first up to, but without, the second number; one number is one seed."""
    first, colon, last = text.partition(":")
    seeds = list(range(int(first), int(last) if colon else int(first) + 1))
    if not seeds or seeds[0] < 0:
        raise argparse.ArgumentTypeError(f"expected seeds as in 100:120, got {text!r}")
    return seeds


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    def parse_names(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"expected names from {', '.join(known)}, got {unknown[0]!r}"
            )
        return names

    return parse_names


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


if __name__ == "__main__":
    main()

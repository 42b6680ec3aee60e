"""Fits of many variables: ``python -m benchmarks.large --sizes 100:100 500:20``.

Seconds, memory and accuracy of the default fit of worlds of Gaussian processes with so many
variables and tasks of 110 rows, two edges a variable; each in a process of its own. Unlike those of
`benchmarks.runtime` they take as long as they need.
"""

import argparse
from collections.abc import Sequence

from benchmarks.runtime.cells import Cell, run

LIMIT = 4 * 3600.0


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for every size."""
    arguments = parse(argv)
    for size in arguments.sizes:
        num_variables, num_tasks = map(int, size.split(":"))
        cell = Cell("fit", num_variables, num_tasks, "cpu", arguments.threads)
        row = run(cell, limit=LIMIT)
        took = "no time"
        if "seconds" in row:
            took = f"{row['seconds']:.0f} s, {row['megabytes']:.0f} MB"
        machine = f"{row['machine']}, {arguments.threads} threads, torch {row['torch']}"
        print(f"d = {num_variables}, T = {num_tasks}: {took}; {row['note']}; {machine}", flush=True)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.large",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--sizes", nargs="+", default=["100:100"], metavar="D:T")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()

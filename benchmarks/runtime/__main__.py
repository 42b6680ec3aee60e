"""Runtime and memory along two axes, beside the arithmetic alone: ``python -m benchmarks.runtime``.

Seconds of a gradient step of the paper's configuration (svi_step), of a thousand scored parent
sets, of adapting to one and to twenty new tasks of ten rows, and of a default fit (with its
accuracy): for 10 to 1000 variables and 20 tasks, and for 20 to 10,000 tasks and 20 variables. Every
cell is a process of its own and gets a minute; what takes longer is extrapolated and in
parentheses. Sizes measured before are not measured again: delete the file after a change of the
code, and leave the machine alone meanwhile.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.runtime.cells import KEYS, append, plan, read, run, run_here
from benchmarks.runtime.measures import MEASURES
from benchmarks.runtime.report import draw_figure, printed

OUT = Path(__file__).parents[1] / "results" / "runtime.csv"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, print the tables, draw the figure."""
    arguments = parse(argv)
    if arguments.one:
        print(run_here(arguments.one, limit=arguments.limit))
        return
    cells = (
        [] if arguments.report else plan(arguments.measures, arguments.devices, arguments.threads)
    )
    known = read(arguments.out).dropna(subset=["seconds"])
    done = set(known[list(KEYS)].itertuples(index=False, name=None))
    slow: set[tuple[str, str, int, bool]] = set()
    for cell in cells:
        if tuple(vars(cell).values()) in done or cell.line in slow:
            continue
        row = run(cell, limit=arguments.limit)
        append(arguments.out, row)
        print({name: row.get(name) for name in (*KEYS, "seconds", "floor", "note")}, flush=True)
        if "seconds" not in row:
            slow.add(cell.line)  # the next size would take longer
    table = read(arguments.out)
    if len(table):
        print(f"\n{printed(table)}")
        draw_figure(table).savefig(arguments.out.with_suffix(".png"))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.runtime",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument(
        "--measures", nargs="+", choices=list(MEASURES), default=list(MEASURES), metavar="NAME",
        help=", ".join(MEASURES),
    )  # fmt: skip
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument(
        "--devices", nargs="+", choices=["cpu", "cuda"], metavar="NAME",
        default=["cpu"] + ["cuda"] * torch.cuda.is_available(), help="default: all there are",
    )  # fmt: skip
    parser.add_argument("--limit", type=float, default=60, help="seconds a cell; default: 60")
    parser.add_argument("--out", type=Path, default=OUT, help="the file; default: %(default)s")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()

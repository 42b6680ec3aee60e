"""Where the time goes: ``python -m benchmarks.profile svi_step --num-variables 20``.

Runs what `benchmarks.runtime` measures under torch's profiler, and prints the operations that took
most of the time themselves, how many there were in all, and how often the host waited for a number
from the device. What was tried upon such tables, and what it gained, is in docs/speed.md.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.runtime.measures import Adaptation, Scores, Size, Steps

NUM_STEPS = 20


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    arguments = parse(argv)
    torch.set_num_threads(arguments.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = Size(arguments.num_variables, arguments.num_tasks, device)
    run = MEASURES[arguments.measure](size)
    print(report(run, runs=arguments.runs, rows=arguments.rows))


def report(run: Callable[[], object], *, runs: int, rows: int) -> str:
    """Profile some runs after one that is not; the table, and what there was of a run."""
    run()
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    with profile(activities=kinds) as found:
        for _ in range(runs):
            run()
    averages = found.key_averages()
    operations = sum(one.count for one in averages if one.key.startswith("aten::")) / runs
    waits = sum(one.count for one in averages if one.key == "aten::_local_scalar_dense") / runs
    milliseconds = averages.total_average().self_cpu_time_total / 1e3 / runs
    table = averages.table(
        sort_by="self_cpu_time_total", row_limit=rows, max_name_column_width=40, header="Profile"
    )
    return (
        f"{table}\na run: {milliseconds:.2f} ms on the host, {operations:.0f} operations (parts of "
        f"others among them), {waits:.1f} numbers read back"
    )


def step(size: Size) -> Callable[[], object]:
    """Twenty gradient steps, as one run."""
    return partial(Steps(size), NUM_STEPS)


MEASURES: dict[str, Callable[[Size], Callable[[], object]]] = {
    "svi_step": step,
    "scores": Scores,
    "adapt_1": partial(Adaptation, num_new=1),
    "adapt_20": partial(Adaptation, num_new=20),
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("measure", choices=list(MEASURES), help=f"svi_step is {NUM_STEPS} of them")
    parser.add_argument("--num-variables", type=int, default=20, metavar="D")
    parser.add_argument("--num-tasks", type=int, default=20, metavar="T")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="averaged over")
    parser.add_argument("--rows", type=int, default=20, metavar="N", help="of the table")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()

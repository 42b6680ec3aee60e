"""What a GPU gives, in one run: ``python -m benchmarks.gpu``.

Gradient steps of the paper's configuration, operation by operation and recorded as a CUDA graph
(`Training.cuda_graphs`), beside the floor of `benchmarks.runtime`; how busy they keep the device
and how often they made the host wait for it; and scores of parent sets beside one core of the CPU.
"""

import argparse
import time
import warnings
from collections.abc import Sequence

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.runtime.clock import seconds
from benchmarks.runtime.measures import Scores, Size, Steps
from pyro_metacadi.errors import MetaCaDIError

TIMED, WATCHED, FIRST = 30, 5, 5
"""Steps that are timed, then some that are watched; and before them some that set up."""

STEPS = (
    # variables, tasks, tasks a step sees
    (20, 20, None),
    (100, 20, None),
    (1000, 20, None),
    (20, 10_000, None),
    (100, 10_000, 500),
    (100, 10_000, None),
)


class Watch:
    """A callback that times steps, then counts waits of the host and what the device does.

    Attributes:
        seconds: Of a step.
        waits: Of the host for the device, in a step.
        busy: Share of the time in which the device computed.
    """

    seconds = waits = busy = float("nan")

    def __call__(self, step: int, terms: object) -> None:
        """After a step."""
        if step == FIRST:
            self._start = _now()
        if step == FIRST + TIMED:
            self.seconds = (_now() - self._start) / TIMED
            self._profile = profile(activities=[ProfilerActivity.CUDA])
            self._profile.__enter__()
            torch.cuda.set_sync_debug_mode("warn")
            self._caught = warnings.catch_warnings(record=True)
            self._warned = self._caught.__enter__()
            warnings.simplefilter("always")
        if step == FIRST + TIMED + WATCHED:
            self.waits = sum("synchroniz" in str(one.message) for one in self._warned) / WATCHED
            torch.cuda.set_sync_debug_mode("default")
            self._caught.__exit__(None, None, None)
            torch.cuda.synchronize()
            self._profile.__exit__(None, None, None)
            averages = self._profile.key_averages()
            kernels = sum(one.self_device_time_total for one in averages) / 1e6 / WATCHED
            self.busy = kernels / self.seconds


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parse(argv)
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks.gpu: expected a CUDA device, got none. Run it where there is.")
    torch.set_num_threads(1)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    for num_variables, num_tasks, seen in STEPS:
        for recorded in (False, True):
            line = f"step, d = {num_variables:<5} T = {num_tasks:<6} {seen or num_tasks:>6} seen  "
            line += "recorded  " if recorded else "as it is  "
            try:
                line += step_line(num_variables, num_tasks, seen, recorded=recorded)
            except (torch.cuda.OutOfMemoryError, MetaCaDIError) as error:
                line += f"failed: {error}"
            print(line, flush=True)
    print()
    for num_variables in (20, 100):
        print(score_line(num_variables), flush=True)


def step_line(num_variables: int, num_tasks: int, seen: int | None, *, recorded: bool) -> str:
    """What is measured of one row of the first table."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    run = Steps(Size(num_variables, num_tasks, "cuda"), cuda_graphs=recorded, tasks_per_step=seen)
    watch = Watch()
    run(FIRST + TIMED + WATCHED + 2, watch)  # the last step looks at its loss
    memory = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.empty_cache()
    floor = seconds(run.floor(), budget=2)
    return (
        f"{watch.seconds * 1e3:8.2f} ms  {watch.seconds / floor:5.1f} x floor  "
        f"device busy {watch.busy:4.0%}  {watch.waits:.1f} waits  {memory:5.1f} GB"
    )


def score_line(num_variables: int) -> str:
    """One row of the second table."""
    taken = {}
    for device in ("cpu", "cuda"):
        run = Scores(Size(num_variables, 20, device))
        taken[device] = seconds(run, budget=8) / run.at_once * 1000
    return (
        f"1000 scores, d = {num_variables:<4} one core {taken['cpu']:.2f} s, GPU "
        f"{taken['cuda'] * 1e3:.0f} ms: {taken['cpu'] / taken['cuda']:.0f} times as fast"
    )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, which has no options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    return parser.parse_args(argv)


def _now() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()

"""Memory and time under budgets: ``python -m benchmarks.memory``.

Two gradient steps of the paper's configuration, and the score of a set of three parents, of 20
variables and many tasks of 110 rows: under the least budget that is accepted, four times as much,
and none. Each in a process of its own; memory is the peak above that before. Then the same in a
process whose C library gives all memory back at once (``MALLOC_MMAP_THRESHOLD_``): the difference
is what it otherwise keeps for later.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.runtime.measures import Size, Steps
from pyro_metacadi import TaskDataset
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.engines.evidence_memory import evidence_memory
from pyro_metacadi.inference.evidence import evidence_of
from pyro_metacadi.inference.memory import step_memory
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.inference.training import train
from pyro_metacadi.models.families import Family

BUDGETS = {"least": 1, "four times": 4, "none": 0}
STEPS = 2

AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "16384"}
"""Environment in which the C library keeps nothing."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each measure and budget."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--tasks", type=int, default=500, metavar="T")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.one:
        measure, budget = arguments.one.split(",")
        print(json.dumps(measured(measure, budget, Size(20, arguments.tasks))))
        return
    print(f"20 variables, {arguments.tasks} tasks of 110 rows, torch {torch.__version__}, 1 thread")
    for measure in MEASURES:
        for name in BUDGETS:
            row = _apart(measure, name, arguments.tasks)
            lean = _apart(measure, name, arguments.tasks, **AT_ONCE)
            allowed = f"{row['allowed'] / 2**20:.0f}" if row["allowed"] else "any"
            print(
                f"{measure:8} budget {allowed:>5} MiB: {row['used'] / 2**20:6.0f} MiB, "
                f"{row['seconds']:.2f} s; nothing kept {lean['used'] / 2**20:6.0f} MiB",
                flush=True,
            )


def _apart(measure: str, budget: str, num_tasks: int, **environment: str) -> dict[str, float]:
    """`measured` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--tasks", str(num_tasks)]
    done = subprocess.run(
        [*command, "--one", f"{measure},{budget}"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    row: dict[str, float] = json.loads(done.stdout)
    return row


def measured(measure: str, budget: str, size: Size) -> dict[str, float]:
    """Seconds of one call, the bytes it may take (0 for any) and the bytes it took."""
    torch.set_num_threads(1)
    MEASURES[measure](replace(size, num_tasks=20), 0)[0]()  # libraries are loaded
    call, allowed = MEASURES[measure](size, BUDGETS[budget])
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before, start = _kilobytes("VmRSS"), time.perf_counter()
    call()
    took = time.perf_counter() - start
    return {
        "seconds": took,
        "allowed": allowed,
        "used": 1024 * (_kilobytes("VmHWM") - before),
    }


def _step(size: Size, times: int) -> tuple[Callable[[], object], int]:
    run = Steps(size)
    options = replace(run.components.training, num_steps=STEPS, patience=None)
    with isolated(0):
        need = step_memory(
            run.objective(run.chain.model, run.chain.guide),
            run.batch,
            support_size=options.support_size,
            query_size=options.query_size,
        )
    allowed = times * need.least(size.num_tasks)

    def call() -> None:
        with isolated(0):
            train(
                run.chain.model, run.chain.guide, run.batch, objective=run.objective,
                options=options, memory=allowed or None,
            )  # fmt: skip

    return call, allowed


def _scores(size: Size, times: int) -> tuple[Callable[[], object], int]:
    rows = np.random.default_rng(0).normal(size=(size.num_tasks, 110, size.num_variables))
    tasks = TaskDataset.from_arrays(rows)
    allowed = times * evidence_memory(tasks).least
    representation = Representation.fit(tasks, kind="identity")
    evidence = evidence_of(tasks, representation, memory=allowed or None)
    return lambda: evidence.scores([Family(0, 0b1110)]), allowed


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


MEASURES = {"step": _step, "scores": _scores}


if __name__ == "__main__":
    main()

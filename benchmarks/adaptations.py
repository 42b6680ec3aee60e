"""Ridge regression beside the paper's ablations, in seconds: ``python -m benchmarks.adaptations``.

Of the paper's configuration (Appendix G.2's MetaCaDI-Analytical, -Intv-MAML and -Full-MAML): a
gradient step that sees all training tasks, and the target probabilities of one new task of ten
rows, averaged over the graphs that a posterior draws. Medians, one process, one thread; time does
not depend on what the rows mean, nor on what was learned. Leave the machine alone meanwhile.
"""

import argparse
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from benchmarks.runtime.clock import seconds
from benchmarks.runtime.measures import NEW_ROWS, NUM_SAMPLES, Size, Steps
from pyro_metacadi.guides import MAMLAdaptation, RidgeAdaptation
from pyro_metacadi.inference.chains import NUM_GRAPHS
from pyro_metacadi.parts import Factory

__all__ = ["ADAPTATIONS", "main", "measured"]

ADAPTATIONS: dict[str, Factory] = {
    "paper": RidgeAdaptation,
    "intv_maml": partial(MAMLAdaptation, parameters="interventional"),
    "full_maml": partial(MAMLAdaptation, parameters="all"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each adaptation: seconds, and how many times those of the first."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.adaptations",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--variables", type=int, default=20, metavar="D")
    parser.add_argument("--tasks", type=int, default=20, metavar="T")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; default: cpu")
    parser.add_argument("--seconds", type=float, default=20, help="for each figure; default: 20")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    size = Size(arguments.variables, arguments.tasks, arguments.device)
    print(
        f"{size.num_variables} variables, {size.num_tasks} tasks of {NUM_SAMPLES} rows, "
        f"{size.device}, torch {torch.__version__}, 1 thread"
    )
    rows = {name: measured(name, size, budget=arguments.seconds) for name in ADAPTATIONS}
    step, new = rows["paper"]
    for name, (own_step, own_new) in rows.items():
        print(
            f"{name:<10} step {own_step:8.4f} s ({own_step / step:5.1f})   "
            f"one new task {own_new:8.4f} s ({own_new / new:5.1f})",
            flush=True,
        )


def measured(name: str, size: Size, *, budget: float) -> tuple[float, float]:
    """Seconds of a step, and of adapting to one new task."""
    steps = Steps(size, adaptation=ADAPTATIONS[name])
    own = steps.seconds(budget)
    rows = np.random.default_rng(1).normal(size=(NEW_ROWS, size.num_variables))
    task = steps.chain.prepare([rows])
    graphs = steps.chain.draw_graphs(NUM_GRAPHS, seed=0)
    adapt = partial(steps.chain.target_probability, task, graphs)
    return own, seconds(adapt, budget=budget)


if __name__ == "__main__":
    main()

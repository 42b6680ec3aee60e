"""The paper's configuration on small GP worlds: ``python -m benchmarks.quick``.

Twenty variables, 40 expected edges, 20 training tasks of 110 rows, 20 new tasks of 10 rows, hard
N(0, 1) interventions on one variable each; then the same with observational tasks only. Beside the
scores stand the floors: the empty graph and two scores that need no model. Last, a training step's
time on one core.
"""

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

import numpy as np
import pandas as pd
import torch

from pyro_metacadi import MetaCaDI, metrics, simulators
from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.data.naive import mean_shift, variance_ratio
from pyro_metacadi.data.scaling import Standardizer
from pyro_metacadi.inference.objective import PaperObjective
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.inference.training import train

SIZES = {"num_variables": 20, "num_tasks": 20, "num_samples": 110, "expected_edges": 40}


def recovery(seed: int, *, num_steps: int | None = None) -> dict[str, float]:
    """Scores of one interventional and one observational world."""
    torch.set_num_threads(1)
    world = simulators.gp_anm(**SIZES, seed=seed)
    new = world.sample_tasks(20, 10, seed=seed)
    start = time.perf_counter()
    model = MetaCaDI.paper().fit(world.tasks, num_steps=num_steps, seed=seed, progress=False)
    seconds = time.perf_counter() - start
    adapted = model.adapt(new.tasks)
    scores = metrics.evaluate(
        adapted, adjacency=world.adjacency, intervention_targets=new.intervention_targets
    )
    floors = {
        f"{rule.__name__}_ap": metrics.target_scores(
            rule(new.tasks, reference=world.tasks), new.intervention_targets
        )["intv_ap"]
        for rule in (mean_shift, variance_ratio)
    }
    return {
        "seed": seed,
        **scores,
        **floors,
        "mean_target": float(adapted.target_probs.mean()),
        "mean_target_obs": observational(seed, num_steps=num_steps),
        "fit_seconds": seconds,
    }


def observational(seed: int, *, num_steps: int | None = None) -> float:
    """Mean target probability on a world in which nobody was ever hit."""
    world = simulators.gp_anm(**SIZES, seed=seed, targets_per_task=0)
    new = world.sample_tasks(20, 10, seed=seed, targets_per_task=0)
    model = MetaCaDI.paper().fit(world.tasks, num_steps=num_steps, seed=seed, progress=False)
    return float(model.adapt(new.tasks).target_probs.mean())


def step_milliseconds(*, all_rows: bool, repeats: int = 30) -> float:
    """Median time of a training step on one core, with the paper configuration's or all rows."""
    torch.set_num_threads(1)
    tasks = simulators.gp_anm(**SIZES, seed=0).tasks
    batch = TaskBatch.from_arrays(Standardizer.fit(tasks).transform(tasks))
    components = MetaCaDI.paper().components
    options = replace(components.training, num_steps=repeats)
    objective = components.build_objective()
    if all_rows:
        options = replace(options, query_size=None)
        objective = PaperObjective(residual_rows=None)
    ticks: list[float] = []
    with isolated(0):
        chain = components.build(len(tasks.variables))
        watch = partial(_record_time, ticks)
        train(
            chain.model, chain.guide, batch, objective=objective, options=options, callbacks=[watch]
        )
    return float(np.median(np.diff(ticks))) * 1e3


def adaptation_milliseconds(*, num_tasks: int, repeats: int = 20) -> float:
    """Median time to the target probabilities of new tasks of 10 rows together, on one core."""
    torch.set_num_threads(1)
    world = simulators.gp_anm(**SIZES, seed=0)
    # How long adapting takes does not depend on how well the model was trained.
    model = MetaCaDI.paper().fit(world.tasks, num_steps=1, progress=False)
    tasks = world.sample_tasks(num_tasks, 10, seed=0).tasks
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        _ = model.adapt(tasks).target_probs
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)) * 1e3


def _record_time(ticks: list[float], step: int, terms: dict[str, torch.Tensor]) -> None:
    ticks.append(time.perf_counter())


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per seed, then mean and standard error, then the step's time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103, 104])
    parser.add_argument("--steps", type=int, help="gradient steps (default: the configuration's)")
    parser.add_argument("--jobs", type=int, default=2, help="worlds fitted side by side")
    arguments = parser.parse_args(argv)
    print(
        f"training step, one core: {step_milliseconds(all_rows=False):.0f} ms; "
        f"with all query rows everywhere: {step_milliseconds(all_rows=True):.0f} ms"
    )
    one, twenty = (adaptation_milliseconds(num_tasks=number) for number in (1, 20))
    print(f"adapting, one core: {one:.0f} ms for one task; {twenty:.0f} ms for twenty together")
    rows = []
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        for row in pool.map(partial(recovery, num_steps=arguments.steps), arguments.seeds):
            rows.append(row)
            shown = {name: f"{row[name]:.3f}" for name in ("edge_ap", "e_shd", "intv_ap")}
            print(f"seed {row['seed']}: {shown}", flush=True)
    table = pd.DataFrame(rows).set_index("seed")
    table.loc["mean"] = table.mean()
    table.loc["s.e."] = table.iloc[:-1].std() / np.sqrt(len(rows))
    print(table.T.to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()

"""What declared targets are worth: ``python -m benchmarks.knowledge``.

Ten variables, 20 training tasks of few rows, hard N(0, 1) interventions on one variable each. The
engine ``evidence`` is fitted twice to the same rows: told nothing, and told all targets of a random
half of the tasks (``TaskDataset.declare(task, exactly=...)``). Average precision of edges, of the
targets of the other half, of which neither fit is told anything, and of 20 new tasks of as many
rows; each told fit less its untold one, with the p-values of a paired t-test and of Wilcoxon's
signed-rank test (both one-sided: told is better). Seeds 100-119 are reported. The number of rows
was chosen on seeds 0-9, so that untold fits are in doubt: with ten, edges are hardly any more. It
takes about twelve minutes on one core.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from pyro_metacadi import MetaCaDI, metrics, simulators
from pyro_metacadi.inference.evidence import Sampling

SIZES = {"num_variables": 10, "num_tasks": 20}
SCORES = ("edge_ap", "intv_ap_rest", "intv_ap_new")
SAMPLING = Sampling(num_draws=200, warmup=100, num_chains=2)


def run(seed: int, *, rows: int) -> list[dict[str, Any]]:
    """Scores of the untold fit and of the told one on one world."""
    world = simulators.gp_anm(**SIZES, num_samples=rows, seed=seed)
    new = world.sample_tasks(SIZES["num_tasks"], rows, seed=seed)
    order = np.random.default_rng(seed).permutation(SIZES["num_tasks"])
    told, rest = order[: len(order) // 2], order[len(order) // 2 :]
    known = np.full(world.intervention_targets.shape, -1)
    known[told] = world.intervention_targets[told]
    lines = []
    for name, tasks in {
        "untold": world.tasks,
        "told": world.tasks.with_known_targets(known),
    }.items():
        start = time.perf_counter()
        fitted = MetaCaDI(sampling=SAMPLING).fit(tasks, seed=seed, progress=False)
        posterior, adapted = fitted.posterior, fitted.adapt(new.tasks)
        scores = [
            metrics.edge_scores(posterior.edge_probs, world.adjacency)["edge_ap"],
            *(
                metrics.target_scores(probs, targets)["intv_ap"]
                for probs, targets in (
                    (posterior.target_probs.values[rest], world.intervention_targets[rest]),
                    (adapted.target_probs.values, new.intervention_targets),
                )
            ),
        ]
        seconds = time.perf_counter() - start
        lines.append(
            {"fit": name, "seed": seed, **dict(zip(SCORES, scores, strict=True)), "s": seconds}
        )
    return lines


def gains(lines: pd.DataFrame) -> pd.DataFrame:
    """Mean scores of both fits, their difference with its standard error, and p-values."""
    rows = []
    for score in SCORES:
        by_fit = lines.pivot(index="seed", columns="fit", values=score)
        more = (by_fit["told"] - by_fit["untold"]).to_numpy()
        differs = bool((more != 0).any())
        tests = {"alternative": "greater"}
        rows.append(
            {
                "score": score,
                **by_fit[["untold", "told"]].mean(),
                "gain": more.mean(),
                "se": more.std(ddof=1) / len(more) ** 0.5,
                "better": f"{(more > 0).sum()} of {len(more)}",
                "p_t": stats.ttest_1samp(more, 0, **tests).pvalue if differs else 1.0,
                "p_wilcoxon": stats.wilcoxon(more, **tests).pvalue if differs else 1.0,
            }
        )
    return pd.DataFrame(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each fit, then the gains."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs=2, default=(100, 119), metavar=("FIRST", "LAST"))
    parser.add_argument("--rows", type=int, default=3, help="of every task; default: 3")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    first, last = arguments.seeds
    lines = []
    for seed in range(first, last + 1):
        lines += run(seed, rows=arguments.rows)
        for line in lines[-2:]:
            print(seed, line["fit"], *(f"{score} {line[score]:.3f}" for score in (*SCORES, "s")))
    print(f"\n{arguments.rows} rows a task, seeds {first}-{last}")
    print(gains(pd.DataFrame(lines)).to_string(index=False, float_format="{:.4f}".format))


if __name__ == "__main__":
    main()

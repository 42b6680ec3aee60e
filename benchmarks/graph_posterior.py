"""Graphs by order MCMC and by SVI, from the same scores: ``python -m benchmarks.graph_posterior``.

For each world the hyper-parameters are learned once, as the default engine learns them, and a
greedy search and its table of candidate parents made. Then, on the same log evidence and prior:

* ``greedy``: the graph of the search alone;
* ``order MCMC``: 4 chains of 500 draws after 200, on the table, as the default engine runs them;
* ``SVI, cold``: the DP-DAG guide from the prior, 1000 steps of 64 graphs;
* ``SVI, from greedy``: the same from near the greedy graph;
* ``SVI, cold, longer``: five times the steps;
* ``SVI, program``: cold, with the looser bound of `EvidenceModel`'s own sites.

Scoring every family would be too slow: SVI draws edges among the table's candidates only. It may
draw any subset of these, the chains only those in the table, which leaves out subsets that differ
much from the greedy graph's.

Distances are over 1000 draws; ``score`` is the mean log posterior of a drawn graph, in nats above
the greedy graph's, and ``best`` that of the best draw; ``seconds`` are the method's own, families
that a method before it scored being free (``greedy``: the search and the table, which all others
build on). Mean and standard error over the seeds, which are for tuning.

Result (results/graph_posterior.txt): the chains win where graphs are hard to find. On SERGIO their
draws score 14-19 nats more than those of any SVI with its graph bound (s.e. 6-11), with an SHD
lower by two and an SID lower by 25-31. On GP worlds all find the same graphs, but for the cold
start, which may stay at a bad order however many steps it takes. On NN worlds SVI from the greedy
graph equals the chains in score and distances (SHD 0.2 lower), and ranks edges slightly worse. The
bound of the program's own sites is worse everywhere.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.accuracy.worlds import KINDS, draw_problem
from pyro_metacadi import metrics
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.distributions import OrderedDAG
from pyro_metacadi.engines.evidence_options import EvidenceOptions
from pyro_metacadi.inference.candidates import score_table
from pyro_metacadi.inference.evidence import Sampling, evidence_of, fit_evidence
from pyro_metacadi.inference.graph_score import GraphScore, adjacency_of
from pyro_metacadi.inference.graph_svi import fit_dag_guide
from pyro_metacadi.inference.order_mcmc import sample_graphs
from pyro_metacadi.inference.search import climb
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models.evidence import MechanismEvidence
from pyro_metacadi.models.families import families_of
from pyro_metacadi.ops.subsets import ScoreTable
from pyro_metacadi.typing import Array

WORLDS = ("gp", "nn", "sergio_ko")
NUM_DRAWS = 1000
COLUMNS: Mapping[str, int] = {  # decimals
    "e_shd": 2,
    "e_sid": 1,
    "edge_ap": 3,
    "score": 1,
    "best": 1,
    "seconds": 1,
}


@dataclass(frozen=True, eq=False)
class Case:
    """A world's true graph, and log evidence and log prior odds of any graph."""

    seed: int
    truth: Array
    edge_log_odds: Array
    evidence: MechanismEvidence

    @classmethod
    def draw(cls, world: str, seed: int) -> "Case":
        """Learn the hyper-parameters of the default engine; forget the families scored for it."""
        problem = draw_problem(world, seed)
        tasks, num_variables = problem.world.tasks, len(problem.world.adjacency)
        odds = EvidenceOptions().graph_odds(tasks.variables)
        learned = fit_evidence(
            evidence_of(
                tasks,
                Representation.fit(tasks, kind="auto"),
                target_prior=1 / (num_variables + 1),
                seed=seed,
            ),
            graph_odds=odds,
            target_prior=None,
            sampling=Sampling(num_draws=1, warmup=0),
            num_chains=1,
            seed=seed,
        ).evidence
        evidence = learned.with_hyperparameters(learned.hyperparameters)
        return cls(seed, problem.world.adjacency, odds.edge_log_odds, evidence)

    @property
    def score(self) -> GraphScore:
        """Log evidence plus log prior of families."""
        return GraphScore(self.evidence.scores, self.edge_log_odds)

    @cached_property
    def search(self) -> tuple[Tensor, ScoreTable]:
        """The greedy graph, from the empty one, and scores of the subsets of its candidates."""
        families = climb(families_of(torch.zeros(self.truth.shape)), self.score)
        table = score_table(families, self.score)
        return torch.tensor(adjacency_of(families)).double(), table

    def log_posterior(self, draws: Array) -> Array:
        """Log evidence plus log prior of each graph, above the greedy graph's."""
        graphs, inverse = np.unique(draws, axis=0, return_inverse=True)
        by_graph = [families_of(torch.tensor(graph)) for graph in (*graphs, self.search[0].numpy())]
        value = self.score(list(dict.fromkeys(f for graph in by_graph for f in graph)))
        total = np.array([sum(value[f] for f in graph) for graph in by_graph])
        return (total[:-1] - total[-1])[inverse.ravel()]


Draws = tuple[Tensor, Tensor]
"""Graphs ``[draw, parent, child]``, and the probability of every edge."""


def by_search(case: Case) -> Draws:
    """The greedy graph, and its table of candidates."""
    graph, _ = case.search
    return graph[None], graph


def by_chains(case: Case) -> Draws:
    """Order MCMC."""
    _, table = case.search
    found = sample_graphs(table, num_chains=4, num_draws=500, warmup=200, seed=case.seed)
    draws = found["adjacency"].flatten(0, 1)
    return draws[:: len(draws) // NUM_DRAWS], draws.double().mean(0)


def by_svi(case: Case, *, warm: bool, **options: Any) -> Draws:
    """The DP-DAG guide."""
    graph, table = case.search
    guide, _ = fit_dag_guide(
        case.evidence.scores,
        len(case.truth),
        edge_log_odds=case.edge_log_odds,
        seed=case.seed,
        initial=graph if warm else None,
        candidates=(table.bits() != 0).mT,
        **options,
    )
    with isolated(case.seed), torch.no_grad():
        draws = OrderedDAG(guide.order_loc, guide.edge_logits).sample(torch.Size([NUM_DRAWS]))
        return draws, guide.edge_probability()


METHODS: Mapping[str, Callable[[Case], Draws]] = {
    "greedy": by_search,
    "order MCMC": by_chains,
    "SVI, cold": lambda case: by_svi(case, warm=False),
    "SVI, from greedy": lambda case: by_svi(case, warm=True),
    "SVI, cold, longer": lambda case: by_svi(case, warm=False, num_steps=5000),
    "SVI, program": lambda case: by_svi(case, warm=False, bound="program"),
}


def measure(world: str, seed: int) -> Iterator[dict[str, Any]]:
    """A row of scores for each method."""
    case = Case.draw(world, seed)
    for name, method in METHODS.items():
        start = time.perf_counter()
        found, probability = method(case)
        seconds = time.perf_counter() - start
        draws = found.numpy().astype(np.int8)
        log_posterior = case.log_posterior(draws)
        yield {
            "world": world,
            "seed": seed,
            "method": name,
            "e_shd": metrics.expected_shd(draws, case.truth),
            "e_sid": metrics.expected_sid(draws, case.truth),
            "edge_ap": metrics.edge_scores(probability.numpy(), case.truth)["edge_ap"],
            "score": log_posterior.mean(),
            "best": log_posterior.max(),
            "seconds": seconds,
        }


def printed(table: pd.DataFrame) -> str:
    """One line for each method: mean and standard error over seeds."""
    lines = [f"{'':<20}" + "".join(f"{name:>8}{'s.e.':>8}  " for name in COLUMNS)]
    for method, part in table.groupby("method", sort=False):
        cells = [f"{method:<20}"]
        for name, digits in COLUMNS.items():
            error = part[name].std(ddof=1) / np.sqrt(len(part))
            cells.append(f"{part[name].mean():8.{digits}f} ±{error:6.{digits}f}  ")
        lines.append("".join(cells))
    return "\n".join(line.rstrip() for line in lines)


def paired(table: pd.DataFrame, *, reference: str) -> pd.DataFrame:
    """Scores less those of the reference method on the same seed."""
    names, difference = list(COLUMNS), table.copy()
    base = table[table["method"] == reference].set_index("seed")[names]
    difference[names] -= base.loc[table["seed"]].to_numpy()
    return difference[difference["method"] != reference]


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table for each world."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--worlds", nargs="+", default=WORLDS, choices=list(KINDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=range(4))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    for world in arguments.worlds:
        table = pd.DataFrame([row for seed in arguments.seeds for row in measure(world, seed)])
        print(f"\n{world}, seeds {', '.join(map(str, arguments.seeds))}")
        print(printed(table))
        print("less order MCMC's, seed by seed")
        print(printed(paired(table, reference="order MCMC")), flush=True)


if __name__ == "__main__":
    main()

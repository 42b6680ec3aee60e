"""Agreement with a second implementation: one gene, one cell type and one step after the other."""

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_metacadi.simulators import sergio

GENES, TYPES, SNAPSHOTS, RUNS = 6, 2, 4, 600
WINDOW = 15 * SNAPSHOTS
DECAY, HILL, DT, FACTOR = 0.8, 2.0, 0.01, 0.5
# Parents have smaller numbers; the longest path is 0, 2, 3, 4, 5.
EDGES = [(0, 2), (1, 2), (0, 3), (2, 3), (1, 4), (2, 4), (3, 4), (4, 5)]
TARGETS = {"wild type": [0, 0, 0, 0, 0, 0], "knock-down": [0, 0, 1, 0, 0, 0]}


@pytest.fixture(scope="module")
def system():
    """The original's dynamics, on a network with activators and repressors."""
    graph = np.zeros((GENES, GENES), dtype=int)
    graph[tuple(np.transpose(EDGES))] = 1
    return sergio(
        num_variables=GENES, num_tasks=1, num_samples=1, seed=4, graph=graph, num_cell_types=TYPES,
        activation=(1, 1), half_response="per_run", snapshots="trajectory", decay=DECAY, hill=HILL,
        intervention="knock_down", factor=FACTOR, dt=DT,
    ).system  # fmt: skip


def steps_to_sink(strength, gene):
    """Edges on the longest path from the gene."""
    children = np.flatnonzero(strength[gene])
    return max((1 + steps_to_sink(strength, child) for child in children), default=0)


class ReferenceRun:
    """Cells of one run, from the equations: a gene is simulated when its regulators are done."""

    def __init__(self, network, factors, rng):
        self.strength, self.rate = network.strength.numpy(), network.rate.numpy()
        self.factors, self.rng = factors, rng
        self.snapshots = rng.integers(WINDOW, size=SNAPSHOTS)
        self.path = np.zeros((TYPES, WINDOW + 10 * GENES, GENES))
        self.cells, self.half = np.zeros((SNAPSHOTS, TYPES, GENES)), np.zeros(GENES)
        for gene in range(GENES):  # in topological order
            first = 10 * steps_to_sink(self.strength, gene)
            for cell_type in range(TYPES):
                self.simulate(gene, cell_type, steps=first + WINDOW)
            self.cells[..., gene] = self.path[:, 1 + first + self.snapshots, gene].T
            self.half[gene] = self.cells[..., gene].mean()

    def production(self, gene, cell_type, expression):
        """P of a gene; `expression` is that of all genes."""
        regulators = np.flatnonzero(self.strength[:, gene])
        total = self.rate[cell_type, gene] if len(regulators) == 0 else 0.0
        for regulator in regulators:
            k, power = self.strength[regulator, gene], expression[regulator] ** HILL
            activation = power / (power + self.half[regulator] ** HILL)
            total += k * activation if k > 0 else -k * (1 - activation)
        return self.factors[gene] * total

    def simulate(self, gene, cell_type, *, steps):
        """Start in balance with the means of the regulators' cells; step t sees their step t."""
        path = self.path[cell_type]
        means = self.cells[:, cell_type].mean(0)
        path[0, gene] = self.production(gene, cell_type, means) / DECAY
        for t in range(steps):
            produced, lost = self.production(gene, cell_type, path[t]), DECAY * path[t, gene]
            e1, e2 = self.rng.standard_normal(2)
            noise = np.sqrt(produced) * e1 + np.sqrt(lost) * e2
            moved = path[t, gene] + DT * (produced - lost) + np.sqrt(DT) * noise
            path[t + 1, gene] = max(0.0, moved)


def covariance(cells):
    """Between the ends of every edge, over a run's snapshots and cell types."""
    centred = cells - cells.mean((1, 2), keepdims=True)
    parents, children = np.transpose(EDGES)
    return (centred[..., parents] * centred[..., children]).mean((1, 2))


STATISTICS = {
    "mean of each type": lambda cells: cells.mean(1).reshape(len(cells), -1),
    "scatter of the mean": lambda cells: (cells.mean((1, 2)) - cells.mean((0, 1, 2))) ** 2,
    "variance": lambda cells: cells.var((1, 2)),
    "covariance": covariance,
}


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
def test_means_variances_and_covariances_of_a_run_agree(system, targets):
    """Welch tests between runs, p > 1e-2 after Bonferroni over statistics and genes or edges."""
    ours = system.clean_cells(
        torch.tensor([targets] * RUNS),
        cells_per_type=[SNAPSHOTS] * RUNS,
        generator=torch.Generator().manual_seed(0),
    )
    ours = torch.stack(ours).unflatten(1, (SNAPSHOTS, TYPES)).numpy()
    rng, factors = np.random.default_rng(0), 1 + (FACTOR - 1) * np.array(targets)
    theirs = np.stack([ReferenceRun(system.network, factors, rng).cells for _ in range(RUNS)])
    p = {
        name: stats.ttest_ind(statistic(ours), statistic(theirs), equal_var=False).pvalue
        for name, statistic in STATISTICS.items()
    }
    assert min(values.min() for values in p.values()) > 1e-2 / sum(map(len, p.values())), p

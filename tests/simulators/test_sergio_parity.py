"""Agreement with an independent implementation of SERGIO, where it is installed."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_metacadi.simulators.expression import ExpressionSystem
from pyro_metacadi.simulators.grn import GeneNetwork
from pyro_metacadi.simulators.langevin import Langevin

sergio_rs = pytest.importorskip(
    "sergio_rs.sergio_rs", reason="needs sergio_rs: pip install 'pyro-metacadi[parity]'"
)

RUNS, CELLS = 400, 100


@dataclass(frozen=True)
class Network:
    """Strengths of edges between genes of one letter; master regulators have all the same rate.

    The gene that is knocked out only activates, and its targets have other regulators: there a gene
    that is 0 (ours) and one that is gone (theirs) mean the same.
    """

    edges: dict[str, float]
    rate: float
    decay: float
    hill: int
    knocked_out: str

    @property
    def genes(self):
        return sorted(set("".join(self.edges)))

    def half_responses(self, *, knock_out):
        """The noiseless fixed points, where every Hill response is 1/2.

        The other implementation's wild type does not change with the half responses that the
        caller gives, nor do they seem to come from the cells. That they are the fixed points was
        found by comparing, on the first network and other seeds than these. A knock-out leaves a
        network of its own, with its own fixed points.
        """
        half = dict.fromkeys(self.genes, 0.0)
        for (regulator, target), k in self.edges.items():
            if not (knock_out and regulator == self.knocked_out):
                half[target] += abs(k) / 2 / self.decay
        targets = {target for _, target in self.edges}
        return [half[gene] if gene in targets else self.rate / self.decay for gene in self.genes]


NETWORKS = {
    "six genes": Network(
        {"AC": 3.0, "BC": 2.0, "AD": -4.0, "BD": 2.5, "CE": 3.0, "DE": -2.0, "DF": 4.0},
        rate=2.0, decay=0.8, hill=2, knocked_out="C",
    ),
    # Nothing was chosen by what it gives. The target of the gene that is knocked out regulates.
    "ten genes": Network(
        {
            "AD": 2.5, "BD": -1.5, "BE": 4.0, "CE": -2.0, "AF": -3.5, "CF": 1.2, "DG": 2.2,
            "EG": 3.0, "EH": 1.7, "FH": -2.6, "GI": 3.3, "FI": -1.4, "DJ": -2.8, "HJ": 2.0,
            "GJ": 1.1,
        },
        rate=1.3, decay=0.9, hill=3, knocked_out="E",
    ),
}  # fmt: skip


def our_runs(network, *, knock_out):
    genes = network.genes
    strength = torch.zeros(len(genes), len(genes), dtype=torch.float64)
    for (regulator, target), k in network.edges.items():
        strength[genes.index(regulator), genes.index(target)] = k
    adjacency = (strength != 0).long()
    masters = adjacency.sum(0) == 0
    system = ExpressionSystem(
        GeneNetwork(
            adjacency, strength, network.rate * masters.double()[None], network.decay, network.hill
        ),
        Langevin("dpd", 1.0, 0.01),
        burn_in=0,
        trajectory=True,
        factor=0.0,
        half_response=torch.tensor(network.half_responses(knock_out=knock_out)).double(),
        off_targets=torch.zeros_like(adjacency).bool(),
        technical=None,
        outliers=torch.ones(len(genes), dtype=torch.float64),
        device=torch.device("cpu"),
    )
    targets = torch.zeros(RUNS, len(genes), dtype=torch.long)
    targets[:, genes.index(network.knocked_out)] = int(knock_out)
    cells = system.clean_cells(
        targets, cells_per_type=[CELLS] * RUNS, generator=torch.Generator().manual_seed(77)
    )
    return torch.stack(cells).numpy()


def their_runs(network, *, knock_out):
    grn = sergio_rs.GRN()
    genes = {name: sergio_rs.Gene(name, network.decay) for name in network.genes}
    for (regulator, target), k in network.edges.items():
        grn.add_interaction(genes[regulator], genes[target], k, None, network.hill)
    grn.set_mrs()
    low = (network.rate - 1e-6, network.rate)
    high = (network.rate + 1e-6, network.rate + 2e-6)
    profile = sergio_rs.MrProfile.from_random(grn, 1, low, high, 0)
    if knock_out:
        grn, profile = grn.ko_perturbation(network.knocked_out, profile)
    runs = np.zeros((RUNS, CELLS, len(genes)))
    for run in range(RUNS):
        frame = sergio_rs.Sim(grn, CELLS, 10, 15, 0.01, 1, 9000 + run).simulate(profile)
        for name, *values in frame.iter_rows():
            runs[run, :, network.genes.index(name)] = values
    return runs


def statistics(runs, half_responses, hill):
    """Mean, variance and mean Hill response of every gene, for each run."""
    power, half = runs**hill, np.array(half_responses) ** hill
    response = power / (power + half)
    return {"mean": runs.mean(1), "variance": runs.var(1), "Hill response": response.mean(1)}


@pytest.mark.parametrize("knock_out", [False, True], ids=["wild type", "knock-out"])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_means_variances_and_hill_responses_agree(network, knock_out):
    """Welch tests between runs, p > 1e-2 after Bonferroni over genes and statistics."""
    ours = our_runs(network, knock_out=knock_out)
    theirs = their_runs(network, knock_out=knock_out)
    hit = network.genes.index(network.knocked_out)
    assert knock_out == (ours[..., hit].max() == 0)
    alive = [gene for gene in range(len(network.genes)) if not (knock_out and gene == hit)]
    half = np.take(network.half_responses(knock_out=False), alive)
    ours, theirs = (statistics(runs[..., alive], half, network.hill) for runs in (ours, theirs))
    p = {name: stats.ttest_ind(ours[name], theirs[name], equal_var=False).pvalue for name in ours}
    assert min(values.min() for values in p.values()) > 1e-2 / (3 * len(alive)), p

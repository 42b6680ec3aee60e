"""Network, dynamics and schedule behind `sergio`: each against its formula."""

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_metacadi.simulators import langevin, sergio
from pyro_metacadi.simulators.cells import (
    independent_cells,
    pick_cells,
    snapshots_of_trajectories,
)
from pyro_metacadi.simulators.grn import GeneNetwork, draw_network, longest_paths

CHAIN = torch.tensor([[0, 1, 0], [0, 0, 1], [0, 0, 0]])  # X1 -> X2 -> X3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class TestNetwork:
    @pytest.mark.parametrize("hill", [1.0, 2.0, 2.7])
    def test_production_is_the_sum_of_hill_responses(self, hill):
        # X1 activates, X2 represses X3, in two cell types.
        adjacency = torch.tensor([[0, 0, 1], [0, 0, 1], [0, 0, 0]])
        strength = torch.tensor([[0, 0, 3.0], [0, 0, -2.0], [0, 0, 0]]).double()
        rate = torch.tensor([[1.0, 2.0, 0.0], [1.5, 2.5, 0.0]]).double()
        network = GeneNetwork(adjacency, strength, rate, 0.8, hill)
        regulation = network.regulation(
            cell_type=torch.tensor([0, 1, 1, 0]),
            factor=torch.tensor([[1.0, 1, 1], [1, 1, 0.5], [1, 1, 1], [1, 1, 1]]).double(),
            half_response=torch.tensor([[2.0, 4.0, 1.0]] * 3 + [[0.0, 0.0, 1.0]]).double(),
            dtype=torch.float64,
            device=torch.device("cpu"),
        )
        x = torch.tensor([[2.0, 4.0, 9], [1.0, 8.0, 9], [0.0, 0.0, 9], [0.0, 3.0, 9]]).double()
        produced = regulation.production(x.T).T

        def activation(value, half):
            return value**hill / (half**hill + value**hill)

        expected = [
            3 * 0.5 + 2 * 0.5,  # both at their half response
            0.5 * (3 * activation(1, 2) + 2 * (1 - activation(8, 4))),
            2.0,  # nothing activates, nothing represses
            0.0,  # half responses of 0: no activator, a repressor in full
        ]
        assert produced[:, 2] == pytest.approx(np.array(expected))
        assert (produced[:, :2] == rate[[0, 1, 1, 0], :2]).all()

    def test_strengths_rates_and_signs_have_the_promised_laws(self):
        """Kolmogorov-Smirnov tests, p > 1e-3."""
        adjacency = torch.ones(80, 80).triu(1).long()
        network = draw_network(
            adjacency, num_cell_types=500, strength=(1, 5), rate=(1, 3),
            activation=(2.0, 3.0), decay=0.8, hill=2.0, generator=generator(),
        )  # fmt: skip
        edges = network.strength[adjacency.bool()]
        assert stats.kstest(edges.abs().numpy(), stats.uniform(1, 4).cdf).pvalue > 1e-3
        assert (network.strength[~adjacency.bool()] == 0).all()
        assert stats.kstest(network.rate[:, 0].numpy(), stats.uniform(1, 2).cdf).pvalue > 1e-3
        assert (network.rate[:, 1:] == 0).all()

    def test_a_regulators_edges_share_their_tendency_to_activate(self):
        """The number of activated among n targets is beta-binomial; chi-square, p > 1e-3."""
        size = 1200
        adjacency = torch.zeros(size, size, dtype=torch.long)
        adjacency[:1000, -4:] = 1
        network = draw_network(
            adjacency, num_cell_types=1, strength=(1, 1), rate=(1, 1),
            activation=(0.2588, 0.2499), decay=0.8, hill=2.0, generator=generator(),
        )  # fmt: skip
        activated = (network.strength[:1000] > 0).sum(1).numpy()
        law = stats.betabinom(4, 0.2588, 0.2499)
        expected = 1000 * law.pmf(np.arange(5))
        assert stats.chisquare(np.bincount(activated, minlength=5), expected).pvalue > 1e-3

    def test_longest_paths_count_edges_from_the_roots(self):
        shortcut = CHAIN.clone()
        shortcut[0, 2] = 1
        assert longest_paths(shortcut).tolist() == [0, 1, 2]
        assert longest_paths(shortcut.T).tolist() == [2, 1, 0]
        assert longest_paths(torch.zeros(2, 2, dtype=torch.long)).tolist() == [0, 0]


class TestSchedule:
    def test_independent_cells_have_a_chain_each(self):
        schedule = independent_cells([2, 1], num_cell_types=3, num_variables=4, burn_in=7)
        assert schedule.task.tolist() == [0] * 6 + [1] * 3
        assert schedule.cell_type.tolist() == [0, 1, 2] * 3
        assert schedule.chain.tolist() == list(range(9))
        assert set(schedule.step.tolist()) == {7}
        assert schedule.delay.tolist() == [0] * 4

    def test_snapshots_are_joint_and_from_the_last_steps(self):
        schedule = snapshots_of_trajectories(
            [40, 3], adjacency=CHAIN, num_cell_types=2, burn_in=5, generator=generator()
        )
        assert schedule.task.tolist() == [0, 0, 1, 1]
        assert schedule.chain.tolist() == [0, 1] * 40 + [2, 3] * 3
        steps = schedule.step.reshape(-1, 2)
        assert (steps[:, 0] == steps[:, 1]).all()
        assert schedule.delay.tolist() == [20, 10, 0]
        long, short = steps[:40, 0] - 5, steps[40:, 0] - 5
        assert 1 <= int(long.min()) < int(long.max()) <= 600
        assert 1 <= int(short.min()) <= int(short.max()) <= 45

    def test_regulators_are_read_ten_steps_later_than_their_targets(self):
        """From values that tell the gene, the chain and the step at which they were read."""
        schedule = snapshots_of_trajectories(
            [2], adjacency=CHAIN, num_cell_types=2, burn_in=3, generator=generator()
        )
        read = torch.full((4, 3), -1.0).double()
        for step in range(schedule.num_steps + 1):
            now = 1000.0 * torch.tensor([[1.0], [2], [3]]) + torch.tensor([100, 200]) + step
            langevin._read(now, step=step, schedule=schedule, cells=read)
        steps = schedule.step.unsqueeze(1) + torch.tensor([20, 10, 0])
        chains = 100 * (schedule.chain.unsqueeze(1) + 1)
        assert (read == torch.tensor([1000, 2000, 3000]) + chains + steps).all()

    def test_genes_start_in_balance_with_the_means_of_their_regulators(self):
        strength = torch.tensor([[0, 3.0, 0], [0, 0, -2.0], [0, 0, 0]]).double()
        rate = torch.tensor([[1.0, 0, 0], [2.0, 0, 0]]).double()
        network = GeneNetwork(CHAIN, strength, rate, 0.8, 2.0)
        regulation = network.regulation(
            cell_type=torch.tensor([0, 1]),
            factor=torch.tensor([[1.0, 0.5, 1], [1, 1, 1]]).double(),
            half_response=torch.ones(2, 3).double(),
            dtype=torch.float64,
            device=torch.device("cpu"),
        )
        means = torch.tensor([[3.0, 0.5, 9], [0.0, 2.0, 9]]).double()
        start = langevin._start(network, regulation, regulator_means=means).T
        expected = torch.tensor([[1.0, 0.5 * 3 * 0.9, 2 * 0.8], [2.0, 0.0, 2 * 0.2]]) / 0.8
        assert start.numpy() == pytest.approx(expected.numpy(), rel=1e-6)

    def test_chunks_are_the_whole_in_parts(self):
        schedule = independent_cells([3, 2], num_cell_types=2, num_variables=1, burn_in=1)
        parts = list(schedule.chunks(4))
        assert [len(part.task) for part in parts] == [4, 4, 2]
        assert torch.cat([part.position for part in parts]).tolist() == list(range(10))
        assert torch.cat([part.task for part in parts]).equal(schedule.task)

    @pytest.mark.parametrize("snapshots", ["independent", "trajectory"])
    def test_results_do_not_depend_on_how_chains_are_chunked(self, snapshots, monkeypatch):
        options = {"num_variables": 5, "num_tasks": 3, "num_samples": 13, "seed": 2}
        options |= {"noise_scale": 0, "snapshots": snapshots, "burn_in": 0.1}
        options["half_response"] = "per_run"
        whole = sergio(**options)
        monkeypatch.setitem(langevin.CHUNK_ENTRIES, "cpu", 20)
        assert (sergio(**options).tasks.values == whole.tasks.values).all()

    @pytest.mark.parametrize(("num_cells", "full"), [(1, 0), (4, 0), (5, 1), (8, 1), (9, 2)])
    def test_picked_cells_are_spread_over_the_types(self, num_cells, full):
        picked = pick_cells(num_cells, num_cell_types=4, generator=generator(1))
        count = torch.bincount(picked % 4, minlength=4)
        assert len(set(picked.tolist())) == num_cells
        assert int(picked.max()) < -(-num_cells // 4) * 4
        assert int(count.max() - count.min()) <= 1

    def test_snapshots_of_one_trajectory_are_dependent(self):
        """Means of runs scatter more than independent cells allow; F test, p < 1e-6."""
        options = {"num_variables": 1, "num_tasks": 60, "num_samples": 10, "seed": 0}
        options |= {"num_cell_types": 1, "targets_per_task": 0, "burn_in": 4.0}
        means = {
            kind: [rows.mean() for rows in sergio(**options, snapshots=kind).tasks.arrays]
            for kind in ("independent", "trajectory")
        }
        ratio = np.var(means["trajectory"]) / np.var(means["independent"])
        assert stats.f(59, 59).sf(ratio) < 1e-6

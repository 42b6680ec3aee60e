"""Gene-expression worlds keep their promises: who is 0, what is steady, what the options change."""

import random
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_metacadi import simulators
from pyro_metacadi.errors import ConfigError, GraphError
from pyro_metacadi.simulators import World, sergio

SMALL = {"num_variables": 6, "num_tasks": 4, "num_samples": 20, "seed": 0, "num_cell_types": 3}
QUICK = SMALL | {"burn_in": 0.5}
DIAMOND = np.array([[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]])


def hit_values(world):
    """Rows of every task in the columns of its targets."""
    targets = world.intervention_targets.astype(bool)
    return [rows[:, hit] for rows, hit in zip(world.tasks.arrays, targets, strict=True)]


def cells(system, targets, *, per_type, seed=0):
    """Clean cells of each task, ``[task, cell, variable]``."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.as_tensor(targets)
    tables = system.clean_cells(
        targets, cells_per_type=[per_type] * len(targets), generator=generator
    )
    return torch.stack(tables).numpy()


class TestShape:
    def test_tasks_and_truth_agree_on_every_axis(self):
        world = sergio(**QUICK)
        assert isinstance(world, World)
        assert tuple(world.tasks.variables) == ("X1", "X2", "X3", "X4", "X5", "X6")
        assert tuple(world.tasks.tasks) == ("task1", "task2", "task3", "task4")
        assert [rows.shape for rows in world.tasks.arrays] == [(20, 6)] * 4
        assert world.intervention_targets.sum(1).tolist() == [1, 1, 1, 1]
        assert (world.adjacency == simulators.scale_free(6, seed=0)).all()

    def test_tasks_may_have_unequal_cells_and_targets(self):
        options = QUICK | {"num_samples": [1, 3, 31, 10]}
        for snapshots in ("independent", "trajectory"):
            world = sergio(**options, targets_per_task=[0, 2, 1, 6], snapshots=snapshots)
            assert [len(rows) for rows in world.tasks.arrays] == [1, 3, 31, 10]
            assert world.intervention_targets.sum(1).tolist() == [0, 2, 1, 6]

    def test_one_gene_and_one_cell_make_a_world(self):
        world = sergio(num_variables=1, num_tasks=1, num_samples=1, seed=0)
        assert world.tasks.values.tolist() == [[0.0]]

    def test_cells_are_spread_evenly_over_types_and_shuffled(self):
        # Without noise and edges a gene's value tells the cell type.
        world = sergio(
            **SMALL | {"num_samples": 20}, graph=np.zeros((6, 6)), noise_scale=0, targets_per_task=0
        )
        for rows in world.tasks.arrays:
            _, first, count = np.unique(rows[:, 0], return_index=True, return_counts=True)
            assert sorted(count) == [6, 7, 7]
            assert sorted(first) != [0, 7, 14]

    def test_the_graph_may_be_the_users(self):
        world = sergio(**QUICK | {"num_variables": 4}, graph=DIAMOND)
        assert (world.adjacency == DIAMOND).all()
        assert (sergio(**QUICK, graph="erdos_renyi").adjacency.sum()) > 0

    def test_new_tasks_are_of_the_same_genes(self):
        world = sergio(**QUICK)
        new = world.sample_tasks(3, [10, 3, 1], seed=0, targets_per_task=[2, 0, 1])
        assert tuple(new.tasks.tasks) == ("new1", "new2", "new3")
        assert [len(rows) for rows in new.tasks.arrays] == [10, 3, 1]
        assert new.intervention_targets.sum(1).tolist() == [2, 0, 1]
        assert new.system is world.system

    def test_there_is_no_density_and_the_error_says_so(self):
        with pytest.raises(ConfigError, match="world with a density, got ExpressionSystem"):
            sergio(**QUICK).log_prob(np.ones((2, 6)), np.zeros(6, dtype=int))

    def test_a_saved_world_is_made_again(self, tmp_path):
        world = sergio(**QUICK, technical="drop_seq", off_targets={"X1": ["X2"]})
        world.save(tmp_path / "world")
        loaded = World.load(tmp_path / "world")
        assert loaded.tasks == world.tasks
        assert torch.equal(loaded.system.outliers, world.system.outliers)


class TestInterventions:
    @pytest.mark.parametrize("half_response", ["wildtype", "per_run"])
    @pytest.mark.parametrize("snapshots", ["independent", "trajectory"])
    @pytest.mark.parametrize("noise", ["dpd", "spd", "sp"])
    def test_knocked_out_genes_are_exactly_zero(self, half_response, snapshots, noise):
        world = sergio(**QUICK, half_response=half_response, snapshots=snapshots, noise=noise)
        assert max(values.max() for values in hit_values(world)) == 0
        assert (world.tasks.values >= 0).all()

    @pytest.mark.parametrize(
        ("options", "factor"),
        [
            ({"intervention": "knock_down"}, 0.5),
            ({"intervention": "knock_down", "factor": 0.1}, 0.1),
            ({"intervention": "over_expression"}, 2),
            ({"intervention": "over_expression", "factor": 3}, 3),
        ],
    )
    def test_production_is_multiplied_by_the_factor(self, options, factor):
        alone = {"graph": np.zeros((6, 6)), "noise_scale": 0, "num_cell_types": 1}
        world = sergio(**QUICK | alone, **options)
        free = sergio(**QUICK | alone, targets_per_task=0).tasks.arrays[0][0]
        for values, hit in zip(hit_values(world), world.intervention_targets, strict=True):
            assert values == pytest.approx(np.full((20, 1), factor * free[hit == 1][0]))

    def test_off_targets_are_hit_and_are_part_of_the_truth(self):
        off = {"X1": ["X2", "X5"], "X4": "X6"}
        world = sergio(**QUICK | {"num_tasks": 30, "num_samples": 3}, off_targets=off)
        for world_ in (world, world.sample_tasks(30, 3, seed=1)):
            hit = {tuple(np.flatnonzero(row)) for row in world_.intervention_targets}
            assert hit == {(0, 1, 4), (1,), (2,), (3, 5), (4,), (5,)}
            assert max(values.max() for values in hit_values(world_)) == 0

    def test_children_follow_constant_half_responses_but_not_their_runs_own(self):
        # Without noise, halving a regulator halves its half response per run: no child notices.
        edge = {"num_variables": 2, "graph": [[0, 1], [0, 0]], "noise_scale": 0}
        change = {}
        for mode in ("wildtype", "per_run"):
            world = sergio(**QUICK | edge, half_response=mode, intervention="knock_down")
            free, hit = cells(world.system, [[0, 0], [1, 0]], per_type=1)
            assert hit[:, 0] == pytest.approx(free[:, 0] / 2)
            change[mode] = np.abs(hit[:, 1] / free[:, 1] - 1)
        assert change["per_run"].max() < 1e-6
        assert change["wildtype"].min() > 0.1


class TestSteadyState:
    @pytest.mark.parametrize("half_response", ["wildtype", "per_run"])
    def test_without_noise_cells_are_at_the_analytic_fixed_point(self, half_response):
        options = {"num_variables": 4, "graph": DIAMOND, "intervention": "knock_down"}
        world = sergio(**SMALL | options, noise_scale=0, hill=1.7, half_response=half_response)
        network, targets = world.system.network, np.eye(4, dtype=int)[[0, 1]]
        strength, rate = network.strength.numpy(), network.rate.numpy()

        def fixed_point(factor, half):
            x = np.zeros((3, 4))
            for gene in range(4):  # the diamond is in topological order
                produced = rate[:, gene].copy()
                for j in np.flatnonzero(DIAMOND[:, gene]):
                    ratio = (half[j] if half is not None else x[:, j].mean()) / x[:, j]
                    active = 1 / (1 + ratio**1.7)
                    k = strength[j, gene]
                    produced += k * active if k > 0 else -k * (1 - active)
                x[:, gene] = factor[gene] * produced / 0.8
            return x

        free = fixed_point(np.ones(4), None)
        half = free.mean(0) if half_response == "wildtype" else None
        for found, hit in zip(cells(world.system, targets, per_type=1), targets, strict=True):
            assert found == pytest.approx(fixed_point(1 - 0.5 * hit, half), rel=1e-6)

    def test_halving_dt_or_doubling_burn_in_changes_no_mean(self):
        """Welch tests at p < 1e-3 in all, Bonferroni over genes, tasks and the two changes."""
        system = sergio(**SMALL | {"num_cell_types": 2}).system
        targets = np.eye(6, dtype=int)[:4] * [[0], [1], [1], [1]]
        finer = replace(system.langevin, dt=0.005)
        usual = cells(system, targets, per_type=400)
        for seed, changed in enumerate(
            (
                replace(system, langevin=finer, burn_in=2 * system.burn_in),
                replace(system, burn_in=2 * system.burn_in),
            )
        ):
            other = cells(changed, targets, per_type=400, seed=seed + 1)
            # Targets, and genes that only they activate, are 0 in every cell.
            alive = usual.max(1) > 0
            assert (alive == (other.max(1) > 0)).all()
            p = [
                stats.ttest_ind(usual[t, :, g], other[t, :, g], equal_var=False).pvalue
                for t, g in np.argwhere(alive)
            ]
            assert min(p) > 1e-3 / (2 * len(p))

    @pytest.mark.parametrize(("noise", "share"), [("dpd", 2), ("spd", 4), ("sp", 1)])
    def test_a_master_regulators_variance_is_that_of_the_linear_equation(self, noise, share):
        """Variance of x' = (1 - decay dt) x + b dt + sqrt(dt) q s e, with s^2 = share b; p > 1e-3.

        The noise is small enough for x to stay positive, and for the square root to be linear.
        """
        b, q, dt, decay, count = 2.0, 0.05, 0.01, 0.8, 4000
        world = sergio(
            num_variables=1, num_tasks=1, num_samples=count, seed=3, targets_per_task=0,
            rate=(b, b), noise=noise, noise_scale=q, half_response="per_run",
        )  # fmt: skip
        expected = dt * q**2 * share * b / (1 - (1 - decay * dt) ** 2)
        values = world.tasks.values[:, 0]
        z = (values.mean() - b / decay) / np.sqrt(expected / count)
        assert stats.norm.sf(abs(z)) * 2 > 1e-3
        chi = stats.chi2(count - 1)
        statistic = (count - 1) * values.var(ddof=1) / expected
        assert 2 * min(chi.cdf(statistic), chi.sf(statistic)) > 1e-3

    def test_half_responses_are_means_of_unperturbed_cells(self):
        """Welch tests over genes, p > 1e-3 in all."""
        system = sergio(**SMALL).system
        values = cells(system, np.zeros((1, 6), dtype=int), per_type=300)[0]
        error = values.std(0) * np.sqrt(1 / len(values) + 1 / 150)
        p = 2 * stats.norm.sf(np.abs(values.mean(0) - system.half_response.numpy()) / error)
        assert p.min() > 1e-3 / 6


class TestCost:
    def test_forty_tasks_of_twenty_genes_take_seconds_and_cost_is_linear(self):
        start = time.process_time()
        world = sergio(num_variables=20, num_tasks=40, num_samples=110, seed=0)
        assert time.process_time() - start < 10

        def seconds(num_tasks):
            targets = torch.as_tensor(world.intervention_targets).repeat(2, 1)[:num_tasks]
            before = time.process_time()
            cells(world.system, targets, per_type=11)
            return time.process_time() - before

        twenty = min(seconds(20) for _ in range(3))
        assert min(seconds(80) for _ in range(2)) < 1.5 * 4 * twenty


class TestSeed:
    def test_same_seed_same_world_and_another_seed_another(self):
        first, again, other = (sergio(**QUICK | {"seed": seed}) for seed in (0, 0, 1))
        assert first.tasks == again.tasks
        assert (first.tasks.values != other.tasks.values).any()

    def test_the_system_does_not_depend_on_how_many_tasks_are_drawn(self):
        few, many = sergio(**QUICK), sergio(**QUICK | {"num_tasks": 9, "num_samples": 2})
        assert torch.equal(few.system.network.strength, many.system.network.strength)
        assert torch.equal(few.system.network.rate, many.system.network.rate)
        assert torch.equal(few.system.half_response, many.system.half_response)

    def test_the_callers_generators_are_untouched(self):
        def states():
            numpy_state = np.random.get_state()[1].tolist()  # noqa: NPY002
            return random.getstate(), numpy_state, torch.get_rng_state().tolist()

        before = states()
        sergio(**QUICK, technical="10x_chromium").sample_tasks(2, 3, seed=0)
        assert states() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_cells_of_the_same_law():
    """Kolmogorov-Smirnov tests over genes, p > 1e-3 in all."""
    system = sergio(**SMALL).system
    targets = np.eye(6, dtype=int)[:2]
    here = cells(system, targets, per_type=300)
    there = cells(replace(system, device=torch.device("cuda")), targets, per_type=300)
    assert (there[0, :, 0] == 0).all()
    p = [stats.ks_2samp(here[t, :, g], there[t, :, g]).pvalue for t in (0, 1) for g in range(6)]
    assert min(p) > 1e-3 / 12


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_variables": 0}, ConfigError, "num_variables: .* at least 1, got 0"),
        ({"num_tasks": 0}, ConfigError, "num_tasks: .* got 0"),
        ({"num_samples": 0}, ConfigError, "num_samples of task 1: .* at least 1, got 0"),
        ({"num_samples": [5, 5]}, ConfigError, "num_samples: .* each of the 4 tasks, got 2"),
        ({"targets_per_task": 7}, ConfigError, "at most the number of variables, 6, got 7"),
        ({"seed": -1}, ConfigError, "seed: .* got -1"),
        ({"num_cell_types": 0}, ConfigError, "num_cell_types: .* got 0"),
        ({"rate": (-1, 3)}, ConfigError, "rate: expected a positive number, got -1"),
        ({"rate": (3, 1)}, ConfigError, r"rate: expected the lower limit first, got \(3, 1\)"),
        ({"rate": 2.0}, ConfigError, "rate: expected two numbers, got 2.0"),
        ({"strength": (0, 5)}, ConfigError, "strength: expected a positive number, got 0"),
        ({"strength": "ab"}, ConfigError, "strength: expected two numbers, got 'ab'"),
        ({"activation": (1, "x")}, ConfigError, "activation: expected a positive number, got 'x'"),
        ({"decay": 0}, ConfigError, "decay: expected a positive number, got 0"),
        ({"hill": -2}, ConfigError, "hill: expected a positive number, got -2"),
        ({"noise": "sd"}, ConfigError, "noise: expected one of 'dpd', 'spd', 'sp', got 'sd'"),
        ({"noise_scale": -1}, ConfigError, "noise_scale: expected at least 0, got -1"),
        ({"dt": 0}, ConfigError, "dt: expected a positive number, got 0"),
        ({"dt": 2}, ConfigError, r"dt: expected less than 1 / decay = 1.25.* got 2"),
        ({"burn_in": -1}, ConfigError, "burn_in: expected at least 0, got -1"),
        ({"snapshots": "one"}, ConfigError, "snapshots: .* 'independent', 'trajectory'"),
        ({"half_response": "fixed"}, ConfigError, "half_response: .* 'wildtype', 'per_run'"),
        ({"intervention": "hard"}, ConfigError, "intervention: expected one of 'knock_out'"),
        ({"factor": 0.5}, ConfigError, "factor: expected None for knock_out.* got 0.5"),
        (
            {"intervention": "knock_down", "factor": 1.5},
            ConfigError,
            "factor: expected between 0 and 1 for knock_down, got 1.5",
        ),
        (
            {"intervention": "over_expression", "factor": 0.5},
            ConfigError,
            "factor: expected between 1 and inf for over_expression, got 0.5",
        ),
        ({"off_targets": {"X9": ["X1"]}}, ConfigError, "genes of the graph, X1 to X6, got 'X9'"),
        ({"off_targets": {"X1": ["Y"]}}, ConfigError, "genes of the graph, X1 to X6, got 'Y'"),
        ({"off_targets": {"X1": 4}}, ConfigError, "off_targets: .* got {'X1': 4}"),
        ({"off_targets": ["X1"]}, ConfigError, "off_targets: expected a mapping"),
        ({"technical": "11x"}, ConfigError, "technical: .* '10x_chromium', .* got '11x'"),
        ({"technical": {"library_mean": 4}}, ConfigError, "technical: .* got library_mean"),
        ({"device": "tpu9"}, ConfigError, "device: expected 'cpu' or 'cuda', got 'tpu9'"),
        ({"device": "meta"}, ConfigError, "device: expected 'cpu' or 'cuda', got 'meta'"),
        ({"device": "cuda:99"}, ConfigError, "device: expected one that exists, got 'cuda:99'"),
        ({"graph": "tree"}, ConfigError, "graph: .* got 'tree'"),
        ({"graph": np.zeros((6, 5))}, GraphError, r"got .* \[6, 5\]"),
        ({"graph": np.eye(6, k=1) * 0.5}, GraphError, "0 or 1, got 0.5"),
        ({"graph": np.eye(6)}, GraphError, "cycle X1 -> X1"),
        ({"graph": np.roll(np.eye(6), 1, axis=1)}, GraphError, r"cycle X\d -> .*X6 -> X1"),
    ],
)
def test_impossible_worlds_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        sergio(**QUICK | options)

"""Worlds obey their own laws: who changes, who does not, how much, and what the seed decides."""

import random
import time

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_metacadi import TaskDataset, simulators
from pyro_metacadi.errors import ConfigError, GraphError
from pyro_metacadi.simulators import World, gp_anm

KINDS = ("hard", "do", "shift", "mechanism")
SMALL = {"num_variables": 5, "num_tasks": 6, "num_samples": 20, "seed": 0}
CHAIN = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])  # X1 -> X2 -> X3


def global_states():
    numpy_state = np.random.get_state()[1].tolist()  # noqa: NPY002 (the caller's may be this one)
    return random.getstate(), numpy_state, torch.get_rng_state().tolist()


def chain_rows(target: int | None, *, num_samples: int = 4000, seed: int = 7, **options):
    """Rows of X1 -> X2 -> X3 with `target` hit, all with the same noise for one seed."""
    world = gp_anm(num_variables=3, num_tasks=1, num_samples=1, seed=1, graph=CHAIN, **options)
    targets = torch.zeros(1, 3, dtype=torch.long)
    if target is not None:
        targets[0, target] = 1
    (rows,) = world.system.sample(
        targets, num_samples=[num_samples], generator=torch.Generator().manual_seed(seed)
    )
    return rows.numpy()


class TestShape:
    def test_tasks_and_truth_agree_on_every_axis(self):
        world = gp_anm(**SMALL)
        assert isinstance(world, World)
        assert isinstance(world.tasks, TaskDataset)
        assert tuple(world.tasks.variables) == ("X1", "X2", "X3", "X4", "X5")
        assert tuple(world.tasks.tasks) == tuple(f"task{number}" for number in range(1, 7))
        assert [rows.shape for rows in world.tasks.arrays] == [(20, 5)] * 6
        assert world.adjacency.shape == (5, 5)
        assert world.intervention_targets.shape == (6, 5)
        assert world.adjacency.dtype.kind == world.intervention_targets.dtype.kind == "i"

    def test_tasks_may_have_unequal_rows_and_targets(self):
        options = SMALL | {"num_samples": [3, 1, 50, 2, 9, 4]}
        world = gp_anm(**options, targets_per_task=[0, 1, 2, 5, 0, 1])
        assert [len(rows) for rows in world.tasks.arrays] == [3, 1, 50, 2, 9, 4]
        assert world.intervention_targets.sum(1).tolist() == [0, 1, 2, 5, 0, 1]

    def test_one_variable_and_one_row_make_a_world(self):
        world = gp_anm(num_variables=1, num_tasks=1, num_samples=1, seed=0)
        assert world.tasks.arrays[0].shape == (1, 1)
        assert world.intervention_targets.tolist() == [[1]]

    @pytest.mark.parametrize("kind", KINDS)
    def test_forty_tasks_of_twenty_variables_take_less_than_a_second(self, kind):
        start = time.process_time()
        gp_anm(num_variables=20, num_tasks=40, num_samples=110, seed=0, intervention=kind)
        assert time.process_time() - start < 1

    def test_targets_are_uniform_over_variables(self):
        world = gp_anm(**SMALL | {"num_tasks": 2000, "num_samples": 1}, targets_per_task=2)
        share = world.intervention_targets.mean(0)
        assert share == pytest.approx(np.full(5, 0.4), abs=5 * np.sqrt(0.24 / 2000))


class TestGraph:
    def test_a_given_matrix_is_the_graph(self):
        world = gp_anm(
            num_variables=3, num_tasks=1, num_samples=5, seed=0, graph=CHAIN.astype(float)
        )
        assert (world.adjacency == CHAIN).all()

    @pytest.mark.parametrize("name", ["erdos_renyi", "scale_free"])
    def test_a_name_draws_the_graph_of_that_seed(self, name):
        world = gp_anm(**SMALL, graph=name, expected_edges=6)
        draw = getattr(simulators, name)
        assert (world.adjacency == draw(5, expected_edges=6, seed=0)).all()


class TestMechanisms:
    def test_noise_and_roots_have_the_promised_spread(self):
        worlds = [gp_anm(**SMALL | {"seed": seed}) for seed in range(60)]
        scale = np.stack([world.system.noise_scale.numpy() for world in worlds])
        root = np.stack([world.adjacency.sum(0) == 0 for world in worlds])
        for squares in (scale[root] ** 2, (scale[~root] / 0.4) ** 2):
            assert squares.min() >= 1
            assert squares.max() <= 2
            assert stats.kstest(squares - 1, "uniform").pvalue > 0.01

    def test_the_same_function_holds_in_every_task_and_for_new_tasks(self):
        options = {"graph": CHAIN, "intervention_mean": 2, "seed": 4}
        world = gp_anm(num_variables=3, num_tasks=30, num_samples=100, **options)
        new = world.sample_tasks(30, 100, seed=4)
        rows = np.concatenate(world.tasks.arrays + new.tasks.arrays)
        targets = np.concatenate([world.intervention_targets, new.intervention_targets])
        free = np.repeat(targets[:, 1] == 0, 100)
        function = world.system.functions[1](torch.tensor(rows[:, [0]])).numpy()
        residual = (rows[:, 1] - function) / world.system.noise_scale[1].item()
        assert stats.kstest(residual[free], "norm").pvalue > 0.01
        by_task = residual.reshape(60, 100)[targets[:, 1] == 0].mean(1) * 10
        assert stats.kstest(by_task, "norm").pvalue > 0.01

    def test_a_variable_depends_on_its_parents_alone(self):
        rows = chain_rows(None)
        function = gp_anm(
            num_variables=3, num_tasks=1, num_samples=1, seed=1, graph=CHAIN
        ).system.functions[2](torch.tensor(rows[:, [1]]))
        residual = rows[:, 2] - function.numpy()
        assert abs(stats.spearmanr(residual, rows[:, 0]).statistic) < 0.05
        assert np.var(residual) < np.var(rows[:, 2])


class TestInterventions:
    @pytest.mark.parametrize("kind", KINDS)
    def test_non_descendants_keep_their_rows_given_the_noise(self, kind):
        free, hit = chain_rows(None, intervention=kind), chain_rows(1, intervention=kind)
        assert (free[:, 0] == hit[:, 0]).all()
        assert (free[:, 1] != hit[:, 1]).mean() > 0.99
        assert (free[:, 2] != hit[:, 2]).mean() > 0.99

    def test_non_descendants_keep_their_law(self):
        free, hit = chain_rows(None), chain_rows(1, seed=8, intervention_mean=2.0)
        assert stats.ks_2samp(free[:, 0], hit[:, 0]).pvalue > 0.01
        assert stats.ks_2samp(free[:, 1], hit[:, 1]).pvalue < 1e-6

    def test_hard_targets_have_the_given_normal_law_and_forget_their_parents(self):
        rows = chain_rows(1, intervention_mean=2.0, intervention_scale=0.5)
        assert stats.kstest(rows[:, 1], "norm", args=(2.0, 0.5)).pvalue > 0.01
        assert abs(np.corrcoef(rows[:, 0], rows[:, 1])[0, 1]) < 0.05

    def test_hard_is_standard_normal_by_default(self):
        assert stats.kstest(chain_rows(1)[:, 1], "norm").pvalue > 0.01

    def test_do_holds_the_target_at_the_mean(self):
        assert set(chain_rows(1, intervention="do", intervention_mean=2)[:, 1]) == {2.0}

    def test_shift_adds_the_shift_and_nothing_else(self):
        free = chain_rows(None, intervention="shift")
        hit = chain_rows(1, intervention="shift", intervention_shift=1.5)
        assert hit[:, 1] - free[:, 1] == pytest.approx(np.full(4000, 1.5))

    def test_mechanism_redraws_the_function_for_each_task_and_keeps_the_noise(self):
        options = {"num_samples": 50, "seed": 2, "graph": CHAIN, "intervention": "mechanism"}
        world = gp_anm(num_variables=3, num_tasks=12, targets_per_task=3, **options)
        grid = torch.linspace(-2, 2, 9, dtype=torch.float64).unsqueeze(1)
        curves = {
            tuple(world.system.redrawn[1][torch.full((9,), task)](grid).tolist())
            for task in range(12)
        }
        assert len(curves) == 12
        assert tuple(world.system.functions[1](grid).tolist()) not in curves
        residuals = []
        for task, rows in enumerate(world.tasks.arrays):
            index = torch.full((50,), task)
            function = world.system.redrawn[2][index](torch.tensor(rows[:, [1]])).numpy()
            residuals.append((rows[:, 2] - function) / world.system.noise_scale[2].item())
        assert stats.kstest(np.concatenate(residuals), "norm").pvalue > 0.01

    def test_mechanism_moves_a_root_to_a_new_mean_in_each_task(self):
        options = {"num_samples": 100, "seed": 3, "num_features": 50}
        world = gp_anm(num_variables=1, num_tasks=300, intervention="mechanism", **options)
        means = np.array([rows.mean() for rows in world.tasks.arrays])
        within = world.system.noise_scale[0].item() ** 2 / 100
        assert means.var() == pytest.approx(1 + within, rel=0.3)
        assert np.mean([rows.std() for rows in world.tasks.arrays]) == pytest.approx(
            world.system.noise_scale[0].item(), rel=0.02
        )


class TestSeed:
    @pytest.mark.parametrize("kind", KINDS)
    def test_same_seed_same_world_and_another_seed_another(self, kind):
        first, again = gp_anm(**SMALL, intervention=kind), gp_anm(**SMALL, intervention=kind)
        other = gp_anm(**SMALL | {"seed": 1}, intervention=kind)
        assert (first.tasks.values == again.tasks.values).all()
        assert (first.intervention_targets == again.intervention_targets).all()
        assert (first.tasks.values != other.tasks.values).any()

    def test_the_system_does_not_depend_on_how_many_tasks_are_drawn(self):
        few, many = gp_anm(**SMALL), gp_anm(**SMALL | {"num_tasks": 9, "num_samples": 3})
        assert (few.adjacency == many.adjacency).all()
        assert torch.equal(few.system.noise_scale, many.system.noise_scale)
        assert torch.equal(few.system.functions[0].phase, many.system.functions[0].phase)

    def test_the_callers_generators_are_untouched(self):
        states = global_states()
        gp_anm(**SMALL, intervention="mechanism").sample_tasks(2, 3, seed=0)
        assert global_states() == states


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_variables": 0}, ConfigError, "num_variables: expected an integer of at least 1"),
        ({"num_tasks": 0}, ConfigError, "num_tasks: .* got 0"),
        ({"num_samples": -1}, ConfigError, "num_samples of task 1: .* at least 1, got -1"),
        ({"num_samples": 2.5}, ConfigError, "num_samples of task 1: expected an integer"),
        ({"num_samples": [1, 2, 3, 0, 5, 6]}, ConfigError, "num_samples of task 4: .* got 0"),
        ({"num_samples": [5, 5]}, ConfigError, "num_samples: .* each of the 6 tasks, got 2"),
        ({"targets_per_task": 6}, ConfigError, "at most the number of variables, 5, got 6"),
        ({"targets_per_task": -1}, ConfigError, "targets_per_task of task 1: .* got -1"),
        ({"targets_per_task": [1]}, ConfigError, "targets_per_task: .* got 1"),
        ({"targets_per_task": "one"}, ConfigError, "targets_per_task .* got 'one'"),
        ({"seed": -1}, ConfigError, "seed: expected an integer of at least 0, got -1"),
        ({"num_features": 0}, ConfigError, "num_features"),
        ({"length_scale": 0}, ConfigError, "length_scale: expected a positive number, got 0"),
        ({"noise_scale": -0.4}, ConfigError, "noise_scale: expected a positive number"),
        ({"intervention": "soft"}, ConfigError, "one of 'hard', 'do', 'shift', 'mechanism'"),
        ({"intervention_scale": 0}, ConfigError, "intervention_scale"),
        ({"graph": "tree"}, ConfigError, "graph: .* 'erdos_renyi', 'scale_free', got 'tree'"),
        ({"expected_edges": 11}, ConfigError, "expected_edges: expected 0 to 10"),
        ({"graph": np.eye(5, k=1), "expected_edges": 4}, ConfigError, "expected None with"),
        ({"graph": np.eye(4, k=1)}, GraphError, r"shape \[5, 5\].* got .* \[4, 4\]"),
        ({"graph": np.zeros((5, 4))}, GraphError, r"got .* \[5, 4\]"),
        ({"graph": [[0, 1], [0]]}, GraphError, "graph: expected an array of numbers, got list"),
        ({"noise_scale": 1e300}, ConfigError, r"noise_scale: .* got 1e\+300\. Pass one up to 1e30"),
        (
            {"num_samples": [[1], [1, 2], 3, 4, 5, 6]},
            ConfigError,
            r"num_samples of task 1: .* got \[1\]",
        ),
        ({"graph": None}, GraphError, "graph: expected numbers, got None"),
        ({"graph": np.eye(5, k=1) * 0.5}, GraphError, "0 or 1, got 0.5"),
        ({"graph": np.eye(5)}, GraphError, "cycle X1 -> X1"),
        ({"graph": np.roll(np.eye(5), 1, axis=1)}, GraphError, r"cycle X\d -> .*X5 -> X1"),
    ],
)
def test_impossible_worlds_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        gp_anm(**SMALL | options)


@pytest.mark.parametrize(
    "graph",
    [CHAIN.astype(">i8"), CHAIN.astype(np.longdouble), CHAIN.astype(bool), CHAIN.T.copy().T],
    ids=["big-endian", "longdouble", "bool", "strided"],
)
def test_a_graph_may_be_any_array_of_zeros_and_ones(graph):
    options = {"num_variables": 3, "num_tasks": 1, "num_samples": 1, "seed": 0}
    assert (gp_anm(**options, graph=graph).adjacency == CHAIN).all()
    assert (gp_anm(**options, graph=graph[::-1, ::-1].T).adjacency == CHAIN[::-1, ::-1].T).all()

"""A world's density is the law its rows come from, and new tasks come from the same system."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pyro_metacadi.errors import ConfigError, DataError
from pyro_metacadi.simulators import gp_anm

EDGE = np.array([[0, 1], [0, 0]])  # X1 -> X2
GRID = np.linspace(-9, 9, 181)


def two_variables(**options):
    defaults = {"num_tasks": 3, "num_samples": 5, "seed": 0, "graph": EDGE}
    return gp_anm(num_variables=2, **defaults | options)


class NoDensity:
    """A system that can be sampled only."""

    adjacency = torch.zeros(2, 2, dtype=torch.long)

    def for_tasks(self, num_tasks, *, generator):
        return self

    def sample(self, intervention_targets, *, num_samples, generator):
        return [torch.zeros(rows, 2) for rows in num_samples]


class TestLogProb:
    @pytest.mark.parametrize("kind", ["hard", "shift", "mechanism"])
    @pytest.mark.parametrize("targets", [[0, 0], [1, 0], [0, 1], [1, 1]])
    def test_integrates_to_one(self, kind, targets):
        world = two_variables(intervention=kind, num_features=30)
        points = np.stack(np.meshgrid(GRID, GRID, indexing="ij"), -1).reshape(-1, 2)
        density = np.exp(world.log_prob(points, targets, task=1)).reshape(181, 181)
        total = integrate.simpson(integrate.simpson(density, x=GRID), x=GRID)
        assert total == pytest.approx(1, abs=1e-4)

    def test_do_is_a_density_over_the_others_at_the_constant_only(self):
        world = two_variables(intervention="do", intervention_mean=2.0)
        at, off = np.full(181, 2.0), np.full(181, 2.1)
        density = np.exp(world.log_prob(np.stack([GRID, at], 1), [0, 1]))
        assert integrate.simpson(density, x=GRID) == pytest.approx(1, abs=1e-6)
        assert (world.log_prob(np.stack([GRID, off], 1), [0, 1]) == -np.inf).all()
        below = np.exp(world.log_prob(np.stack([at, GRID], 1), [1, 0]))
        assert integrate.simpson(below, x=GRID) == pytest.approx(1, abs=1e-6)

    @pytest.mark.parametrize(("kind", "loc", "scale"), [("hard", None, 0.7), ("shift", 1.5, None)])
    def test_equals_the_density_written_out(self, kind, loc, scale):
        world = two_variables(
            intervention=kind, intervention_mean=-1, intervention_scale=0.7, intervention_shift=1.5
        )
        rows = np.random.default_rng(0).normal(size=(50, 2))
        first, second = world.system.noise_scale.tolist()
        function = world.system.functions[1]
        angle = rows[:, [0]] * function.frequency.numpy() + function.phase.numpy()
        mean = np.cos(angle) @ function.weight.numpy()
        root = stats.norm.logpdf(rows[:, 0], 0, first)
        free = stats.norm.logpdf(rows[:, 1], mean, second)
        hit = stats.norm.logpdf(
            rows[:, 1], -1 if loc is None else mean + loc, second if scale is None else scale
        )
        assert world.log_prob(rows, [0, 0]) == pytest.approx(root + free)
        assert world.log_prob(rows, [0, 1]) == pytest.approx(root + hit)

    @pytest.mark.parametrize("kind", ["hard", "do", "shift", "mechanism"])
    def test_prefers_the_true_targets_on_its_own_rows(self, kind):
        world = gp_anm(num_variables=6, num_tasks=10, num_samples=200, seed=1, intervention=kind)
        for task, (rows, truth) in enumerate(
            zip(world.tasks.arrays, world.intervention_targets, strict=True)
        ):
            scores = [world.log_prob(rows, one, task=task).sum() for one in np.eye(6, dtype=int)]
            assert np.argmax(scores) == truth.argmax()

    def test_terms_are_per_variable_and_add_up(self):
        world = two_variables()
        rows = world.tasks.arrays[0]
        terms = world.log_prob_terms(rows, [0, 1])
        assert terms.shape == rows.shape
        assert terms.sum(1) == pytest.approx(world.log_prob(rows, [0, 1]))
        assert (terms[:, 0] == world.log_prob_terms(rows, [0, 0])[:, 0]).all()

    def test_redrawn_functions_are_those_of_the_task(self):
        world = two_variables(intervention="mechanism")
        rows = world.tasks.arrays[0]
        assert (world.log_prob(rows, [0, 1], task=0) != world.log_prob(rows, [0, 1], task=2)).all()
        assert (world.log_prob(rows, [0, 0]) == world.log_prob(rows, [0, 0], task=2)).all()

    @pytest.mark.parametrize(
        ("rows", "targets", "task", "error", "message"),
        [
            (np.zeros(2), [0, 1], None, DataError, r"rows: expected shape \[sample, 2\].* \[2\]"),
            (np.zeros((4, 3)), [0, 1], None, DataError, r"rows: .* got \[4, 3\]"),
            ([[np.nan, 0]], [0, 1], None, DataError, "rows: expected finite numbers"),
            ("x", [0, 1], None, DataError, "rows: expected numbers, got 'x'"),
            ([[1, 2], [3]], [0, 1], None, DataError, "rows: expected an array of numbers"),
            (np.ones((4, 2)) * 1j, [0, 1], None, DataError, "rows: expected numbers, got 1j"),
            (np.zeros((4, 2)), [[0], 1], None, DataError, "intervention_targets: expected an"),
            (np.zeros((4, 2)), [0, 1, 0], None, DataError, "intervention_targets: expected 2"),
            (np.zeros((4, 2)), [0, 0.5], None, DataError, "intervention_targets: .*0.5"),
            (np.zeros((4, 2)), [0, 1], 3, ConfigError, "task: expected a position from 0 to 2"),
            (np.zeros((4, 2)), [0, 1], -1, ConfigError, "task: .* got -1"),
            (np.zeros((4, 2)), [0, 1], None, ConfigError, "task: .* redrawn .* got None"),
        ],
    )
    def test_questions_without_an_answer_are_refused(self, rows, targets, task, error, message):
        with pytest.raises(error, match=message):
            two_variables(intervention="mechanism").log_prob(rows, targets, task=task)

    def test_a_world_without_density_says_so(self):
        world = replace(two_variables(), system=NoDensity())
        with pytest.raises(ConfigError, match=r"world with a density, got NoDensity\."):
            world.log_prob(np.zeros((1, 2)), [0, 0])


class TestSampleTasks:
    def test_new_tasks_are_named_and_sized_as_asked(self):
        world = gp_anm(num_variables=5, num_tasks=4, num_samples=30, seed=0)
        new = world.sample_tasks(3, [10, 3, 1], seed=0, targets_per_task=[2, 0, 1])
        assert tuple(new.tasks.tasks) == ("new1", "new2", "new3")
        assert tuple(new.tasks.variables) == tuple(world.tasks.variables)
        assert [len(rows) for rows in new.tasks.arrays] == [10, 3, 1]
        assert new.intervention_targets.sum(1).tolist() == [2, 0, 1]
        assert (new.adjacency == world.adjacency).all()

    def test_same_seed_is_repeatable_and_independent_of_the_worlds_own(self):
        world = gp_anm(num_variables=5, num_tasks=4, num_samples=30, seed=0)
        first, again = (world.sample_tasks(4, 30, seed=0) for _ in range(2))
        assert first.tasks == again.tasks
        assert not np.isin(first.tasks.values, world.tasks.values).any()

    def test_the_density_of_the_world_is_that_of_its_new_tasks(self):
        world = gp_anm(num_variables=5, num_tasks=4, num_samples=30, seed=0)
        new = world.sample_tasks(2, 6, seed=3)
        rows, targets = new.tasks.arrays[1], new.intervention_targets[1]
        assert (world.log_prob(rows, targets) == new.log_prob(rows, targets)).all()

    def test_redrawn_mechanisms_are_new_for_new_tasks(self):
        world = two_variables(intervention="mechanism")
        new = world.sample_tasks(3, 5, seed=0)
        rows = new.tasks.arrays[0]
        ours, theirs = (one.log_prob(rows, [0, 1], task=0) for one in (world, new))
        assert (ours != theirs).all()

    def test_the_callers_adjacency_cannot_change_the_world(self):
        world = two_variables()
        world.adjacency[0, 1] = 0
        assert world.adjacency.tolist() == EDGE.tolist()

    @pytest.mark.parametrize(
        ("num_tasks", "num_samples", "options", "message"),
        [
            (0, 10, {}, "num_tasks: .* got 0"),
            (2, 0, {}, "num_samples of task 1"),
            (2, [1, 2, 3], {}, "num_samples: .* got 3"),
            (2, 10, {"targets_per_task": 3}, "at most the number of variables, 2, got 3"),
            (2, 10, {"seed": -5}, "seed: .* got -5"),
        ],
    )
    def test_impossible_tasks_are_refused(self, num_tasks, num_samples, options, message):
        with pytest.raises(ConfigError, match=message):
            two_variables().sample_tasks(num_tasks, num_samples, **{"seed": 0, **options})

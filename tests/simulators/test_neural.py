"""Network and linear worlds have BaCaDI's mechanisms, noise, interventions and tasks."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pyro_metacadi.errors import ConfigError, GraphError
from pyro_metacadi.simulators import erdos_renyi, linear_anm, nn_anm, scale_free

BOTH = pytest.mark.parametrize("simulate", [nn_anm, linear_anm])
CHAIN = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])  # X1 -> X2 -> X3
SMALL = {"num_variables": 4, "num_tasks": 5, "num_samples": 6, "seed": 0}


def normal_log_density(x, loc, scale):
    return stats.norm.logpdf(x, loc, scale)


class TestTasks:
    @BOTH
    def test_by_default_they_are_those_of_bacadi(self, simulate):
        world = simulate(seed=0)
        assert world.tasks.num_rows.tolist() == [100] + [10] * 20
        assert not world.intervention_targets[0].any()
        assert (world.intervention_targets[1:] == np.eye(20)).all()
        assert len(world.tasks.variables) == 20

    def test_double_data_is_a_choice_of_sizes(self):
        world = nn_anm(num_variables=3, num_samples=20, num_observational=200, seed=0)
        assert world.tasks.num_rows.tolist() == [200, 20, 20, 20]

    @BOTH
    def test_number_size_and_targets_are_free(self, simulate):
        world = simulate(
            num_variables=5, num_tasks=3, num_samples=[4, 1, 9], targets_per_task=[0, 2, 5], seed=0
        )
        assert world.tasks.num_rows.tolist() == [4, 1, 9]
        assert world.intervention_targets.sum(1).tolist() == [0, 2, 5]

    def test_free_tasks_have_one_target_by_default(self):
        assert nn_anm(**SMALL).intervention_targets.sum(1).tolist() == [1] * 5

    def test_new_tasks_come_from_the_same_system(self):
        world = nn_anm(num_variables=4, seed=0)
        new = world.sample_tasks(3, 7, seed=0)
        assert new.system is world.system
        assert new.tasks.num_rows.tolist() == [7] * 3


class TestLaw:
    def test_a_network_has_five_sigmoid_units_and_is_the_formula(self):
        world = nn_anm(num_variables=3, graph=CHAIN, seed=2)
        function = world.system.functions[1]
        assert function.in_weight.shape == (1, 5)
        x = np.linspace(-3, 3, 7)
        hidden = 1 / (1 + np.exp(-(np.outer(x, function.in_weight[0]) + function.in_bias.numpy())))
        expected = hidden @ function.out_weight.numpy() + function.out_bias.item()
        assert function(torch.tensor(x)[:, None]).numpy() == pytest.approx(expected)

    def test_weights_and_biases_are_standard_normal(self):
        worlds = [nn_anm(num_variables=3, graph=CHAIN, seed=seed) for seed in range(60)]
        functions = [f for world in worlds for f in world.system.functions[1:]]
        for name in ("in_weight", "in_bias", "out_weight", "out_bias"):
            values = torch.cat([getattr(f, name).flatten() for f in functions]).numpy()
            assert stats.kstest(values, "norm").pvalue > 0.01

    def test_linear_weights_are_standard_normal_without_intercept(self):
        worlds = [linear_anm(num_variables=3, graph=CHAIN, seed=seed) for seed in range(100)]
        weights = [world.system.functions[1].weight.item() for world in worlds]
        assert stats.kstest(weights, "norm").pvalue > 0.01
        assert worlds[0].system.functions[2](torch.zeros(1, 1).double()).item() == 0

    @BOTH
    def test_noise_variance_is_uniform_for_every_variable(self, simulate):
        worlds = [simulate(num_variables=4, seed=seed) for seed in range(60)]
        variance = np.concatenate([world.system.noise_scale.numpy() ** 2 for world in worlds])
        assert stats.kstest((variance - 0.05) / 0.1, "uniform").pvalue > 0.01

    @BOTH
    def test_variables_without_parents_are_noise_only(self, simulate):
        world = simulate(num_variables=3, graph=CHAIN, num_observational=4000, seed=1)
        roots = world.tasks.arrays[0][:, 0] / world.system.noise_scale[0].item()
        assert stats.kstest(roots, "norm").pvalue > 0.01

    def test_targets_have_one_mean_per_variable_far_from_zero(self):
        worlds = [nn_anm(num_variables=4, seed=seed) for seed in range(60)]
        means = np.array([[one.mean for one in w.system.interventions] for w in worlds]).ravel()
        assert np.abs(means).min() >= 5
        z = means - 5 * np.sign(means)
        assert stats.kstest(z, "norm", args=(0, 2)).pvalue > 0.01

    @BOTH
    def test_targets_follow_their_law_whatever_the_parents(self, simulate):
        world = simulate(num_variables=3, graph=CHAIN, num_samples=3000, seed=3)
        rows = world.tasks.arrays[2]  # X2 is hit
        mean = world.system.interventions[1].mean
        assert stats.kstest(rows[:, 1], "norm", args=(mean, np.sqrt(0.5))).pvalue > 0.01
        assert abs(stats.spearmanr(rows[:, 0], rows[:, 1]).statistic) < 0.05

    @BOTH
    def test_log_prob_is_the_density_written_out(self, simulate):
        world = simulate(num_variables=3, graph=CHAIN, seed=3)
        rows = world.tasks.arrays[2]
        system = world.system
        third = system.functions[2](torch.tensor(rows[:, [1]])).numpy()
        scale = system.noise_scale.numpy()
        expected = (
            normal_log_density(rows[:, 0], 0, scale[0])
            + normal_log_density(rows[:, 1], system.interventions[1].mean, np.sqrt(0.5))
            + normal_log_density(rows[:, 2], third, scale[2])
        )
        assert world.log_prob(rows, [0, 1, 0]) == pytest.approx(expected)

    @BOTH
    def test_log_prob_integrates_to_one(self, simulate):
        world = simulate(num_variables=2, graph=np.eye(2, k=1), seed=5)
        axes = np.linspace(-3, 3, 241), np.linspace(-8, 8, 401)
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
        density = np.exp(world.log_prob(points, [0, 0])).reshape(241, 401)
        total = integrate.simpson(integrate.simpson(density, x=axes[1]), x=axes[0])
        assert total == pytest.approx(1, abs=1e-4)


class TestSeed:
    @BOTH
    def test_same_seed_same_world_and_another_seed_another(self, simulate):
        first, again, other = simulate(seed=0), simulate(seed=0), simulate(seed=1)
        assert first.tasks == again.tasks
        assert first.tasks != other.tasks

    def test_the_system_does_not_depend_on_the_tasks(self):
        few, many = nn_anm(**SMALL), nn_anm(num_variables=4, seed=0)
        assert torch.equal(few.system.noise_scale, many.system.noise_scale)
        assert few.system.interventions == many.system.interventions

    def test_the_callers_generator_is_untouched(self):
        state = torch.get_rng_state()
        nn_anm(**SMALL).sample_tasks(2, 3, seed=0)
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("draw", [erdos_renyi, scale_free])
    def test_a_graph_has_two_edges_per_variable_and_is_that_of_the_seed(self, draw):
        world = nn_anm(graph=draw.__name__, seed=4)
        assert (world.adjacency == draw(20, seed=4)).all()


@BOTH
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_variables": 0}, ConfigError, "num_variables: .* got 0"),
        ({"num_tasks": 0}, ConfigError, "num_tasks: .* got 0"),
        ({"num_samples": 0}, ConfigError, "num_samples of task 1: .* got 0"),
        ({"num_samples": [1, 2]}, ConfigError, "num_samples: .* each of the 5 tasks, got 2"),
        ({"targets_per_task": 5}, ConfigError, "at most the number of variables, 4, got 5"),
        ({"num_observational": 9}, ConfigError, "num_observational: .* only without num_tasks"),
        ({"num_tasks": None, "targets_per_task": 2}, ConfigError, "only with num_tasks, got 2"),
        ({"num_tasks": None, "num_samples": [1, 2]}, ConfigError, "num_samples: .* an integer"),
        ({"num_tasks": None, "num_observational": 0}, ConfigError, "num_observational: .* got 0"),
        ({"seed": -1}, ConfigError, "seed: .* got -1"),
        ({"graph": "tree"}, ConfigError, "graph: .* got 'tree'"),
        ({"expected_edges": 7}, ConfigError, "expected_edges: expected 0 to 6"),
        ({"graph": np.roll(np.eye(4), 1, axis=1)}, GraphError, r"cycle X\d -> "),
        ({"graph": np.zeros((4, 3))}, GraphError, r"got .* \[4, 3\]"),
        ({"graph": np.eye(4, k=1) * 2}, GraphError, "0 or 1, got 2"),
    ],
)
def test_impossible_worlds_are_refused(simulate, options, error, message):
    with pytest.raises(error, match=message):
        simulate(**SMALL | options)

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models import Mechanisms
from tests.helpers import random_dag

D = 4


def mechanisms(**options):
    with isolated(0):
        result = Mechanisms(D, width=4, **options).double()
        with torch.no_grad():
            result.readout.normal_()
    return result


def sensitivity(function, x):
    """Derivative of the output variables, the first axis, by the input variables, the last."""
    return torch.autograd.functional.jacobian(lambda row: function(row[None, None]), x)


@given(seed=st.integers(0, 10_000))
def test_observational_predictions_depend_on_the_parents_and_on_nothing_else(seed):
    adjacency = random_dag(D, seed=seed).double()
    x = torch.randn(D, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
    with isolated(0):
        jacobian = sensitivity(lambda rows: mechanisms().observe(rows, adjacency)[0, 0], x)
    assert torch.equal(jacobian != 0, adjacency.T == 1)


@given(seed=st.integers(0, 10_000))
def test_interventional_features_depend_on_the_parents_and_on_nothing_else(seed):
    adjacency = random_dag(D, seed=seed).double()
    x = torch.randn(D, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
    with isolated(0):
        jacobian = sensitivity(lambda rows: mechanisms().features(rows, adjacency)[0, :, 0], x)
    learned, constant = jacobian[:, :-1], jacobian[:, -1]
    parents = (adjacency.T == 1).unsqueeze(1).expand_as(learned)
    assert torch.equal(learned != 0, parents)
    assert (constant == 0).all()


@pytest.mark.parametrize("shared", [False, True])
def test_masks_folded_into_the_weights_equal_masked_inputs(shared):
    adjacency = random_dag(D, seed=3).double()
    everything = torch.ones(D, D, dtype=torch.double)
    x = torch.randn(2, 5, D, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    with isolated(0):
        module = mechanisms(shared_features=shared)
        observed, features = module.observe(x, adjacency), module.features(x, adjacency)
        for i in range(D):
            masked = x * adjacency[:, i]
            torch.testing.assert_close(observed[..., i], module.observe(masked, everything)[..., i])
            torch.testing.assert_close(features[:, i], module.features(masked, everything)[:, i])


def test_many_graphs_at_once_equal_one_by_one():
    graphs = torch.stack([random_dag(D, seed=s) for s in range(3)]).double()
    x = torch.randn(2, 5, D, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    with isolated(0):
        module = mechanisms()
        for method in (module.observe, module.features):
            together = method(x, graphs)
            torch.testing.assert_close(together, torch.stack([method(x, g) for g in graphs]))


def test_interventional_predictions_are_the_readout_times_the_features():
    features, readout = torch.randn(2, D, 5, 3), torch.randn(2, D, 3)
    predicted = mechanisms().intervene(features, readout)
    torch.testing.assert_close(predicted, torch.einsum("tinf,tif->tni", features, readout))


def test_features_are_the_scaled_network_and_a_constant_and_their_gradients_are_right():
    x, adjacency = torch.randn(2, 3, D).double(), torch.ones(D, D).double().requires_grad_()
    module = mechanisms()
    features = module.features(x, adjacency)
    hidden = module.interventional(x.flatten(0, 1), adjacency).unflatten(-2, (2, 3))
    torch.testing.assert_close(features[..., :-1], hidden.transpose(0, 1) / 5**0.5)
    assert (features[..., -1] == 1).all()
    assert gradcheck(lambda graph: module.features(x, graph), [adjacency])


@pytest.mark.parametrize("draw", [(), (3,)])
@pytest.mark.parametrize("shared", [False, True])
def test_what_is_a_tasks_own_takes_the_place_of_what_tasks_share(shared, draw):
    x = torch.randn(2, 5, D, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    graphs = torch.stack([random_dag(D, seed=s) for s in range(3)]).double()
    graphs = graphs if draw else graphs[0]
    with isolated(0):
        module = mechanisms(shared_features=shared)
        values = module.shared(["readout", "interventional", "observational"])
        own = {name: torch.randn(*draw, 2, *v.shape).double() for name, v in values.items()}
        observed, features = module.observe(x, graphs, own), module.features(x, graphs, own)
        for at in itertools.product(*map(range, draw), range(2)):
            graph, alone = graphs[at[:-1]], x[at[-1] :][:1]
            copy = mechanisms(shared_features=shared)
            mine = {name: value[at] for name, value in own.items()}
            mine["readout"] = mine.pop("observational_readout")
            copy.load_state_dict(mine)
            torch.testing.assert_close(observed[at], copy.observe(alone, graph)[0])
            torch.testing.assert_close(features[at], copy.features(alone, graph)[0])


@pytest.mark.parametrize("shared", [False, True])
def test_rows_may_be_each_draws_own(shared):
    x = torch.randn(3, 2, 5, D, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    graphs = torch.stack([random_dag(D, seed=s) for s in range(3)]).double()
    with isolated(0):
        module = mechanisms(shared_features=shared)
        observed, features = module.observe(x, graphs), module.features(x, graphs)
        for at in range(3):
            torch.testing.assert_close(observed[at], module.observe(x[at], graphs[at]))
            torch.testing.assert_close(features[at], module.features(x[at], graphs[at]))


@pytest.mark.parametrize("parts", [[], ["interventional"], ["readout", "noise"]])
def test_parts_that_are_none_are_named(parts):
    with pytest.raises(ConfigError, match=r"adapts: expected some of 'readout', .* the first amo"):
        mechanisms().shared(parts)


def test_shared_features_are_one_network_for_all_variables():
    x = torch.randn(1, 5, D, dtype=torch.double)
    same_parents = torch.zeros(D, D, dtype=torch.double)
    same_parents[0, 1:] = 1
    with isolated(0):
        shared = mechanisms(shared_features=True).features(x, same_parents)
        own = mechanisms(shared_features=False).features(x, same_parents)
    torch.testing.assert_close(shared[:, 1], shared[:, 2])
    assert not torch.allclose(own[:, 1], own[:, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty": 0.0}, r"penalty: expected a number > 0, got 0"),
        ({"penalty": float("nan")}, r"penalty: expected a number > 0, got nan"),
        ({"num_layers": 0}, r"num_layers: expected at least 1, got 0"),
        ({"width": 0}, r"width: expected at least 1, got 0"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        Mechanisms(3, **options)

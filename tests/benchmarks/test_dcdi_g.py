"""DCDI-G's score is the expectation that enumeration gives, and its graphs have no cycles."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal

from benchmarks import baselines
from benchmarks.baselines import dcdi_g
from pyro_metacadi import TaskDataset
from pyro_metacadi.simulators.graphs import erdos_renyi


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def one_row(values=(0.5, -1.0)):
    """Two tasks of the same single row in two resamples, so that it matters not which is drawn."""
    rows = torch.tensor(values).expand(2, 2, len(values))
    return dcdi_g.Rows(rows, torch.tensor([0, 0]), torch.tensor([True]))


def any_model(rows):
    """A model whose parameters are all drawn at random."""
    model = dcdi_g.DCDI(rows, generator())
    draw = generator(1)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw)
    return model


def test_the_score_is_the_expectation_over_all_edges_and_targets(monkeypatch):
    monkeypatch.setattr(dcdi_g, "BATCH_ROWS", 20_000)
    rows = one_row()
    model = any_model(rows)
    loss = model.loss(rows, generator(2)).detach()
    for draw in range(2):
        assert loss[draw] == pytest.approx(enumerated(model, rows, draw), abs=0.03)


def enumerated(model, rows, draw):
    """Loss, of all graphs and targets by their probabilities."""
    edges, hits = model.edge_probs()[draw], model.target_probs()[draw, 0]
    total = 20 * edges.sum() / 2 + 10 * hits.sum() / 2  # costs are of all rows, which are two
    for first, second, *hit in product([0.0, 1.0], repeat=4):
        graph = torch.tensor([[0, first], [second, 0]])
        chance = torch.where(graph == 1, edges, 1 - edges)[[0, 1], [1, 0]].prod()
        chance *= torch.where(torch.tensor(hit) == 1, hits, 1 - hits).prod()
        for j in range(2):
            total -= chance * density(model, rows.values[draw, 0], (draw, j), graph[:, j], hit[j])
    return total.item()


def density(model, x, at, parents, hit):
    """Log density of a variable, from its parameters one by one."""
    draw, j = at
    if hit:
        mean, log_scale = model.own_mean[draw, 0, j], model.own_log_scale[draw, 0, j]
    else:
        (first, last), (shift, offset) = model.weights, model.biases
        hidden = (x * parents) @ first[at] + shift[at][0]
        mean = torch.where(hidden > 0, hidden, 0.01 * hidden) @ last[at][:, 0] + offset[at][0, 0]
        log_scale = model.log_scale[draw, 0, j]
    return Normal(mean, dcdi_g.LEAST_SCALE + log_scale.exp()).log_prob(x[j])


def test_a_variable_without_parents_learns_whether_it_is_hit():
    """Through the mask of its parents alone, as in the authors' code, it would not."""
    rows = one_row()
    model = any_model(rows)
    model.fix_graphs(torch.zeros(2, 2, 2))
    model.own_mean.data[:] = torch.tensor([0.5, 30.0])  # the first variable's is right
    model.biases[-1].data[:] = 20.0  # of both variables' mechanisms: wrong, less so
    model.loss(rows, generator()).sum().backward()
    slope = model.target_logits.grad
    assert (slope[..., 0] < 0).all()
    assert (slope[..., 1] > 0).all()


def test_resamples_do_not_touch_each_other():
    rows = one_row()
    model = any_model(rows)
    model.loss(rows, generator())[0].backward()
    for parameter in model.parameters():
        assert parameter.grad[0].any()
        assert not parameter.grad[1].any()


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_cycle_of_two_has_the_closed_form(first, second):
    probs = torch.tensor([[[0, first], [second, 0]]], dtype=torch.float64)
    expected = np.log1p(first * second / 4)
    assert dcdi_g.log_cyclicity(probs).item() == pytest.approx(expected, abs=1e-12)


@given(st.integers(1, 7), st.integers(0, 10**6))
def test_cyclicity_is_zero_of_dags_only(num_variables, seed):
    graph = torch.tensor(erdos_renyi(num_variables, seed=seed), dtype=torch.float64)
    assert dcdi_g.log_cyclicity(graph[None]).item() == pytest.approx(0, abs=1e-9)
    both = graph + graph.T
    if graph.any():
        assert dcdi_g.log_cyclicity(both[None]).item() > 0.05


@pytest.mark.parametrize("num_tasks", [1, 3])
def test_columns_that_never_vary_and_single_tasks_are_taken(num_tasks, monkeypatch):
    monkeypatch.setattr(dcdi_g, "NUM_ROUNDS", 2)
    monkeypatch.setattr(dcdi_g, "STEPS_PER_ROUND", 20)
    monkeypatch.setattr(dcdi_g, "FINAL_STEPS", 20)
    arrays = np.random.default_rng(0).normal(size=(num_tasks, 5, 3))
    arrays[:, :, 1] = 7.0
    tasks = TaskDataset.from_arrays(arrays).declare_observational(["task1"])
    state = torch.get_rng_state()
    found = baselines.fit("dcdi_g", tasks, seed=0)
    assert torch.equal(state, torch.get_rng_state())
    assert np.isfinite(found.target_probs.values).all()
    assert not found.target_probs[0].any()
    assert (found.target_probs[1:] > 0).all()

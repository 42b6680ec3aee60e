from collections import Counter
from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_metacadi.guides import known_graph
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models.metacadi import MetaCaDIModel
from pyro_metacadi.ops.relax import adjacency_from_order
from tests.helpers import given_draws, random_dag, tiny_batch, tiny_chain, traces

D, T, F = 3, 2, 5
SITES = {
    "order_score": ((), (D,), ()),
    "edge": ((), (D, D), ()),
    "intervention_target": ((T, 1), (D,), ("tasks",)),
    "readout": ((T, 1), (D, F), ("tasks",)),
    "x": ((T, 6), (D,), ("samples", "tasks")),
}


def stochastic(trace):
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample"
        and not site["infer"].get("_deterministic")
        and type(site["fn"]).__name__ != "_Subsample"
    }


def test_sites_have_the_documented_names_order_shapes_and_plates():
    with isolated(0):
        trace = poutine.trace(tiny_chain().model).get_trace(tiny_batch())
    sites = stochastic(trace)
    assert list(sites) == list(SITES)
    for name, (batch_shape, event_shape, plates) in SITES.items():
        site = sites[name]
        assert site["fn"].batch_shape == batch_shape, name
        assert site["fn"].event_shape == event_shape, name
        assert {frame.name for frame in site["cond_indep_stack"]} == set(plates), name
    dims = {f.name: f.dim for f in sites["x"]["cond_indep_stack"]}
    assert dims == {"tasks": -2, "samples": -1}
    assert sites["x"]["is_observed"]


def test_sites_of_vectorised_draws_lie_left_of_the_plates():
    with isolated(0), given_draws(7):
        trace = poutine.trace(tiny_chain().model).get_trace(tiny_batch())
    trace.compute_log_prob()
    assert trace.nodes["edge"]["value"].shape == (7, 1, 1, D, D)
    assert trace.nodes["intervention_target"]["value"].shape == (7, T, 1, D)
    assert trace.nodes["x"]["log_prob"].shape == (7, T, 6)


def test_the_prior_over_orders_is_uniform():
    with isolated(0):
        model = tiny_chain().model
        with given_draws(6000):
            trace = poutine.trace(model.sample_graph).get_trace()
    orders = trace.nodes["order_score"]["value"].flatten(0, 2).argsort(-1, descending=True)
    counts = np.array(list(Counter(map(tuple, orders.tolist())).values()))
    assert len(counts) == 6
    # Chi-squared with five degrees of freedom: the 99.9th percentile is 20.5.
    assert ((counts - 1000) ** 2 / 1000).sum() < 20.5


def test_the_diagonal_of_the_edges_has_no_density_and_no_effect():
    batch, chain = tiny_batch(), tiny_chain()
    values = known_graph(random_dag(D, seed=1))
    changed = {**values, "edge": values["edge"] + torch.eye(D)}
    results = []
    for given in (values, changed):
        with isolated(0):
            trace = poutine.trace(pyro.condition(chain.model, given)).get_trace(batch)
        results.append(trace.log_prob_sum())
    assert results[0] == results[1]


def test_the_readout_is_not_scored_unless_asked_for():
    chain, batch = tiny_chain(), tiny_batch()
    model_trace, _ = traces(chain, batch)
    assert model_trace.nodes["readout"]["log_prob_sum"] == 0
    chain.model.score_readout = True
    model_trace, _ = traces(chain, batch)
    readout = model_trace.nodes["readout"]["value"]
    expected = dist.Normal(0.0, chain.model.mechanisms.penalty**-0.5).log_prob(readout).sum()
    torch.testing.assert_close(model_trace.nodes["readout"]["log_prob_sum"], expected)


def test_the_mean_is_equation_2_and_the_law_covers_query_rows_only():
    chain, batch = tiny_chain(), tiny_batch()
    trace, _ = traces(chain, batch, seed=4)
    value = {name: site["value"] for name, site in trace.nodes.items() if "value" in site}
    target = value["intervention_target"]
    assert 0 < target.sum() < target.numel()
    adjacency = adjacency_from_order(value["order_score"], value["edge"])
    with isolated(0):
        mechanisms = chain.model.mechanisms
        features = mechanisms.features(batch.x, adjacency)
        observational = mechanisms.observe(batch.x, adjacency)
        interventional = torch.einsum("tinf,tif->tni", features, value["readout"].squeeze(1))
    loc = torch.where(target.bool(), interventional, observational)
    per_row = dist.Normal(loc, 1.0).log_prob(batch.x).sum(-1)
    expected = torch.where(batch.mask, per_row, torch.zeros(()))
    torch.testing.assert_close(trace.nodes["x"]["log_prob"], expected)
    torch.testing.assert_close(value["residual"], batch.x - loc)
    assert (~batch.mask).any()


def test_the_target_prior_is_the_given_probability():
    trace, _ = traces(tiny_chain(target_prior=0.3), tiny_batch())
    site = trace.nodes["intervention_target"]
    hits = site["value"].sum()
    expected = hits * np.log(0.3) + (T * D - hits) * np.log(0.7)
    torch.testing.assert_close(site["log_prob_sum"], expected.float())


@pytest.mark.parametrize("seed", range(3))
def test_a_known_graph_is_the_models_graph(seed):
    adjacency = random_dag(D, seed=seed)
    with isolated(0):
        model = pyro.condition(tiny_chain().model.sample_graph, known_graph(adjacency))
        assert torch.equal(model(), adjacency)


def test_double_precision_holds_throughout():
    batch, chain = tiny_batch(dtype=torch.float64), tiny_chain()
    chain.model.double()
    chain.guide.double()
    model_trace, guide_trace = traces(chain, batch)
    assert model_trace.nodes["x"]["log_prob"].dtype == torch.float64
    assert guide_trace.log_prob_sum().dtype == torch.float64


def test_padding_changes_nothing():
    chain, batch = tiny_chain(), tiny_batch()
    disturbed = replace(
        batch,
        x=torch.where(batch.mask.unsqueeze(-1), batch.x, 100.0),
        support=torch.where(batch.support_mask.unsqueeze(-1), batch.support, 100.0),
    )
    assert not torch.equal(disturbed.x, batch.x)
    first, second = (traces(chain, b)[0].log_prob_sum() for b in (batch, disturbed))
    torch.testing.assert_close(first, second)


def test_the_model_is_built_from_its_parts_alone():
    parts = tiny_chain().model
    with isolated(0):
        model = MetaCaDIModel(
            D, mechanisms=parts.mechanisms, noise=parts.noise, graph_prior=parts.graph_prior
        )
        assert model(tiny_batch()).shape == (T, 6, D)

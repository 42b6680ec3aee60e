from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuideList, AutoNormal
from pyro.nn import PyroModule

from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.guides import (
    MAMLAdaptation,
    RidgeAdaptation,
    feature_blocks,
    known_graph,
)
from pyro_metacadi.inference.objective import ELBOObjective
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models import NegativeBinomialNoise, PostNonlinearNoise
from pyro_metacadi.ops.relax import adjacency_from_order
from tests.helpers import given_draws, random_dag, tiny_batch, tiny_chain, traces

D, T, F = 3, 2, 5
SITES = ["order_score", "edge", "intervention_target", "readout"]
SHAPES = {
    "order_score": (D,),
    "edge": (D, D),
    "intervention_target": (T, 1, D),
    "readout": (T, 1, D, F),
}


def latent(trace):
    return [
        name
        for name in trace.stochastic_nodes
        if type(trace.nodes[name]["fn"]).__name__ != "_Subsample"
    ]


def test_the_guide_has_the_models_latent_sites_in_the_models_order():
    model_trace, guide_trace = traces(tiny_chain(), tiny_batch())
    assert latent(guide_trace) == latent(model_trace) == SITES
    for name in SITES:
        site, prior = guide_trace.nodes[name]["fn"], model_trace.nodes[name]["fn"]
        assert (site.batch_shape, site.event_shape) == (prior.batch_shape, prior.event_shape)


def test_the_guide_returns_every_value_by_name():
    with isolated(0):
        values = tiny_chain().guide(tiny_batch())
    assert {name: tuple(value.shape) for name, value in values.items()} == SHAPES
    for name in ("edge", "intervention_target"):
        assert set(values[name].flatten().tolist()) <= {0.0, 1.0}


def test_target_and_readout_depend_on_the_support_rows_only():
    chain, batch = tiny_chain(), tiny_batch()
    elsewhere = replace(batch, x=batch.x + 1)
    first, second = (traces(chain, b)[1] for b in (batch, elsewhere))
    for name in SITES:
        assert torch.equal(first.nodes[name]["value"], second.nodes[name]["value"])


def test_the_plates_follow_the_batch():
    chain = tiny_chain()
    with isolated(0):
        for rows in [(9, 6), (8, 7, 6), (5,)]:
            values = chain.guide(tiny_batch(rows=rows))
            assert len(values["intervention_target"]) == len(rows)


def test_given_sites_are_hidden_and_seen_by_what_follows():
    chain, batch = tiny_chain(), tiny_batch()
    values = known_graph(random_dag(D, seed=2))
    guide = chain.guide.given(values)
    with isolated(0):
        guide_trace = poutine.trace(guide).get_trace(batch)
        model = poutine.replay(pyro.condition(chain.model, values), trace=guide_trace)
        model_trace = poutine.trace(model).get_trace(batch)
        logits, adapted = chain.guide.infer_targets(batch, **values)
    assert latent(guide_trace) == ["intervention_target", "readout"]
    assert model_trace.nodes["edge"]["is_observed"]
    assert torch.equal(
        adjacency_from_order(*(model_trace.nodes[n]["value"] for n in ("order_score", "edge"))),
        random_dag(D, seed=2),
    )
    found = guide_trace.nodes["intervention_target"]["fn"].base_dist.logits
    assert torch.equal(found.squeeze(1), logits)
    assert torch.equal(guide_trace.nodes["readout"]["value"].squeeze(1), adapted["readout"])


def test_given_readouts_reach_the_target_predictor():
    chain, batch = tiny_chain(), tiny_batch()
    graph = known_graph(random_dag(D, seed=2))
    readout = torch.randn(T, 1, D, F)
    with isolated(0):
        logits, used = chain.guide.given({"readout": readout}).infer_targets(batch, **graph)
        usual, _ = chain.guide.infer_targets(batch, **graph)
    assert torch.equal(used["readout"], readout.squeeze(1))
    assert not torch.allclose(logits, usual)


def test_given_accumulates_and_shares_the_parameters():
    chain = tiny_chain()
    first = chain.guide.given({"edge": torch.zeros(D, D)})
    second = first.given({"order_score": torch.zeros(D)})
    with isolated(0):
        assert latent(poutine.trace(second).get_trace(tiny_batch())) == SITES[2:]
        assert latent(poutine.trace(first).get_trace(tiny_batch())) == [SITES[0], *SITES[2:]]
        assert latent(poutine.trace(chain.guide).get_trace(tiny_batch())) == SITES
    own = list(chain.guide.parameters())
    assert all(a is b for a, b in zip(second.parameters(), own, strict=True))


def test_draws_at_once_equal_one_by_one():
    chain, batch = tiny_chain(), tiny_batch()
    graphs = [known_graph(random_dag(D, seed=s)) for s in range(4)]
    stacked = {k: torch.stack([g[k] for g in graphs])[:, None, None] for k in graphs[0]}
    with isolated(0):
        together, adapted = chain.guide.infer_targets(batch, **stacked)
        for index, graph in enumerate(graphs):
            logits, own = chain.guide.infer_targets(batch, **graph)
            torch.testing.assert_close(together[index], logits)
            torch.testing.assert_close(adapted["readout"][index], own["readout"])
        with given_draws(4):
            values = chain.guide.given(stacked)(batch)
    assert values["intervention_target"].shape == (4, T, 1, D)


def test_the_median_is_the_most_probable_value_of_every_site():
    chain, batch = tiny_chain(), tiny_batch()
    with isolated(0):
        median = chain.guide.median(batch)
        logits, adapted = chain.guide.infer_targets(
            batch, order_score=median["order_score"], edge=median["edge"]
        )
        dag = chain.guide.dag
        assert torch.equal(median["order_score"], dag.order_loc)
        assert torch.equal(median["edge"], (dag.edge_logits > 0).float())
    assert torch.equal(median["intervention_target"].squeeze(1), (logits > 0).float())
    assert torch.equal(median["readout"].squeeze(1), adapted["readout"])
    assert {name: tuple(value.shape) for name, value in median.items()} == SHAPES
    assert not any(value.requires_grad for value in median.values())


def test_the_median_keeps_given_values():
    values = known_graph(random_dag(D, seed=2))
    with isolated(0):
        median = tiny_chain().guide.given(values).median(tiny_batch())
    assert all(torch.equal(median[name], values[name]) for name in values)


class Offset(PyroModule):
    """A user's model: a MetaCaDI model and one more global latent."""

    def __init__(self, base):
        super().__init__()
        self.base = base

    def forward(self, batch):
        offset = pyro.sample("offset", dist.Normal(0.0, 1.0))
        return self.base(replace(batch, x=(batch.x - offset) * batch.mask.unsqueeze(-1)))


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("adaptation", [RidgeAdaptation, MAMLAdaptation])
def test_the_guide_composes_with_an_automatic_guide_of_a_users_latent(position, adaptation):
    chain, batch = tiny_chain(adaptation=adaptation), tiny_batch()
    sites = {*SITES, *chain.model.adapted_dims, "offset"}
    with isolated(0):
        model = Offset(chain.model)
        parts = [chain.guide]
        parts.insert(position, AutoNormal(poutine.block(model, expose=["offset"])))
        guide = AutoGuideList(model)
        for part in parts:
            guide.append(part)
        assert set(guide(batch)) == sites
        assert set(guide.median(batch)) == sites
        if position == 0:
            loss = ELBOObjective()(model, guide)(batch)
            loss.backward()
            assert torch.isfinite(loss)
            assert len(list(guide.parameters())) == 2 + len(list(chain.guide.parameters()))
            assert all(p.grad is not None for p in guide.parameters())


def test_the_predictor_sees_residuals_in_the_units_of_the_noise(monkeypatch):
    batch, chain, seen = tiny_batch(), tiny_chain(noise=PostNonlinearNoise), {}

    def record(support, mask, **options):
        seen.update(options, support=support)
        return feature_blocks(support, mask, **options)

    monkeypatch.setattr("pyro_metacadi.guides.metacadi.feature_blocks", record)
    with isolated(0):
        chain.guide(batch)
        response, precision = chain.model.noise.linearize(batch.support, seen["support"])
    torch.testing.assert_close(seen["support"], response)
    loc = seen["observational"]
    torch.testing.assert_close(seen["residual"](loc), (response - loc) * precision.sqrt())
    assert (response - batch.support).abs().max() > 0.01


def test_the_predictor_sees_residuals_of_counts_by_their_law(monkeypatch):
    chain, seen = tiny_chain(noise=NegativeBinomialNoise), {}
    batch = TaskBatch.from_arrays([np.array([[0.0, 5.0, 60.0], [9.0, 0.0, 0.0]])])

    def record(support, mask, **options):
        seen.update(options)
        return feature_blocks(support, mask, **options)

    monkeypatch.setattr("pyro_metacadi.guides.metacadi.feature_blocks", record)
    trace, _ = traces(chain, batch)
    noise, loc = chain.model.noise, seen["observational"]
    expected = noise.residual(batch.support, loc, None, noise.size(batch.support))
    torch.testing.assert_close(seen["residual"](loc), expected)
    # The model's site has that of its own predictions, whose law it shows.
    law, residual = trace.nodes["x"]["fn"].base_dist, trace.nodes["residual"]["value"]
    far = (batch.x - law.mean).abs() > law.stddev
    assert far.any()
    assert ((residual > 0) == (batch.x > law.mean))[far.expand_as(residual)].all()

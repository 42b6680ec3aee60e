"""Adapting by gradient steps: the paper's ablations Intv-MAML and Full-MAML."""

from dataclasses import replace
from functools import partial

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import Predictive
from torch.autograd import gradcheck

from pyro_metacadi import MetaCaDI
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.guides import Adaptation, MAMLAdaptation, MetaCaDIGuide, known_graph
from pyro_metacadi.inference.objective import ELBOObjective, PaperObjective
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models import LearnedGaussianNoise, Mechanisms, Predictions
from tests.helpers import (
    given_draws,
    random_dag,
    tiny_batch,
    tiny_chain,
    tiny_estimator,
    tiny_tasks,
    traces,
)

D, T, F = 3, 2, 5
GRAPH = random_dag(D, seed=1)
KINDS = pytest.mark.parametrize("parameters", ["interventional", "all"])


def chain_of(parameters, *, width=4, num_layers=2, dtype=torch.float32, noise=None, **options):
    """A chain in general position, and so is the start of the steps."""
    chain = tiny_chain(
        D,
        adaptation=partial(MAMLAdaptation, parameters=parameters, **options),
        mechanisms=partial(Mechanisms, width=width, num_layers=num_layers),
        **({} if noise is None else {"noise": noise}),
    )
    return chain._replace(model=chain.model.to(dtype), guide=chain.guide.to(dtype))


def adapt(chain, support, mask, graph=GRAPH):
    at = Predictions(chain.model.mechanisms, support, graph.to(support.dtype))
    return chain.guide.adaptation(chain.model, at, support, mask)


def gradients_by_hand(x, response, parents, parameters, *, factor):
    """Of half the mean squared error of one variable's one-layer network, with respect to each."""
    weight, bias, readout = parameters
    before = x @ (parents[:, None] * weight) + bias
    logistic = 1 / (1 + np.exp(-before))
    hidden = np.c_[factor * before * logistic, np.ones(len(x))]
    error = (hidden @ readout - response)[:, None] / len(x)
    slope = factor * (logistic + before * logistic * (1 - logistic)) * readout[:-1]
    return x.T @ (error * slope) * parents[:, None], (error * slope).sum(0), (error * hidden).sum(0)


@KINDS
def test_a_step_goes_down_the_gradient_written_by_hand(parameters):
    chain = chain_of(parameters, num_layers=1, num_steps=1, learning_rate=0.3, dtype=torch.double)
    batch, mechanisms = tiny_batch(dtype=torch.double), chain.model.mechanisms
    batch.support_mask[1, 2] = False
    with isolated(0):
        own = {k: v.detach() for k, v in adapt(chain, batch.support, batch.support_mask).items()}
    starts = {"interventional": chain.guide.adaptation.readout}
    if parameters == "all":
        starts["observational"] = mechanisms.readout
    readouts = {"interventional": "readout", "observational": "observational_readout"}
    assert len(own) == 3 * len(starts)
    for part, start in starts.items():
        names = [f"{part}.weights.0", f"{part}.biases.0", readouts[part]]
        network = getattr(mechanisms, part)
        before = [network.weights[0], network.biases[0], start]
        for t in range(T):
            x = batch.support[t][batch.support_mask[t]].numpy()
            for i in range(D):
                mine = [value[i].detach().numpy() for value in before]
                factor = F**-0.5 if part == "interventional" else 1.0
                parents = GRAPH[:, i].double().numpy()
                down = gradients_by_hand(x, x[:, i], parents, mine, factor=factor)
                for name, value, gradient in zip(names, mine, down, strict=True):
                    np.testing.assert_allclose(own[name][t, i], value - 0.3 * gradient, atol=1e-12)


@KINDS
def test_a_long_step_is_shortened_and_keeps_its_direction(parameters):
    batch, options = tiny_batch(dtype=torch.double), {"num_steps": 1, "learning_rate": 0.3}
    chains = {
        norm: chain_of(parameters, max_norm=norm, dtype=torch.double, **options)
        for norm in (1e9, 1e-2)
    }
    moved = {}
    for norm, chain in chains.items():
        adaptation = chain.guide.adaptation
        start = {**chain.model.mechanisms.shared(adaptation.adapts), "readout": adaptation.readout}
        with isolated(0):
            own = adapt(chain, batch.support, batch.support_mask)
        steps = [(own[name] - start[name]).detach().flatten(1) for name in own]
        moved[norm] = torch.cat(steps, 1)  # [task, all parameters]
    whole, short = moved[1e9], moved[1e-2]
    assert (whole.norm(dim=1) > 0.3e-2).all()
    np.testing.assert_allclose(short.norm(dim=1), 0.3e-2)
    np.testing.assert_allclose(
        short / short.norm(dim=1, keepdim=True), whole / whole.norm(dim=1, keepdim=True)
    )


@KINDS
@pytest.mark.parametrize("max_norm", [10.0, 0.1])
def test_the_outer_gradient_passes_through_the_steps(parameters, max_norm):
    options = {"num_steps": 2, "learning_rate": 0.2, "max_norm": max_norm}
    options |= {"noise": LearnedGaussianNoise}
    chain = chain_of(parameters, width=2, dtype=torch.double, **options)
    batch = tiny_batch(dtype=torch.double)
    leaves = [*chain.model.parameters(), *chain.guide.adaptation.parameters()]
    leaves += [batch.support.requires_grad_(), GRAPH.double().requires_grad_()]
    if parameters == "interventional":  # the others have no part in it
        leaves = [p for p in leaves if not any(p is q for q in observational(chain))]

    def ends(*leaves):
        return tuple(adapt(chain, batch.support, batch.support_mask, leaves[-1]).values())

    with isolated(0):
        assert gradcheck(ends, leaves, fast_mode=True)


def observational(chain):
    mechanisms = chain.model.mechanisms
    return [*mechanisms.observational.parameters(), mechanisms.readout]


@KINDS
def test_after_no_step_all_tasks_have_the_shared_mechanisms(parameters):
    chain, batch = chain_of(parameters, num_steps=0), tiny_batch()
    with isolated(0), torch.no_grad():
        own = adapt(chain, batch.support, batch.support_mask)
        mechanisms, start = chain.model.mechanisms, chain.guide.adaptation.readout
        features = mechanisms.features(batch.x, GRAPH)
        torch.testing.assert_close(mechanisms.features(batch.x, GRAPH, own), features)
        found = mechanisms.intervene(features, own["readout"])
        torch.testing.assert_close(found, mechanisms.intervene(features, start.expand(T, D, F)))
        torch.testing.assert_close(
            mechanisms.observe(batch.x, GRAPH, own), mechanisms.observe(batch.x, GRAPH)
        )


def lines(num_tasks, *, seed):
    """Tasks of a line of their own slope each: three rows of support, twenty to be predicted."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_tasks, 23, 2))
    x[..., 1] = rng.choice([-1.0, 1.0], (num_tasks, 1)) * x[..., 0] + 0.1 * x[..., 1]
    rows = torch.as_tensor(x, dtype=torch.float32)
    return rows[:, :3], rows[:, 3:]


def test_training_through_the_steps_makes_few_rows_suffice():
    graph = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    maml = partial(MAMLAdaptation, num_steps=3, learning_rate=0.1)
    chain = tiny_chain(2, adaptation=maml, mechanisms=partial(Mechanisms, width=16))
    adaptation, mechanisms = chain.guide.adaptation, chain.model.mechanisms

    def loss(support, query):
        own = adapt(chain, support, torch.ones(support.shape[:2], dtype=torch.bool), graph)
        features = mechanisms.features(query, graph, own)
        error = query - mechanisms.intervene(features, own["readout"])
        return error[..., 1].square().mean()

    with isolated(0):
        untrained = loss(*lines(50, seed=1)).item()
        optimiser = torch.optim.Adam([*mechanisms.parameters(), adaptation.readout], lr=0.01)
        for step in range(100):
            optimiser.zero_grad()
            loss(*lines(20, seed=100 + step)).backward()
            optimiser.step()
        trained = loss(*lines(50, seed=1)).item()
        adaptation.num_steps = 0
        shared = loss(*lines(50, seed=1)).item()
    assert trained < 0.5 * shared
    assert trained < 0.5 * untrained
    assert shared > 0.8  # no line is both


@KINDS
def test_frozen_parameters_are_adapted_as_well(parameters):
    chain, batch = chain_of(parameters), tiny_batch()
    with isolated(0):
        usual = adapt(chain, batch.support, batch.support_mask)
        chain.model.requires_grad_(False)
        chain.guide.requires_grad_(False)
        frozen = adapt(chain, batch.support, batch.support_mask)
    for name, value in usual.items():
        torch.testing.assert_close(frozen[name], value)


# In a model


@KINDS
def test_what_is_adapted_is_a_site_of_model_and_guide(parameters):
    chain, batch = chain_of(parameters), tiny_batch()
    model_trace, guide_trace = traces(chain, batch)
    own = list(chain.model.adapted_dims)
    assert {"readout", "interventional.weights.1"} <= set(own)
    assert ("observational_readout" in own) == (parameters == "all")
    for name in own:
        site, prior = guide_trace.nodes[name], model_trace.nodes[name]
        assert site["fn"].batch_shape == prior["fn"].batch_shape == (T, 1)
        assert site["fn"].event_shape == prior["fn"].event_shape
        assert site["value"] is prior["value"]
        assert prior["log_prob_sum"] == 0
    with isolated(0):
        median = chain.guide.median(batch)
    assert set(median) == {"order_score", "edge", "intervention_target", *own}
    assert not any(value.requires_grad for value in median.values())


@KINDS
@pytest.mark.parametrize("objective", [PaperObjective, ELBOObjective])
@pytest.mark.parametrize("site", [None, "readout", "interventional.weights.0"])
def test_given_sites_are_kept_and_the_rest_is_learned(parameters, objective, site):
    chain, batch = chain_of(parameters), tiny_batch()
    with isolated(0):
        values = known_graph(GRAPH)
        if site is not None:
            values[site] = chain.guide(batch)[site].detach() + 1
        model, guide = pyro.condition(chain.model, values), chain.guide.given(values)
        drawn = guide(batch)
        loss = objective().differentiable_loss(model, guide, batch)
        loss.backward()
    assert all(torch.equal(drawn[name], value) for name, value in values.items())
    gradients = {name: p.grad for name, p in chain.model.mechanisms.named_parameters()}
    assert all(g is not None and g.isfinite().all() and g.any() for g in gradients.values())
    assert chain.guide.adaptation.readout.grad.any() or site == "readout"


@KINDS
def test_draws_and_particles_at_once_equal_one_by_one(parameters):
    chain, batch = chain_of(parameters), tiny_batch()
    graphs = [known_graph(random_dag(D, seed=s)) for s in range(3)]
    stacked = {k: torch.stack([g[k] for g in graphs])[:, None, None] for k in graphs[0]}
    with isolated(0), torch.no_grad():
        logits, own = chain.guide.infer_targets(batch, **stacked)
        for index, graph in enumerate(graphs):
            alone, mine = chain.guide.infer_targets(batch, **graph)
            torch.testing.assert_close(logits[index], alone)
            for name, value in mine.items():
                torch.testing.assert_close(own[name][index], value)
        with given_draws(3):
            drawn = chain.guide.given(stacked)(batch)
            assert drawn["readout"].shape == (3, T, 1, D, F)
        many = ELBOObjective(num_particles=3, vectorize_particles=True, max_plate_nesting=2)
        assert many.differentiable_loss(chain.model, chain.guide, batch).isfinite()


@KINDS
@pytest.mark.parametrize("parallel", [False, True])
def test_draws_of_the_posterior_predictive_have_their_shapes(parameters, parallel):
    chain, batch = chain_of(parameters), tiny_batch()
    with isolated(0):
        model = pyro.poutine.uncondition(chain.model)
        draws = Predictive(model, guide=chain.guide, num_samples=4, parallel=parallel)(batch)
    assert draws["x"].shape == (4, *batch.x.shape)
    assert draws["x"].isfinite().all()


@KINDS
@pytest.mark.parametrize("grad", [False, True])
def test_some_tasks_at_a_time_are_all_at_once(parameters, grad):
    chain, batch, found = chain_of(parameters), tiny_batch(rows=(9, 6, 8)), []
    for size in (None, 2):
        with isolated(0), torch.set_grad_enabled(grad):
            loss = PaperObjective()(chain.model, chain.guide)(replace(batch, at_once=size))
            leaves = [*chain.model.parameters(), *chain.guide.parameters()]
            slopes = torch.autograd.grad(loss, leaves) if grad else ()
        found.append((loss.detach(), slopes))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@KINDS
def test_fits_learn_the_start_and_come_back_from_disk(parameters, tmp_path):
    maml, tasks = partial(MAMLAdaptation, parameters=parameters, num_steps=2), tiny_tasks()
    model = tiny_estimator(adaptation=maml).fit(tasks, progress=False)
    assert model._fit.chains[0].guide.adaptation.readout.any()
    model.save(tmp_path / "model")
    loaded = MetaCaDI.load(tmp_path / "model")
    new = tiny_tasks(rows=(5, 3), seed=4)
    together = model.adapt(new).target_probs
    assert loaded.adapt(new).target_probs.identical(together)
    alone = np.concatenate([model.adapt(new[t]).target_probs.values for t in range(2)])
    np.testing.assert_allclose(alone, together.values, atol=1e-6)
    assert np.isfinite(model.adapt(new).log_likelihood(num_draws=3)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameters": "some"}, r"parameters: expected 'interventional' or 'all', got 'some'"),
        ({"parameters": ["all"]}, r"parameters: expected .* got \['all'\]"),
        ({"num_steps": -1}, r"num_steps: expected a number >= 0, got -1"),
        ({"num_steps": 1.5}, r"num_steps: expected a number >= 0, got 1.5"),
        ({"num_steps": True}, r"num_steps: expected a number >= 0, got True"),
        ({"learning_rate": 0.0}, r"learning_rate: expected a number > 0, got 0.0"),
        ({"learning_rate": float("nan")}, r"learning_rate: expected a number > 0, got nan"),
        ({"learning_rate": "fast"}, r"learning_rate: expected a number > 0, got 'fast'"),
        ({"max_norm": 0}, r"max_norm: expected a number > 0, got 0. Try 10"),
        ({"max_norm": True}, r"max_norm: expected a number > 0, got True. Try 10"),
        ({"steps": 3}, r"adaptation: expected a class .*unexpected keyword argument 'steps'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        tiny_chain(adaptation=partial(MAMLAdaptation, **options))


def test_model_and_guide_must_adapt_the_same():
    chain = tiny_chain()
    maml = MAMLAdaptation(num_variables=D, num_features=F)
    assert isinstance(maml, Adaptation)
    parts = {"dag": chain.guide.dag, "predictor": chain.guide.predictor}
    with pytest.raises(ConfigError, match=r"adaptation: expected one that adapts \('readout',\)"):
        MetaCaDIGuide(chain.model, adaptation=maml, **parts)

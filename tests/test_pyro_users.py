"""What Pyro's users do with any model and guide works with these."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive
from pyro.infer.inspect import generate_graph_specification, get_dependencies, get_model_relations

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.guides import known_graph
from pyro_metacadi.inference.objective import ELBOObjective, PaperObjective
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models import GaussianNoise, SparseGraphPrior
from pyro_metacadi.ops.relax import adjacency_from_order
from tests.helpers import random_dag, tiny_batch, tiny_chain, tiny_estimator, tiny_tasks

D, T, F, ROWS = 3, 2, 5, 6
LATENT = ["order_score", "edge", "intervention_target", "readout"]
VALUES = {
    "edge": {"edge": torch.ones(D, D).triu(1)},
    "order_score": {"order_score": torch.tensor([0.0, 2.0, 1.0])},
    "intervention_target": {"intervention_target": torch.eye(D)[:T].unsqueeze(1)},
    "known_graph": known_graph(random_dag(D, seed=2)),
    "all that is discrete": {
        **known_graph(random_dag(D, seed=2)),
        "intervention_target": torch.eye(D)[:T].unsqueeze(1),
    },
}


@pytest.mark.parametrize("objective", [PaperObjective, ELBOObjective])
@pytest.mark.parametrize("case", VALUES)
def test_conditioning_the_model_and_giving_the_guide_the_same_trains(case, objective):
    chain, batch, values = tiny_chain(), tiny_batch(), VALUES[case]
    with isolated(0):
        model, guide = pyro.condition(chain.model, values), chain.guide.given(values)
        drawn = guide(batch)
        loss = objective()
        value = loss.differentiable_loss(model, guide, batch)
        value.backward()
    assert all(torch.equal(drawn[name], given) for name, given in values.items())
    assert torch.isfinite(value)
    assert not {f"kl_{name}" for name in values} & loss.terms.keys()
    gradients = {name: p.grad for name, p in chain.guide.named_parameters()}
    assert all(g is None or g.isfinite().all() for g in gradients.values())
    assert (gradients["dag.edge_logits"] is None) == ("edge" in values)
    if "intervention_target" not in values:
        assert gradients["predictor.embed.0.weight"].any()


def test_conditioned_values_are_scored_by_the_model_as_observations():
    chain, batch, values = tiny_chain(), tiny_batch(), VALUES["all that is discrete"]
    with isolated(0):
        trace = poutine.trace(pyro.condition(chain.model, values)).get_trace(batch)
        trace.compute_log_prob()
    assert set(trace.observation_nodes) >= {*values, "x"}
    for name, value in values.items():
        site = trace.nodes[name]
        torch.testing.assert_close(site["log_prob"], site["fn"].log_prob(value))


def test_the_relations_of_the_model_are_those_of_the_program():
    with isolated(0):
        relations = get_model_relations(tiny_chain().model, (tiny_batch(),))
        depends = get_dependencies(tiny_chain().model, (tiny_batch(),))
        nodes = generate_graph_specification(relations)["node_data"]
    assert relations["observed"] == ["residual", "x"]
    assert relations["sample_sample"]["x"] == LATENT
    assert not any(relations["sample_sample"][name] for name in LATENT)
    assert relations["plate_sample"]["tasks"] == ["intervention_target", "readout", "residual", "x"]
    assert relations["plate_sample"]["samples"] == ["residual", "x"]
    assert set(nodes) >= {*LATENT, "x"}  # what pyro.render_model draws
    assert set(depends["prior_dependencies"]["x"]) == {*LATENT, "x"}


def test_shapes_can_be_printed():
    with isolated(0):
        shapes = poutine.trace(tiny_chain().model).get_trace(tiny_batch()).format_shapes()
    lines = {line.split()[0]: line for line in shapes.splitlines() if line.split()[1] == "dist"}
    assert set(lines) >= {*LATENT, "x"}
    assert lines["edge"].split()[-3:] == ["|", str(D), str(D)]
    assert lines["x"].split()[2:] == [str(T), str(ROWS), "|", str(D)]


@pytest.mark.parametrize("parallel", [False, True])
def test_prior_predictive_draws_come_from_the_priors(parallel):
    batch = tiny_batch()
    with isolated(0):
        model = tiny_chain(graph_prior=0.3, target_prior=0.2).model
        draws = Predictive(poutine.uncondition(model), num_samples=400, parallel=parallel)(batch)
    assert draws["x"].shape[-3:] == (T, ROWS, D)
    assert len(draws["x"]) == 400
    edge = draws["edge"].reshape(400, D, D)
    off_diagonal = edge[:, ~torch.eye(D, dtype=torch.bool)]
    assert off_diagonal.mean().item() == pytest.approx(0.3, abs=0.05)
    assert draws["intervention_target"].mean().item() == pytest.approx(0.2, abs=0.05)
    assert draws["x"].isfinite().all()


@pytest.mark.parametrize("parallel", [False, True])
def test_posterior_predictive_draws_come_from_the_guide(parallel):
    chain, batch = tiny_chain(), tiny_batch()
    with isolated(0):
        model = poutine.uncondition(chain.model)
        draws = Predictive(model, guide=chain.guide, num_samples=400, parallel=parallel)(batch)
        exact = chain.guide.dag.edge_probability()
    assert draws["x"].shape == (400, T, ROWS, D)
    order, edge = draws["order_score"].reshape(400, D), draws["edge"].reshape(400, D, D)
    frequency = adjacency_from_order(order, edge).mean(0)
    assert (frequency - exact).abs().max() < 0.13
    assert draws["x"].isfinite().all()
    assert draws["x"].std() > 0.5


def test_draws_of_a_known_graph_keep_it():
    chain, batch, values = tiny_chain(), tiny_batch(), VALUES["known_graph"]
    with isolated(0):
        model = pyro.condition(poutine.uncondition(chain.model), values)
        draws = Predictive(model, guide=chain.guide.given(values), num_samples=5)(batch)
    assert draws["x"].shape == (5, T, ROWS, D)
    assert draws["intervention_target"].shape == (5, T, 1, D)


class LatentPrior(SparseGraphPrior):
    def forward(self):
        probability = pyro.sample("p", dist.Beta(1.0, 9.0)).expand(self.probability.shape)
        return dist.Bernoulli(probability).mask(self.off_diagonal).to_event(2)


class LatentNoise(GaussianNoise):
    def forward(self, loc, features):
        scale = pyro.sample("s", dist.Gamma(2.0, 2.0).expand([D]).to_event(1))
        return dist.Normal(loc, scale)


@pytest.mark.filterwarnings("ignore:Found vars in model but not guide")
@pytest.mark.parametrize("objective", ["paper", "elbo"])
@pytest.mark.parametrize(
    ("part", "site"), [({"graph_prior": LatentPrior}, "p"), ({"noise": LatentNoise}, "s")]
)
def test_a_latent_site_that_nobody_guides_is_refused(objective, part, site):
    estimator = tiny_estimator(objective=objective, **part)
    with pytest.raises(ConfigError, match=rf"guide: expected one of every latent .* '{site}'"):
        estimator.fit(tiny_tasks(), progress=False)


class LearnedPrior(SparseGraphPrior):
    def __init__(self, num_variables):
        super().__init__(num_variables)
        self.log_odds = torch.nn.Parameter(torch.zeros(()))

    def forward(self):
        logits = self.log_odds.expand(self.probability.shape)
        return dist.Bernoulli(logits=logits).mask(self.off_diagonal).to_event(2)


@pytest.mark.parametrize("objective", ["paper", "elbo"])
def test_a_parameter_of_a_prior_is_learned(objective):
    mc = tiny_estimator(graph_prior=LearnedPrior, objective=objective)
    mc.fit(tiny_tasks(), progress=False)
    assert mc.posterior._chains[0].model.graph_prior.log_odds != 0

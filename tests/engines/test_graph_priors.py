"""Fits under demands on the graph: kept in every draw, saved, loaded, refused in words."""

from functools import partial

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule

from pyro_metacadi import MetaCaDI, TaskDataset
from pyro_metacadi.errors import ConfigError, ModelFileError
from pyro_metacadi.inference.objective import ELBOObjective
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models import ExpertGraphPrior, ScaleFreeGraphPrior, SparseGraphPrior
from pyro_metacadi.ops.graphs import is_dag
from tests.helpers import evidence_estimator, tiny_batch, tiny_chain, tiny_estimator

NAMES = ["dose", "PKC", "PKA", "Raf"]
DEMANDS = partial(
    ExpertGraphPrior,
    probability=0.5,
    required=[("PKC", "Raf")],
    forbidden=[("PKA", 3)],
    tiers=[["dose"], ["PKC", "PKA", "Raf"]],
    max_indegree=2,
)


def tasks(*, names=NAMES, num_tasks=4):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(12, len(names))) for _ in range(num_tasks)]
    for t, array in enumerate(arrays):
        array[:, 3 % len(names)] += array[:, 2 % len(names)]
        array[:, t % len(names)] += 2.0
    return TaskDataset.from_arrays(arrays, variables=names)


def estimators(prior, **svi):
    return {
        "svi": tiny_estimator(graph_prior=prior, **svi),
        "evidence": evidence_estimator(graph_prior=prior),
    }


engines = pytest.mark.parametrize("engine", ["svi", "evidence"])


@engines
def test_ten_thousand_posterior_graphs_honour_every_demand(engine):
    model = estimators(DEMANDS)[engine].fit(tasks(), progress=False)
    chains = len(model._fit.chains)
    graphs = model.posterior.sample_graphs(10_000 // chains, seed=1)
    values = graphs.values.reshape(-1, 4, 4)
    assert len(values) == 10_000
    assert (graphs.sel(parent="PKC", child="Raf") == 1).all()
    assert (graphs.sel(parent="PKA", child="Raf") == 0).all()
    assert (graphs.sel(child="dose") == 0).all()
    assert (values.sum(1) <= 2).all()
    assert all(is_dag(torch.tensor(graph)) for graph in np.unique(values, axis=0))
    edges = model.posterior.edge_probs
    assert edges.sel(parent="PKC", child="Raf") == 1
    assert edges.sel(parent="PKA", child="Raf") == 0
    median = model.posterior.target_probs
    assert np.isfinite(median).all()


@engines
def test_demands_by_name_follow_the_names_of_the_tasks(engine):
    other = tasks().select(["Raf", "PKA", "dose", "PKC"])
    model = estimators(DEMANDS)[engine].fit(other, progress=False)
    edges = model.posterior.edge_probs
    assert edges.sel(parent="PKC", child="Raf") == 1
    assert (edges.sel(child="dose") == 0).all()


@engines
def test_a_model_with_demands_is_saved_and_loaded(engine, tmp_path):
    model = estimators(DEMANDS)[engine].fit(tasks(), progress=False)
    model.save(tmp_path / "model")
    again = MetaCaDI.load(tmp_path / "model")
    assert np.array_equal(model.posterior.edge_probs, again.posterior.edge_probs)
    assert np.array_equal(model.posterior.target_probs, again.posterior.target_probs)
    assert model.posterior.sample(50).identical(again.posterior.sample(50))
    again.save(tmp_path / "copy")
    for name in ("model.json", "tensors.safetensors"):
        assert (tmp_path / "model" / name).read_bytes() == (tmp_path / "copy" / name).read_bytes()


def test_edge_probabilities_say_how_they_come_about():
    free, limited = (tiny_estimator(graph_prior=prior) for prior in (0.3, DEMANDS))
    notes = [
        model.fit(tasks(), progress=False).posterior.edge_probs.attrs["note"]
        for model in (free, limited, evidence_estimator())
    ]
    assert notes[0] == "exact under the guide"
    assert notes[1] == "mean of 10000 graphs drawn from the guide with seed 0"
    assert notes[2] == "share of sampled graphs, 60 of each Markov chain"


class OwnPrior(PyroModule):
    """A user's: two blocks of variables."""

    def __init__(self, num_variables):
        super().__init__()
        probability = torch.full((num_variables, num_variables), 0.2)
        probability[: num_variables // 2, : num_variables // 2] = 0.6
        self.base = SparseGraphPrior(num_variables, probability=probability.numpy())

    @property
    def edge_log_odds(self):
        return self.base.edge_log_odds

    def forward(self):
        return self.base()


@engines
def test_a_users_own_class_is_asked_for_again_when_loading(engine, tmp_path):
    model = estimators(OwnPrior)[engine].fit(tasks(), progress=False)
    model.save(tmp_path / "model")
    with pytest.raises(ModelFileError, match=r"graph_prior is '.*OwnPrior'"):
        MetaCaDI.load(tmp_path / "model")
    again = MetaCaDI.load(tmp_path / "model", graph_prior=OwnPrior)
    assert np.array_equal(model.posterior.target_probs, again.posterior.target_probs)


@engines
def test_hubs_are_for_both_engines(engine, tmp_path):
    prior = partial(ScaleFreeGraphPrior, exponent=1.5)
    model = estimators(prior, objective="elbo")[engine].fit(tasks(), progress=False)
    edges = model.posterior.edge_probs
    assert np.isfinite(model.history["kl_edge" if engine == "svi" else "loss"]).all()
    assert 0 < float(edges.max()) <= 1
    model.save(tmp_path / "model")
    assert edges.equals(MetaCaDI.load(tmp_path / "model").posterior.edge_probs)


class Related(PyroModule):
    """A user's without edge_log_odds: PKA and PKC have the same children, or nearly."""

    def __init__(self, num_variables):
        super().__init__()
        self.constraints = DEMANDS(num_variables, variables=NAMES).constraints

    def forward(self):
        return RelatedRows(validate_args=False, event_shape=torch.Size([4, 4])).mask(True)


class RelatedRows(dist.TorchDistribution):
    arg_constraints = {}  # noqa: RUF012

    def sample(self, sample_shape=()):
        return torch.bernoulli(torch.full((*sample_shape, *self.event_shape), 0.4))

    def log_prob(self, value):
        return -2.0 * (value[..., 1, 3:] - value[..., 2, 3:]).abs().sum(-1)


def test_a_users_law_of_edges_and_its_demands_hold_in_the_evidence_engine():
    model = evidence_estimator(graph_prior=Related).fit(tasks(), progress=False)
    graphs = model.posterior.sample_graphs(500, seed=1)
    assert (graphs.sel(parent="PKC", child="Raf") == 1).all()
    assert (graphs.sel(parent="PKA", child="Raf") == 0).all()
    assert (graphs.sel(child="dose") == 0).all()


class OddsOnDemand(SparseGraphPrior):
    def edge_log_odds(self):
        return torch.logit(self.probability)


def test_odds_that_are_no_property_are_named():
    with pytest.raises(ConfigError, match=r"edge_log_odds, a tensor \[4, 4\], .* a property"):
        evidence_estimator(graph_prior=OddsOnDemand).fit(tasks(), progress=False)


class Returns(PyroModule):
    """A prior that returns what it is told to."""

    def __init__(self, num_variables, *, law):
        super().__init__()
        self.law = law

    def forward(self):
        return self.law


def half(*shape):
    return dist.Bernoulli(torch.full(shape, 0.5))


class Unsampled(dist.TorchDistribution):
    arg_constraints = {}  # noqa: RUF012


BAD_LAWS = [
    (half(3, 3).to_event(2), r"event shape \[4, 4\] .* got \[3, 3\] and \[\]"),
    (half(4, 4), r"got \[\] and \[4, 4\]. End with .to_event\(2\)"),
    (torch.zeros(4, 4), r"a law of pyro.distributions, got torch.Tensor. Return the law"),
    (torch.distributions.Normal(0.0, 1.0), r"a law of pyro.distributions, got torch\."),
    (dist.Beta(torch.ones(4, 4), 1.0).to_event(2), r"a law of 0/1 edges, got draws such as 0\."),
    (Unsampled(event_shape=torch.Size([4, 4])), r"can be sampled, got Unsampled .*Write `sample`"),
    (
        dist.Bernoulli(torch.full((4, 4), torch.nan), validate_args=False).to_event(2),
        r"or correct the probabilities",
    ),
]


@engines
@pytest.mark.parametrize(("law", "message"), BAD_LAWS)
def test_a_prior_that_is_no_law_of_edges_is_named_before_anything_is_computed(engine, law, message):
    model = estimators(partial(Returns, law=law))[engine]
    with pytest.raises(ConfigError, match=f"graph_prior Returns: expected .*{message}"):
        model.fit(tasks(), progress=False)


@engines
def test_constraints_of_another_kind_are_named(engine):
    class Demanding(SparseGraphPrior):
        constraints = {"required": [(0, 1)]}  # noqa: RUF012

    with pytest.raises(ConfigError, match=r"expected constraints, a GraphConstraints, got \{"):
        estimators(Demanding)[engine].fit(tasks(), progress=False)


class Infinite(SparseGraphPrior):
    @property
    def edge_log_odds(self):
        return torch.full_like(self.probability, torch.inf)


class Misspelt(SparseGraphPrior):
    @property
    def edge_log_odds(self):
        return torch.logit(self.probabilities)


class Uncertain(SparseGraphPrior):
    def forward(self):
        pyro.sample("density", dist.Beta(1.0, 1.0))
        return super().forward()


class UncertainGivenTheOrder(ScaleFreeGraphPrior):
    def given_order(self, order_score):
        pyro.sample("density", dist.Beta(1.0, 1.0))
        return super().forward()


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (Infinite, r"finite edge_log_odds, got inf at \[0, 1\] of Infinite. Say in `constraints`"),
        (Misspelt, r"edge_log_odds of Misspelt, got AttributeError"),
        (Uncertain, r"latent sites 'density' of Uncertain"),
        (UncertainGivenTheOrder, r"latent sites 'density' of UncertainGivenTheOrder"),
    ],
)
def test_what_the_evidence_engine_cannot_use_of_a_prior_is_named(prior, message):
    with pytest.raises(ConfigError, match=message):
        evidence_estimator(graph_prior=prior).fit(tasks(), progress=False)


@engines
def test_labelled_tables_are_refused_for_they_are_read_by_position(engine):
    table = pd.DataFrame(np.full((4, 4), 0.2), index=NAMES[::-1], columns=NAMES[::-1])
    with pytest.raises(ConfigError, match=r"plain matrix .* labelled DataFrame"):
        estimators(table)[engine]


BAD_FITS = [
    ({"required": [("PKC", "Rav")]}, r"required: .* got 'Rav'. Did you mean 'Raf'"),
    ({"required": [("PKC", "Raf"), ("Raf", "PKC")]}, r"without a cycle, got (PKC|Raf) ->"),
    ({"bogus": 1}, r"graph_prior: expected a class that is built from 1 sizes"),
    ({"probability": np.full((2, 2), 0.5)}, r"matrix \[4, 4\]"),
]


@engines
@pytest.mark.parametrize(("options", "message"), BAD_FITS)
def test_bad_demands_are_named_when_fitting(engine, options, message):
    model = estimators(partial(ExpertGraphPrior, **options))[engine]
    with pytest.raises(ConfigError, match=message):
        model.fit(tasks(), progress=False)


def test_parts_that_are_no_priors_are_named():
    for choice, message in (
        (SparseGraphPrior(4), r"graph_prior: .* Pass the class, not an instance"),
        (dict, r"graph_prior: expected a class that is built from 1 sizes"),
        (lambda d: None, r"graph_prior: expected a factory of GraphPrior parts"),
    ):
        with pytest.raises(ConfigError, match=message):
            evidence_estimator(graph_prior=choice).fit(tasks(), progress=False)


def test_more_required_parents_than_can_be_summed_over_are_named():
    names = [f"V{i}" for i in range(18)]
    prior = partial(ExpertGraphPrior, required=[(i, 17) for i in range(17)])
    for choice in (prior, np.eye(18)[[17] * 18] * (np.arange(18) < 17)[:, None]):
        with pytest.raises(ConfigError, match=r"at most 16 required parents .* got 17 of 'V17'"):
            evidence_estimator(graph_prior=choice).fit(tasks(names=names), progress=False)


@engines
def test_many_required_parents_and_no_parents_at_all_are_honoured(engine):
    names = [f"V{i}" for i in range(13)]
    many = partial(ExpertGraphPrior, required=[(i, "V12") for i in range(12)])
    model = estimators(many)[engine].fit(tasks(names=names, num_tasks=3), progress=False)
    assert (model.posterior.sample_graphs(20).sel(child="V12")[..., :12] == 1).all()
    none = estimators(partial(ExpertGraphPrior, max_indegree=0))[engine]
    assert not none.fit(tasks(), progress=False).posterior.sample_graphs(20).any()


@engines
@pytest.mark.filterwarnings("ignore:variables. expected two or more:UserWarning")
def test_a_prior_of_one_variable_is_no_obstacle(engine):
    prior = partial(ExpertGraphPrior, tiers=[["V"]], max_indegree=0)
    model = estimators(prior)[engine].fit(tasks(names=["V"]), progress=False)
    assert not model.posterior.edge_probs.any()


def test_a_matrix_of_certain_edges_is_honoured_by_the_svi_engine_too():
    matrix = np.full((4, 4), 0.3)
    matrix[1, 3], matrix[0, 2] = 1, 0
    model = tiny_estimator(graph_prior=matrix).fit(tasks(), progress=False)
    edges = model.posterior.edge_probs.values
    assert edges[1, 3] == 1
    assert edges[0, 2] == 0


@pytest.mark.parametrize("order_kl", ["gumbel", "plackett_luce"])
@pytest.mark.parametrize("prior", [DEMANDS, ScaleFreeGraphPrior], ids=["expert", "hubs"])
def test_every_divergence_of_the_graph_is_finite_and_differentiable(prior, order_kl):
    named = partial(prior, variables=NAMES) if prior is DEMANDS else prior
    with isolated(0):
        chain = tiny_chain(4, graph_prior=named)
        batch = tiny_batch(num_variables=4)
        objective = ELBOObjective(
            order_kl=order_kl, num_particles=3, vectorize_particles=True, max_plate_nesting=2
        )
        loss = objective(chain.model, chain.guide)(batch)
        loss.backward()
        dag = chain.guide.dag
    assert torch.isfinite(loss)
    assert objective.terms["kl_edge"] >= 0
    for parameter in (dag.order_loc, dag.edge_logits):
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()
    if prior is DEMANDS:
        free = chain.model.graph_prior.constraints.free
        assert not dag.edge_logits.grad[~free].any()


def test_the_most_probable_graph_honours_the_limit_too():
    chain = tiny_chain(4, graph_prior=partial(DEMANDS, variables=NAMES))
    with isolated(0), torch.no_grad():
        chain.guide.dag.edge_logits.fill_(3.0)
        median = chain.guide.median(tiny_batch(num_variables=4))
        adjacency = chain.model.adjacency(median["order_score"], median["edge"])
    assert (adjacency.sum(0) <= 2).all()
    assert adjacency[1, 3] == 1

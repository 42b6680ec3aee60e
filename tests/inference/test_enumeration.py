"""The expected ELBO against sums over every order, edge set and target set of a tiny model."""

import itertools
from functools import cache

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine

from pyro_metacadi.inference.objective import ELBOObjective
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models.metacadi import MetaCaDIModel
from tests.helpers import given_draws, tiny_batch, tiny_chain

D, T = 3, 2
GRAPH_PRIOR, TARGET_PRIOR = 0.2, 0.1
PARTICLES, REPEATS = 400, 25


def softmax_chain(location, order):
    """Plackett-Luce probability of an order: each next variable by softmax among the rest."""
    weights = np.exp(location[list(order)])
    return np.prod([weights[k] / weights[k:].sum() for k in range(len(weights))])


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def bernoulli_kl(q, p):
    return q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))


@cache
def chain():
    return tiny_chain(graph_prior=GRAPH_PRIOR, target_prior=TARGET_PRIOR)


def every_graph():
    """Order scores, edges and probability of all 6 x 64 pairs of an order and an edge set."""
    dag = chain().guide.dag
    location = dag.order_loc.detach().double().numpy()
    probability = sigmoid(dag.edge_logits.detach().double().numpy())
    pairs = [(i, j) for i in range(D) for j in range(D) if i != j]
    scores, edges, weights = [], [], []
    for order in itertools.permutations(range(D)):
        for chosen in itertools.product([0, 1], repeat=len(pairs)):
            score, edge, weight = np.empty(D), np.zeros((D, D)), softmax_chain(location, order)
            score[list(order)] = -np.arange(D)
            for (i, j), present in zip(pairs, chosen, strict=True):
                edge[i, j] = present
                weight *= probability[i, j] if present else 1 - probability[i, j]
            scores.append(score)
            edges.append(edge)
            weights.append(weight)
    as_tensor = (torch.tensor(np.array(v), dtype=torch.float32) for v in (scores, edges))
    return (*as_tensor, np.array(weights))


@torch.no_grad()
def log_likelihood(scores, edges, targets, readouts):
    """Log density of the data for stacked values of every latent site."""
    values = {
        "order_score": scores[:, None, None],
        "edge": edges[:, None, None],
        "intervention_target": targets.unsqueeze(-2),
        "readout": readouts.unsqueeze(-3),
    }
    with isolated(0), given_draws(len(scores)):
        trace = poutine.trace(pyro.condition(chain().model, values)).get_trace(tiny_batch())
    trace.compute_log_prob()
    return trace.nodes["x"]["log_prob"].sum((-1, -2)).double().numpy()


@cache
def exact():
    """Expectation of every term of the ELBO by enumeration."""
    scores, edges, weights = every_graph()
    with isolated(0), torch.no_grad():
        logits, adapted = chain().guide.infer_targets(
            tiny_batch(), order_score=scores[:, None, None], edge=edges[:, None, None]
        )
    hit = sigmoid(logits.double().numpy())
    reconstruction, mass = 0.0, 0.0
    for chosen in itertools.product([0.0, 1.0], repeat=T * D):
        target = np.array(chosen).reshape(T, D)
        probability = weights * np.where(target, hit, 1 - hit).prod((-1, -2))
        targets = torch.tensor(target, dtype=torch.float32).expand(len(scores), T, D)
        reconstruction -= probability @ log_likelihood(scores, edges, targets, adapted["readout"])
        mass += probability.sum()
    dag = chain().guide.dag
    location = dag.order_loc.detach().double().numpy()
    q_edge = sigmoid(dag.edge_logits.detach().double().numpy())[~np.eye(D, dtype=bool)]
    q_order = np.array(
        [softmax_chain(location, order) for order in itertools.permutations(range(D))]
    )
    return {
        "mass": mass,
        "x": reconstruction,
        "kl_order": (q_order * np.log(6 * q_order)).sum(),
        "kl_order_score": (location + np.exp(-location) - 1).sum(),
        "kl_edge": bernoulli_kl(q_edge, GRAPH_PRIOR).sum(),
        "kl_intervention_target": weights @ bernoulli_kl(hit, TARGET_PRIOR).sum((-1, -2)),
        "kl_readout": 0.0,
    }


@cache
def estimated(order_kl):
    """Mean and standard error of every term over many draws."""
    objective = ELBOObjective(
        order_kl=order_kl,
        num_particles=PARTICLES,
        vectorize_particles=True,
        max_plate_nesting=2,
    )
    results = []
    with isolated(7), torch.no_grad():
        for _ in range(REPEATS):
            objective.differentiable_loss(chain().model, chain().guide, tiny_batch())
            results.append({k: v.item() / PARTICLES for k, v in objective.terms.items()})
    table = {name: np.array([r[name] for r in results]) for name in results[0]}
    return {k: (v.mean(), v.std(ddof=1) / np.sqrt(REPEATS)) for k, v in table.items()}


def test_the_enumeration_is_complete():
    assert exact()["mass"] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("order_kl", ["gumbel", "plackett_luce"])
def test_every_term_of_the_elbo_has_its_exact_expectation(order_kl):
    terms = estimated(order_kl)
    assert ("kl_order" in terms) == (order_kl == "plackett_luce")
    for name, (mean, error) in terms.items():
        assert abs(mean - exact()[name]) <= 5 * error + 1e-5, name


def test_the_kl_of_scores_bounds_the_kl_of_orders():
    assert exact()["kl_order"] < exact()["kl_order_score"]


# A user's prior in which targets depend on the graph


class CausesAreTargets(MetaCaDIModel):
    """Variables with children are hit more often."""

    def sample_graph(self):
        self.graph = super().sample_graph()
        return self.graph

    def _target_prior(self, batch):
        has_children = self.graph.amax(-1).unsqueeze(-2).unsqueeze(-2)
        return pyro.distributions.Bernoulli(0.1 + 0.5 * has_children).to_event(1)


def test_targets_that_depend_on_the_graph_have_their_exact_divergence():
    parts = chain().model
    with isolated(0):
        model = CausesAreTargets(
            D, mechanisms=parts.mechanisms, noise=parts.noise, graph_prior=parts.graph_prior
        )
        scores, edges, weights = every_graph()
        logits, _ = chain().guide.infer_targets(
            tiny_batch(), order_score=scores[:, None, None], edge=edges[:, None, None]
        )
    graphs = model.adjacency(scores, edges).numpy()
    prior = (0.1 + 0.5 * graphs.max(-1))[:, None]
    exact = weights @ bernoulli_kl(sigmoid(logits.detach().double().numpy()), prior).sum((-1, -2))
    objective = ELBOObjective(
        num_particles=PARTICLES, vectorize_particles=True, max_plate_nesting=2
    )
    found = []
    with isolated(7), torch.no_grad():
        for _ in range(REPEATS):
            objective.differentiable_loss(model, chain().guide, tiny_batch())
            found.append(objective.terms["kl_intervention_target"].item() / PARTICLES)
    assert abs(np.mean(found) - exact) <= 5 * np.std(found, ddof=1) / np.sqrt(REPEATS) + 1e-5

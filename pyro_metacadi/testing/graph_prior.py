"""`check_graph_prior`: whether a graph prior is a law over 0/1 edges that both engines can use."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyro
import torch
from torch import Tensor

from pyro_metacadi.data.names import check_names
from pyro_metacadi.guides.dag import DAGGuide
from pyro_metacadi.inference.objective import ELBOObjective
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models.prior_checks import checked_odds, says_odds
from pyro_metacadi.models.priors import (
    GraphPrior,
    constraints_of,
    law_given_order,
    sample_order_and_edges,
)
from pyro_metacadi.ops.constraints import constrained_adjacency
from pyro_metacadi.ops.graphs import is_dag
from pyro_metacadi.testing.laws import (
    built,
    close,
    empty_store,
    finite_gradients,
    no_latent_sites,
    pyro_law,
    require,
    shaped,
)

__all__ = ["check_graph_prior"]

NUM_DRAWS = 4000
ENUMERATED = 3
WRONG_MASS, WRONG_SHARE = 1e-3, 0.05

MASK_FIX = "Mask pairs that are not free, such as the diagonal: law.mask(free).to_event(2)."
ODDS_FIX = "Give log p - log(1 - p), as a property."


def check_graph_prior(
    factory: Callable[..., Any],
    *,
    num_variables: int = 5,
    variables: Sequence[str] | None = None,
    seed: int = 0,
) -> None:
    """Check a graph prior without latent sites of its own; takes a second.

    It is built from the number of variables; draws are 0/1 matrices ``[parent, child]`` of finite
    mass and make DAGs; the diagonal has no density; for three variables the masses of all sets of
    edges sum to one, and draws follow them; the ELBO's divergence and its gradient are finite;
    `edge_log_odds` and `graph_log_prob`, if there are any, are those of the law; Pyro's global
    store stays empty.

    Args:
        factory: Called as ``factory(num_variables)``, with 3 and with `num_variables`; if it has an
            argument `variables`, with the names of so many.
        num_variables: d, unless there are `variables`.
        variables: Names of d variables, in place of X1, X2, ...; the first three stand for three.
        seed: Of what is random.

    Raises:
        DataError: The `variables` are not names, or fewer than three.
        ConformanceError: A law is broken.
    """
    sized = num_variables if variables is None else len(variables)
    count = max(ENUMERATED, sized)
    names = check_names(variables, what="variables", count=count, default="X")

    def make(d: int) -> Any:
        return built("graph_prior", factory, GraphPrior, d, seed=seed, variables=names[:d])

    for d in (ENUMERATED, sized):
        prior = make(d)
        with empty_store("graph_prior"), isolated(seed):
            _check_draws(prior, d)
            _check_divergence(prior, d)
    prior = make(ENUMERATED)
    with empty_store("graph_prior"), isolated(seed), torch.no_grad():
        for order_score in _orders(prior):
            _check_masses(prior, order_score)
            if says_odds(prior):
                _check_odds(prior, order_score)
            if getattr(prior, "graph_log_prob", None) is not None:
                _check_graph_masses(prior, order_score)


def _check_draws(prior: Any, d: int) -> None:
    law = prior()
    pyro_law(law, "graph_prior: law of edge")
    require(
        (list(law.batch_shape), list(law.event_shape)) == ([], [d, d]),
        "graph_prior: shape of the law",
        rule=f"no batch shape and event shape {[d, d]}",
        got=f"{list(law.batch_shape)} and {list(law.event_shape)}",
        fix="End with .to_event(2).",
    )
    no_latent_sites("graph_prior", law_given_order, prior, torch.zeros(d))
    with torch.no_grad(), pyro.plate("draws", 20, dim=-3):
        order_score, edge = sample_order_and_edges(prior, torch.zeros(d))
        order_score, edge = (v.reshape(20, *v.shape[3:]) for v in (order_score, edge))
        adjacency = constrained_adjacency(constraints_of(prior), order_score, edge=edge)
    require(
        ((edge == 0) | (edge == 1)).all(),
        "graph_prior: draws",
        rule="only 0 and 1",
        got="others",
        fix="Give a law of 0/1 edges, such as a Bernoulli.",
    )
    require(
        all(is_dag(graph) for graph in adjacency) and not adjacency.diagonal(0, -2, -1).any(),
        "graph_prior: graphs of draws",
        rule="no cycles",
        got="one",
        fix="Give constraints as a GraphConstraints.",
    )
    shaped(
        law_given_order(prior, order_score[0]).log_prob(edge[0]),
        (),
        "graph_prior: log_prob of a draw",
        fix="Give every draw a finite mass.",
    )


def _check_divergence(prior: Any, d: int) -> None:
    dag = DAGGuide(d, constraints=constraints_of(prior))
    with torch.no_grad():
        dag.edge_logits.normal_()

    def guide() -> None:
        order_score = pyro.sample("order_score", dag.order())
        pyro.sample("edge", dag.edge(order_score))

    loss = ELBOObjective().differentiable_loss(
        lambda: sample_order_and_edges(prior, torch.zeros(d)), guide
    )
    what = "graph_prior: divergence of a guide from it"
    shaped(loss, (), what, fix="Give all that the guide can draw a finite mass: " + MASK_FIX)
    finite_gradients(loss, dag, what)


def _every_edge_set(prior: Any) -> Tensor:
    """All values of the free edges; the others are as they must be, or 0."""
    demands = constraints_of(prior)
    free = ~torch.eye(ENUMERATED, dtype=torch.bool) if demands is None else demands.free
    choices = list(itertools.product([0.0, 1.0], repeat=int(free.sum())))
    edges = torch.zeros(len(choices), ENUMERATED, ENUMERATED)
    if demands is not None:
        edges = edges + demands.required
    edges[:, free] = torch.tensor(choices)
    return edges


def _orders(prior: Any) -> Iterator[Tensor]:
    """Scores of every order that the prior's demands allow."""
    demands = constraints_of(prior)
    for order in itertools.permutations(range(ENUMERATED)):
        order_score = torch.tensor(order, dtype=torch.float32)
        backward = order_score.unsqueeze(-1) < order_score
        prescribed = None if demands is None else demands.prescribed
        if prescribed is None or not (prescribed.before & backward).any():
            yield order_score


def _check_masses(prior: Any, order_score: Tensor) -> None:
    edges, law = _every_edge_set(prior), law_given_order(prior, order_score)
    close(
        law.log_prob(edges),
        law.log_prob(edges + torch.eye(ENUMERATED)),
        "graph_prior: log_prob with a diagonal of ones",
        rule="that without",
        fix=MASK_FIX,
    )
    mass = law.log_prob(edges).double().exp()
    require(
        (mass.sum() - 1).abs() < WRONG_MASS,
        "graph_prior: masses of all sets of free edges of three variables",
        rule="a sum of 1",
        got=f"{mass.sum():.4f}",
        fix="Normalise the law over the free edges. " + MASK_FIX,
    )
    drawn = law.sample(torch.Size([NUM_DRAWS])).to(edges.dtype)
    varied = edges.std(0) > 0  # the free ones
    equal = (drawn.unsqueeze(1) == edges) | ~varied
    share = equal.all(-1).all(-1).double().mean(0)
    distance = (share - mass).abs().max()
    require(
        distance < WRONG_SHARE,
        "graph_prior: shares of draws against masses",
        rule=f"differences below {WRONG_SHARE}",
        got=f"{distance:.3f}",
        fix="Let sample and log_prob speak of one law.",
    )


def _check_odds(prior: Any, order_score: Tensor) -> None:
    odds = checked_odds(prior, ENUMERATED).to(order_score)
    edges, law = _every_edge_set(prior), law_given_order(prior, order_score)
    none, log_prob = edges[0], law.log_prob(edges)
    single = (edges - none).sum((-1, -2)) == 1
    expected = ((edges - none) * odds).sum((-1, -2))[single]
    allowed = log_prob[single].isfinite()
    close(
        (log_prob[single] - log_prob[0])[allowed],
        expected[allowed],
        "graph_prior: what a single edge adds to log_prob",
        rule="its edge_log_odds, in every order",
        fix=ODDS_FIX + " Leave them out if the law is no product, or depends on the order.",
    )


def _check_graph_masses(prior: Any, order_score: Tensor) -> None:
    forward = order_score.unsqueeze(-1) > order_score
    edges = _every_edge_set(prior)
    mass = law_given_order(prior, order_score).log_prob(edges).double().exp()
    graphs, of = (edges * forward).unique(dim=0, return_inverse=True)
    # As the engine asks: of several chains and draws.
    found = prior.graph_log_prob(
        graphs.expand(2, *graphs.shape), order_score.expand(2, len(graphs), -1)
    )
    shaped(
        found, (2, len(graphs)), "graph_prior: graph_log_prob", fix="Sum over the last axes only."
    )
    close(
        found[0].double().exp(),
        mass.new_zeros(len(graphs)).index_add(0, of, mass),
        "graph_prior: exp(graph_log_prob) of graphs of three variables",
        rule="the masses of all edges with that graph, summed",
        fix="Sum over edges against the order, or leave graph_log_prob out.",
    )

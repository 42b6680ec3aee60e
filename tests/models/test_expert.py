"""Demands on graphs: the law of both engines against sums over every order and graph."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch

from pyro_metacadi.distributions import PlackettLuce
from pyro_metacadi.engines.evidence_options import EvidenceOptions
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.candidates import score_table
from pyro_metacadi.inference.graph_score import CERTAIN, GraphScore
from pyro_metacadi.inference.order_mcmc import sample_graphs
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models import ExpertGraphPrior, FamilyGraphPrior, GraphPrior
from pyro_metacadi.models.families import families_of
from pyro_metacadi.ops.graphs import is_dag
from tests.helpers import given_draws, tiny_chain

NAMES = ("A", "B", "C", "D")
ASYMMETRIC = np.array(
    [[0.5, 0.9, 0.2, 0.3], [0.1, 0.5, 0.7, 0.4], [0.6, 0.2, 0.5, 0.8], [0.3, 0.3, 0.1, 0.5]]
)
ONE_LAW = {
    "nothing": {"probability": 0.3},
    "three variables": {"d": 3, "probability": 0.3, "required": [("B", "A")]},
    "tiers": {"probability": 0.3, "tiers": [["D"], ["A", "B"], ["C"]]},
    "required": {"probability": 0.4, "required": [("A", "B"), ("B", "D")]},
    "one parent": {"probability": 0.6, "max_indegree": 1},
    "tiers and two parents": {
        "probability": 0.5,
        "tiers": [["D", "B"], ["A", "C"]],
        "max_indegree": 2,
        "required": [("A", "C")],
    },
    "forbidden both ways": {"probability": 0.4, "forbidden": [("A", "B"), ("B", "A")]},
    "other probabilities across tiers": {
        "probability": np.where(np.add.outer([0, 0, 1, 1], [0, 0, 1, 1]) == 1, ASYMMETRIC, 0.4),
        "tiers": [["A", "B"], ["C", "D"]],
    },
}
TWO_LAWS = {
    "a matrix": {"probability": ASYMMETRIC},
    "a matrix and one parent": {"probability": ASYMMETRIC, "max_indegree": 1},
    "forbidden one way": {"probability": 0.4, "forbidden": [("A", "B"), ("C", "B")]},
    "two required parents": {"probability": 0.4, "required": [("A", "C"), ("B", "C")]},
    "all at once": {
        "probability": ASYMMETRIC,
        "tiers": [["D", "B"], ["A", "C"]],
        "required": [("D", "A"), ("A", "C")],
        "forbidden": [("B", "C")],
        "max_indegree": 2,
    },
}
CASES = {**ONE_LAW, **TWO_LAWS}


def prior_of(d=4, **options):
    return ExpertGraphPrior(d, variables=NAMES[:d], **options)


def code_of(graph):
    return np.asarray(graph).astype(np.int8).tobytes()


class Reference:
    """What the demands mean, worked out for every order and graph."""

    def __init__(self, d=4, *, probability, tiers=None, required=(), forbidden=(), max_indegree=9):
        self.d, self.limit = d, max_indegree
        p = np.broadcast_to(np.asarray(probability, dtype=float), (d, d))
        self.odds = p / (1 - p)
        self.required = {(NAMES.index(i), NAMES.index(j)) for i, j in required}
        self.forbidden = {(NAMES.index(i), NAMES.index(j)) for i, j in forbidden}
        tiers = tiers or [NAMES[:d]]
        self.tier = {NAMES.index(v): t for t, names in enumerate(tiers) for v in names}

    def orders(self):
        for order in itertools.permutations(range(self.d)):
            at = {v: k for k, v in enumerate(order)}
            pairs = itertools.permutations(range(self.d), 2)
            if all(at[i] < at[j] for i, j in pairs if self.first(i, j)):
                yield order

    def first(self, i, j):
        return (i, j) in self.required or self.tier[i] < self.tier[j]

    def families(self, order, child):
        """Weights of the sets of parents that an order allows."""
        earlier = [i for i in order[: order.index(child)] if (i, child) not in self.forbidden]
        for size in range(min(self.limit, len(earlier)) + 1):
            for parents in itertools.combinations(earlier, size):
                if all(i in parents for i, j in self.required if j == child):
                    free = [i for i in parents if (i, child) not in self.required]
                    yield parents, np.prod([self.odds[i, child] for i in free])

    def law(self, *, orders_weighted):
        """Mass of every graph; orders count alike, or by the graphs that they allow."""
        mass = {}
        for order in self.orders():
            choices = [list(self.families(order, child)) for child in range(self.d)]
            total = np.prod([sum(w for _, w in choice) for choice in choices])
            for chosen in itertools.product(*choices):
                graph = np.zeros((self.d, self.d))
                for child, (parents, _) in enumerate(chosen):
                    graph[list(parents), child] = 1
                weight = np.prod([w for _, w in chosen]) / (1 if orders_weighted else total)
                mass[code_of(graph)] = mass.get(code_of(graph), 0.0) + weight
        whole = sum(mass.values())
        return {graph: weight / whole for graph, weight in mass.items()}


def implemented_law(prior):
    """Mass of every graph by the sites' own laws: every order, every set of free edges."""
    demands, law = prior.constraints, {}
    d = len(demands.required)
    free = torch.nonzero(demands.free)
    edges = torch.zeros(2 ** len(free), d, d)
    edges[:, free[:, 0], free[:, 1]] = torch.tensor(
        list(itertools.product([0.0, 1.0], repeat=len(free)))
    )
    orders = torch.tensor(list(itertools.permutations(range(d))))
    log_order = PlackettLuce(demands.order_loc, prescribed=demands.prescribed).log_prob(orders)
    for order, log_mass in zip(orders, log_order, strict=True):
        if log_mass == -torch.inf:
            continue
        score = -4.0 * order.argsort()
        mass = (log_mass + prior.given_order(score).log_prob(edges)).double().exp()
        graphs = demands.adjacency(score.expand(len(edges), d), edges)
        for graph, weight in zip(graphs, mass.tolist(), strict=True):
            law[code_of(graph)] = law.get(code_of(graph), 0.0) + weight
    return {graph: weight for graph, weight in law.items() if weight > 0}


def distance(first, second):
    """Total variation."""
    graphs = first.keys() | second.keys()
    return 0.5 * sum(abs(first.get(g, 0.0) - second.get(g, 0.0)) for g in graphs)


def frequencies(draws):
    graphs, counts = np.unique(draws, axis=0, return_counts=True)
    return {code_of(g): c / counts.sum() for g, c in zip(graphs, counts, strict=True)}


@pytest.mark.parametrize("case", ONE_LAW)
def test_the_program_has_the_law_that_enumeration_gives(case):
    found = implemented_law(prior_of(**CASES[case]))
    expected = Reference(**CASES[case]).law(orders_weighted=False)
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)
    assert found.keys() == expected.keys()
    assert distance(found, expected) < 1e-5


@pytest.mark.parametrize("case", TWO_LAWS)
def test_with_probabilities_of_their_own_orders_still_count_alike(case):
    found = implemented_law(prior_of(**CASES[case]))
    expected = Reference(**CASES[case]).law(orders_weighted=False)
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)
    assert found.keys() == expected.keys()
    # Orders of two parents required by one child are not quite equally probable.
    assert distance(found, expected) < (0.1 if case == "two required parents" else 1e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_chain_has_the_law_that_enumeration_gives(case):
    options = CASES[case]
    names = NAMES[: options.get("d", 4)]
    factory = partial(ExpertGraphPrior, **{k: v for k, v in options.items() if k != "d"})
    odds = EvidenceOptions.checked(factory, None, None).graph_odds(names)
    score = GraphScore(lambda f: [0.0] * len(f), odds.edge_log_odds, None, odds.max_indegree)
    families = families_of(torch.tensor(odds.edge_log_odds >= CERTAIN))
    table = score_table(families, score, tier=odds.tier)
    drawn = sample_graphs(table, num_chains=500, num_draws=40, warmup=20)
    found = frequencies(drawn["adjacency"].flatten(0, 1).numpy())
    expected = Reference(**options).law(orders_weighted=True)
    assert found.keys() <= expected.keys()
    assert distance(found, expected) < 0.01 + 0.5 * (len(expected) / 20_000) ** 0.5
    between = distance(expected, Reference(**options).law(orders_weighted=False))
    assert bool(between < 1e-9) is (case in ONE_LAW or case == "two required parents")


def holds(graphs, options):
    """Whether the demands hold in 0/1 graphs ``[draw, parent, child]``."""
    expected = Reference(**options)
    for i, j in itertools.permutations(range(expected.d), 2):
        against = expected.tier[i] > expected.tier[j]
        if (i, j) in expected.required:
            assert (graphs[:, i, j] == 1).all()
        elif against or (i, j) in expected.forbidden:
            assert (graphs[:, i, j] == 0).all()
    assert (graphs.sum(1) <= expected.limit).all()
    assert all(is_dag(torch.as_tensor(graph)) for graph in np.unique(graphs, axis=0))
    return True


@pytest.mark.parametrize("case", CASES)
def test_ten_thousand_draws_of_the_program_honour_every_demand(case):
    options = CASES[case]
    d = options.get("d", 4)
    prior = partial(prior_of, d)
    settings = {k: v for k, v in options.items() if k != "d"}
    with isolated(0):
        chain = tiny_chain(d, graph_prior=lambda _: prior(**settings))
        with given_draws(10_000):
            model_draws = chain.model.sample_graph()
        edge_probability = chain.edge_probability()
        draws = chain.draw_graphs(10_000, seed=0)
    assert holds(model_draws.numpy(), options)
    assert holds(draws.adjacency.numpy(), options)
    exact = implemented_law(prior(**settings))
    assert (
        distance(frequencies(model_draws.numpy()), exact)
        < 0.01 + 0.5 * (len(exact) / 10_000) ** 0.5
    )
    error = np.abs(draws.adjacency.double().mean(0).numpy() - edge_probability)
    assert error.max() < 0.03
    assert (edge_probability[chain.model.graph_prior.constraints.required.numpy()] == 1).all()


def test_the_closed_form_is_used_where_there_is_one():
    exact = {
        case: tiny_chain(
            options.get("d", 4),
            graph_prior=lambda d, o=options: prior_of(**{"d": d, **o}),
        ).guide.dag.probability_is_exact
        for case, options in CASES.items()
    }
    assert exact["tiers"]
    assert exact["forbidden one way"]
    assert not exact["one parent"]
    assert not exact["required"]


def test_positions_names_and_certain_probabilities_say_the_same():
    matrix = np.full((3, 3), 0.4)
    matrix[0, 1], matrix[2, 0] = 1, 0
    by_matrix = prior_of(3, probability=matrix)
    by_name = prior_of(3, probability=0.4, required=[("A", "B")], forbidden=[("C", "A")])
    by_position = ExpertGraphPrior(
        3, probability=0.4, required=[(0, 1)], forbidden=[[2, np.int64(0)]]
    )
    by_default = ExpertGraphPrior(
        3, probability=0.4, required=[("X1", "X2")], forbidden=[(2, "X1")]
    )
    for one in (by_name, by_position, by_default):
        assert torch.equal(one.constraints.required, by_matrix.constraints.required)
        assert torch.equal(one.constraints.free, by_matrix.constraints.free)


def test_it_is_a_prior_of_both_engines_that_moves_and_has_no_state():
    prior = prior_of(required=[("A", "B")], max_indegree=2).double()
    assert isinstance(prior, GraphPrior)
    assert isinstance(prior, FamilyGraphPrior)
    assert prior.constraints.order_loc.dtype == torch.float64
    assert prior.given_order(torch.zeros(4).double()).sample().dtype == torch.float64
    assert not prior.state_dict()


BAD = [
    (
        {"required": zip("A", "B", strict=True)},
        r"required: expected a list of pairs .* got .zip object",
    ),
    ({"required": [("A", "B"), ("B", "A")]}, r"required: .* without a cycle, got . -> . -> .\."),
    ({"required": [("A", "B")], "forbidden": [("A", "B")]}, r"'A' -> 'B', which is forbidden"),
    ({"required": [("B", "A")], "tiers": [["A"], ["B", "C"]]}, r"'B' -> 'A', .* later tier"),
    ({"required": [("A", "C"), ("B", "C")], "max_indegree": 1}, r"the 2 required parents of 'C'"),
    ({"required": [("A", "Z")]}, r"required: expected a variable's name .* got 'Z'. Use one of"),
    ({"required": [("A", 3)]}, r"required: .* position from 0 to 2, got 3"),
    ({"required": [("A", True)]}, r"required: .* got True"),
    ({"required": [("A", -1)]}, r"required: .* got -1"),
    ({"required": [("A", "A")]}, r"required: expected pairs .* got \('A', 'A'\)"),
    ({"required": [("A", "B", "C")]}, r"required: expected pairs \(parent, child\)"),
    ({"required": ["AB"]}, r"required: expected a list of pairs"),
    ({"required": "AB"}, r"required: expected a list of pairs of variables, got 'AB'"),
    ({"required": 3}, r"required: expected a list of pairs of variables, got 3"),
    ({"forbidden": [("A", "Z")]}, r"forbidden: expected a variable's name"),
    ({"forbidden": None}, r"forbidden: expected a list of pairs"),
    ({"tiers": [["A"], ["B"]]}, r"tiers: expected every variable in one tier, got 'C' in 0"),
    ({"tiers": [["A", "B"], ["B", "C"]]}, r"tiers: .* got 'B' in 2"),
    ({"tiers": ["A", "B", "C"]}, r"tiers: expected a list of lists of variables, got 'A'"),
    ({"tiers": []}, r"tiers: .* got 'A' in 0"),
    ({"max_indegree": -1}, r"max_indegree: expected a whole number of at least 0, got -1"),
    ({"max_indegree": 1.5}, r"max_indegree: .* got 1.5"),
    ({"max_indegree": "2"}, r"max_indegree: .* got '2'"),
    ({"probability": 0.0}, r"graph_prior: .* strictly between 0 and 1, got 0"),
    ({"probability": 1.5}, r"graph_prior: .* strictly between 0 and 1, got 1.5"),
    ({"probability": np.full((2, 2), 0.5)}, r"graph_prior: .* matrix \[3, 3\]"),
    ({"probability": np.full((3, 3), 2.0)}, r"graph_prior: .* got 2 at"),
    ({"probability": np.ones((3, 3))}, r"required: .* without a cycle"),
    ({"variables": ["A", "B"]}, r"variables: expected 3 names, got 2"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_demands_are_named(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        ExpertGraphPrior(3, **{"variables": ["A", "B", "C"], **options})
    assert isinstance(caught.value, ConfigError) or "variables" in options

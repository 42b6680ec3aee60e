import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from pyro.nn import PyroModule

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.guides import known_graph
from pyro_metacadi.inference.objective import (
    ELBOObjective,
    MetaCaDIObjective,
    PaperObjective,
    residual_dependence,
)
from pyro_metacadi.inference.seeds import isolated
from tests.helpers import parameters, random_dag, tiny_batch, tiny_chain, traces

D, T = 3, 2


class DensePrior(PyroModule):
    """A prior that counts the diagonal, for which no KL divergence is known in closed form."""

    def __init__(self, num_variables):
        super().__init__()
        self.num_variables = num_variables

    def forward(self):
        return dist.Bernoulli(torch.full((self.num_variables,) * 2, 0.4)).to_event(2)


def value_and_gradients(chain, objective, *, model=None, guide=None, seed=1):
    with isolated(seed):
        loss = objective(model or chain.model, guide or chain.guide)(tiny_batch())
        tensors = [p for p in parameters(chain).values() if p.requires_grad]
        gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
    return loss.detach(), [torch.zeros(()) if g is None else g for g in gradients]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_particles": 3},
        {"num_particles": 3, "vectorize_particles": True, "max_plate_nesting": 2},
    ],
)
@pytest.mark.parametrize("score_readout", [False, True])
@pytest.mark.parametrize("graph_prior", [None, DensePrior])
def test_the_elbo_objective_is_trace_mean_field_elbo(options, score_readout, graph_prior):
    chain = tiny_chain(graph_prior=graph_prior)
    chain.model.score_readout = score_readout
    found = value_and_gradients(chain, ELBOObjective(**options))
    expected = value_and_gradients(chain, TraceMeanField_ELBO(**options))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    with isolated(1):
        loss = ELBOObjective(**options).loss(chain.model, chain.guide, tiny_batch())
    torch.testing.assert_close(torch.as_tensor(loss), found[0], rtol=1e-5, atol=1e-5)


def test_the_elbo_objective_names_every_site():
    chain, objective = tiny_chain(), ELBOObjective()
    loss, _ = value_and_gradients(chain, objective)
    assert set(objective.terms) == {
        *("x", "kl_order_score", "kl_edge", "kl_intervention_target", "kl_readout")
    }
    torch.testing.assert_close(sum(objective.terms.values()), loss)


def test_reconstruction_is_the_mean_over_the_rows_of_a_task_then_over_tasks():
    chain, batch = tiny_chain(), tiny_batch()
    model_trace, guide_trace = traces(chain, batch)
    loc = model_trace.nodes["x"]["fn"].base_dist.loc.detach().numpy()
    per_task = []
    for t in range(T):
        rows = batch.mask[t].numpy()
        error = batch.x[t].numpy()[rows] - loc[t][rows]
        per_task.append((0.5 * error**2 + 0.5 * np.log(2 * np.pi)).sum(1).mean())
    assert batch.mask.sum(1).unique().numel() == 2
    weight, value = PaperObjective().weighted_terms(model_trace, guide_trace)["reconstruction"]
    assert weight == 1
    assert value.item() == pytest.approx(np.mean(per_task), rel=1e-5)


@pytest.mark.parametrize("kind", ["logit", "probability"])
def test_target_sparsity_is_the_l1_norm_of_the_logits_or_the_expected_number(kind):
    model_trace, guide_trace = traces(tiny_chain(), tiny_batch())
    logits = guide_trace.nodes["intervention_target"]["fn"].base_dist.logits.detach().numpy()
    size = np.abs(logits) if kind == "logit" else 1 / (1 + np.exp(-logits))
    objective = PaperObjective(target_sparsity=kind, target_weight=0.3)
    weight, value = objective.weighted_terms(model_trace, guide_trace)["target_sparsity"]
    assert weight == 0.3
    assert value.item() == pytest.approx(size.reshape(T, D).sum(1).mean(), rel=1e-5)


def unbiased_hsic(a, b):
    """Song et al. 2012, Eq. 5, with Gaussian kernels of unit width."""
    n = len(a)
    if n < 4:
        return 0.0
    gram = [np.exp(-0.5 * (v[:, None] - v[None]) ** 2) - np.eye(n) for v in (a, b)]
    total = [g.sum() for g in gram]
    return (
        np.trace(gram[0] @ gram[1])
        + total[0] * total[1] / ((n - 1) * (n - 2))
        - 2 / (n - 2) * (gram[0] @ gram[1]).sum()
    ) / (n * (n - 3))


@pytest.mark.parametrize("rows", [None, 5])
def test_residual_dependence_is_the_mean_hsic_of_pairs_of_scaled_residuals(rows):
    batch = tiny_batch(rows=(12, 9, 5))
    model_trace, guide_trace = traces(tiny_chain(), batch)
    residual = model_trace.nodes["residual"]["value"].detach().double().numpy()
    per_task = []
    for t in range(3):
        columns = residual[t][: int(batch.mask[t].sum())][:rows].T
        columns = [(c - c.mean()) / c.std() for c in columns]
        pairs = [(i, j) for i in range(D) for j in range(D) if i != j]
        per_task.append(np.mean([unbiased_hsic(columns[i], columns[j]) for i, j in pairs]))
    assert batch.mask.sum(1).tolist() == [9, 6, 3]
    objective = PaperObjective(residual_rows=rows)
    _, value = objective.weighted_terms(model_trace, guide_trace)["residual_dependence"]
    assert value.item() == pytest.approx(np.mean(per_task), rel=1e-3, abs=1e-6)


def test_residual_dependence_cannot_be_lowered_by_shrinking_the_residuals():
    model_trace, guide_trace = traces(tiny_chain(), tiny_batch(rows=(12, 9)))
    objective = PaperObjective()
    before = objective.weighted_terms(model_trace, guide_trace)["residual_dependence"][1]
    site = model_trace.nodes["residual"]
    site["value"] = 0.01 * site["value"] + 3
    after = objective.weighted_terms(model_trace, guide_trace)["residual_dependence"][1]
    torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-6)


def test_residual_dependence_has_no_gradient_towards_smaller_residuals():
    model_trace, _ = traces(tiny_chain(), tiny_batch(rows=(12, 9)))
    site = model_trace.nodes["residual"]
    residual = site["value"].detach().double().requires_grad_()
    site["value"] = residual
    (gradient,) = torch.autograd.grad(residual_dependence(model_trace, None), residual)
    along = (gradient * residual).sum((-1, -2)).abs()
    assert (along < 1e-9 * gradient.norm() * residual.norm() + 1e-15).all()


def test_graph_kl_is_that_of_independent_edges_off_the_diagonal():
    chain = tiny_chain(graph_prior=0.2)
    model_trace, guide_trace = traces(chain, tiny_batch())
    q = torch.sigmoid(chain.guide.dag.edge_logits).detach().numpy()[~np.eye(D, dtype=bool)]
    expected = (q * np.log(q / 0.2) + (1 - q) * np.log((1 - q) / 0.8)).sum()
    _, value = PaperObjective().weighted_terms(model_trace, guide_trace)["graph_kl"]
    assert value.item() == pytest.approx(expected, rel=1e-4)


def test_the_loss_is_the_weighted_sum_of_the_terms():
    weights = {"target_weight": 0.5, "residual_weight": 2.0, "graph_weight": 0.25}
    objective = PaperObjective(**weights)
    loss, _ = value_and_gradients(tiny_chain(), objective)
    terms = objective.terms
    expected = (
        terms["reconstruction"]
        + 0.5 * terms["target_sparsity"]
        + 2.0 * terms["residual_dependence"]
        + 0.25 * terms["graph_kl"]
    )
    torch.testing.assert_close(loss, expected)
    assert not any(term.requires_grad for term in terms.values())


@pytest.mark.parametrize("graph_prior", [None, DensePrior])
def test_the_loss_is_the_same_whether_or_not_pyro_checks_laws(graph_prior):
    chain, found = tiny_chain(graph_prior=graph_prior), []
    for checked in (False, True):
        with pyro.validation_enabled(checked):
            found.append(value_and_gradients(chain, PaperObjective()))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize(
    ("weight", "term"),
    [
        ("target_weight", "target_sparsity"),
        ("residual_weight", "residual_dependence"),
        ("graph_weight", "graph_kl"),
    ],
)
def test_a_zero_weight_leaves_its_term_out(weight, term):
    objective = PaperObjective(**{weight: 0})
    value_and_gradients(tiny_chain(), objective)
    assert term not in objective.terms
    assert len(objective.terms) == 3


def test_a_known_graph_leaves_the_graph_kl_out():
    chain, objective = tiny_chain(), PaperObjective()
    values = known_graph(random_dag(D, seed=1))
    model, guide = pyro.condition(chain.model, values), chain.guide.given(values)
    _, gradients = value_and_gradients(chain, objective, model=model, guide=guide)
    assert set(objective.terms) == {"reconstruction", "target_sparsity", "residual_dependence"}
    moved = dict(zip(parameters(chain), gradients, strict=True))
    assert not moved["guide.dag.edge_logits"].any()
    assert moved["model.mechanisms.readout"].any()


@pytest.mark.parametrize("objective", [PaperObjective, ELBOObjective])
def test_particles_at_once_equal_one_by_one_when_every_site_is_given(objective):
    chain = tiny_chain()
    with isolated(3):
        values = {name: value.detach() for name, value in chain.guide(tiny_batch()).items()}
    model, guide = pyro.condition(chain.model, values), chain.guide.given(values)
    options = ({"num_particles": 4}, {"num_particles": 4, "vectorize_particles": True})
    looped, at_once = (
        value_and_gradients(chain, objective(max_plate_nesting=2, **o), model=model, guide=guide)
        for o in options
    )
    torch.testing.assert_close(looped, at_once, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", [PaperObjective, ELBOObjective])
def test_particles_at_once_agree_in_expectation_with_one_by_one(objective):
    chain, batch = tiny_chain(), tiny_batch()
    with isolated(5), torch.no_grad():
        one = objective(max_plate_nesting=2)
        looped = torch.stack(
            [one.differentiable_loss(chain.model, chain.guide, batch) for _ in range(200)]
        )
        many = objective(num_particles=100, vectorize_particles=True, max_plate_nesting=2)
        at_once = torch.stack(
            [many.differentiable_loss(chain.model, chain.guide, batch) for _ in range(20)]
        )
    error = (looped.var() / len(looped) + at_once.var() / len(at_once)).sqrt()
    assert (looped.mean() - at_once.mean()).abs() < 5 * error
    # A hundred particles scatter a tenth as much as one: they are means, and independent.
    assert 0.05 < at_once.std() / looped.std() < 0.2


def test_the_plackett_luce_option_replaces_the_kl_of_scores():
    objective = ELBOObjective(order_kl="plackett_luce")
    value_and_gradients(tiny_chain(), objective)
    assert "kl_order" in objective.terms
    assert "kl_order_score" not in objective.terms


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PaperObjective(target_sparsity="l2"), r"target_sparsity: expected 'logit' or"),
        (lambda: ELBOObjective(order_kl="exact"), r"order_kl: expected 'gumbel' or"),
    ],
)
def test_unknown_options_are_named(build, message):
    with pytest.raises((ConfigError, TypeError), match=message):
        build()


def test_an_objective_says_its_own_terms():
    with pytest.raises(TypeError, match=r"abstract method '?weighted_terms"):
        MetaCaDIObjective()

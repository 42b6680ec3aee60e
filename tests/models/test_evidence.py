"""Scores of families, and the Pyro program over graphs that they make."""

import itertools
import math
from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro import poutine

from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models import SparseGraphPrior, evidence
from pyro_metacadi.models.evidence import MechanismEvidence
from pyro_metacadi.models.evidence_program import EvidenceModel
from pyro_metacadi.models.families import Family, families_of
from pyro_metacadi.models.hyperparameters import Hyperparameters
from pyro_metacadi.models.portions import Portions
from pyro_metacadi.ops.kernels import Kernel
from pyro_metacadi.ops.law import InterventionLaw
from pyro_metacadi.ops.rows import TaskRows
from tests.helpers import random_dag

D = 3
ALL = [Family(i, p) for i in range(D) for p in range(2**D) if not p >> i & 1]


def floats(*values):
    return torch.tensor(values, dtype=torch.float64)


def hyperparameters():
    law = InterventionLaw(
        slope=floats(0.0, 0.5),
        intercept=floats(2.0, 0.0),
        scale=floats(1.0, 1.5),
        shift=floats(0.4, 0.0),
        relative=torch.tensor([False, True]),
        weight=floats(0.6, 0.1, 0.3),
    )
    return Hyperparameters(kernel=Kernel(2.0, 1.0), correlation=0.1, target_prior=0.2, law=law)


def odds_of(known):
    """Infinite log odds of what is known, those of the prior where there is NaN."""
    known = torch.tensor(known, dtype=torch.float64)
    return torch.logit(torch.where(known.isnan(), 0.2, known))


def evidence_for(*, sizes=(20, 20, 9, 15), num_covariates=0, known=None, seed=0, order=range(D)):
    """X1 -> X2 -> X3, driven by the covariates too; the last task sets X2 to 3."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    n = sum(sizes)
    covariates = normal(n, num_covariates)
    x = normal(n, D)
    x[:, 1] = torch.sin(2 * x[:, 0]) + 0.3 * x[:, 1] + 2 * covariates.sum(-1)
    x[-sizes[-1] :, 1] = 3 + 0.1 * normal(sizes[-1])
    x[:, 2] = x[:, 1] + 0.3 * x[:, 2]
    order = list(order)
    rows = TaskRows(x[:, order], covariates, tuple(sizes))
    return MechanismEvidence(
        rows,
        scale=floats(1, 2, 0.5)[order],
        offset=floats(0, 1, -1)[order],
        hyperparameters=hyperparameters(),
        landmarks=rows.inputs[torch.randperm(n, generator=generator)[:48]],
        prior_log_odds=None if known is None else odds_of(known)[:, order],
    )


@pytest.fixture
def fits(monkeypatch):
    """How many families each call of `fit_mechanism` fitted."""
    counts = []

    def counted(design, **options):
        counts.append(len(design.x))
        return fit(design, **options)

    fit = evidence.fit_mechanism
    monkeypatch.setattr(evidence, "fit_mechanism", counted)
    return counts


def test_what_was_scored_is_not_scored_again(fits):
    scorer = evidence_for()
    first = scorer.scores([ALL[0], ALL[1], ALL[0]])
    assert sum(fits) == 2
    assert first[0] == first[2]
    assert scorer.scores([ALL[1], ALL[0]]) == [first[1], first[0]]
    assert sum(fits) == 2
    scorer.scores(ALL)
    assert sum(fits) == len(ALL)
    assert scorer.scores([]) == []


def test_other_hyperparameters_score_anew():
    scorer = evidence_for()
    other = scorer.with_hyperparameters(replace(hyperparameters(), target_prior=0.01))
    assert other.scores(ALL[:1]) != scorer.scores(ALL[:1])
    again = other.with_hyperparameters(hyperparameters())
    assert again.scores(ALL[:2]) == pytest.approx(scorer.scores(ALL[:2]))


@pytest.mark.parametrize("num_covariates", [0, 2])
def test_families_scored_together_score_as_they_do_alone(num_covariates, fits):
    together = evidence_for(num_covariates=num_covariates).scores(ALL)
    # Families with equally many inputs share a batch.
    assert sorted(fits) == [3, 3, 6]
    alone = [evidence_for(num_covariates=num_covariates).scores([one])[0] for one in ALL]
    assert together == pytest.approx(alone, rel=1e-9)


def test_batches_are_cut_where_features_would_fill_the_memory(monkeypatch, fits):
    whole = evidence_for().scores(ALL)
    monkeypatch.setattr(Portions, "in_cache", 1)
    fits.clear()
    assert evidence_for().scores(ALL) == pytest.approx(whole, rel=1e-9)
    assert fits == [1] * len(ALL)


def test_the_mechanism_that_made_the_data_scores_best_and_its_target_is_found():
    scorer = evidence_for()
    scores = dict(zip(ALL, scorer.scores(ALL), strict=True))
    family = max((one for one in ALL if one.variable == 1 and one.parents < 4), key=scores.get)
    assert family == Family(1, 0b001)
    ((_, mechanism),) = scorer.mechanisms([family])
    assert (mechanism.target_probability[0] > 0.5).tolist() == [False, False, False, True]


def test_families_are_the_columns_of_a_graph():
    for seed, d in itertools.product(range(5), (1, 2, 6)):
        graph = random_dag(d, seed=seed)
        families = families_of(graph)
        assert families == families_of(graph.bool()) == families_of(graph.to(torch.int8))
        assert [family.variable for family in families] == list(range(d))
        back = [[float(f.parents >> j & 1) for f in families] for j in range(d)]
        assert back == graph.tolist()


@given(st.permutations(range(D)))
def test_names_of_variables_do_not_matter(order):
    position = {old: new for new, old in enumerate(order)}
    moved = [
        Family(position[f.variable], sum(1 << position[j] for j in range(D) if f.parents >> j & 1))
        for f in ALL
    ]
    expected = evidence_for(known=KNOWN).scores(ALL)
    got = evidence_for(known=KNOWN, order=order).scores(moved)
    assert got == pytest.approx(expected, rel=1e-7)


NAN = math.nan
KNOWN = [[NAN, 0, NAN], [1, NAN, NAN], [NAN, NAN, 0], [NAN, 0, 1]]


def test_known_targets_are_honoured_against_the_data():
    for families, mechanism in evidence_for(known=KNOWN).mechanisms(ALL):
        assert mechanism.score.isfinite().all()
        for family, probability in zip(families, mechanism.target_probability, strict=True):
            for task, known in enumerate(line[family.variable] for line in KNOWN):
                assert math.isnan(known) or probability[task] == known


def test_targets_of_which_nothing_is_said_have_the_prior_odds():
    expected = torch.full((4, D), math.log(0.2 / 0.8), dtype=torch.float64)
    scorer = evidence_for()
    torch.testing.assert_close(scorer.prior_log_odds, expected)
    assert scorer.scores(ALL) == evidence_for(known=[[NAN] * D] * 4).scores(ALL)


def test_other_prior_odds_are_kept_and_nothing_scored_is():
    scorer = evidence_for()
    before = scorer.scores(ALL)
    other = scorer.with_prior(odds_of(KNOWN))
    assert other.scores(ALL) == evidence_for(known=KNOWN).scores(ALL) != before
    for again in (other.with_resolution(0.5), other.with_hyperparameters(hyperparameters())):
        assert torch.equal(again.prior_log_odds, odds_of(KNOWN))


def test_covariates_are_read_by_every_mechanism():
    scorer = evidence_for(num_covariates=2)
    mask = scorer.input_mask([Family(0, 0b110), Family(2, 0b000)])
    assert mask.tolist() == [[False, True, True, True, True], [False, False, False, True, True]]
    # X2 follows them: its mechanism without parents explains more than its variance.
    ((_, mechanism),) = scorer.mechanisms([Family(1, 0)])
    own = scorer.rows.x[:49, 1].var()
    assert mechanism.noise_variance.item() < 0.6 * own
    assert scorer.features(scorer.rows, [Family(2, 0)])[0, :, :-1].abs().max() > 0.1


# The Pyro program


def model(seed=0):
    return EvidenceModel(evidence_for(seed=seed), graph_prior=SparseGraphPrior(D, probability=0.3))


def test_the_programs_log_density_is_prior_plus_scores():
    for seed in range(4):
        with isolated(seed):
            program = model()
            trace = poutine.trace(program).get_trace()
        order_score, edge = (trace.nodes[name]["value"] for name in ("order_score", "edge"))
        adjacency = trace.nodes["_RETURN"]["value"]
        ahead = order_score[:, None] > order_score[None, :]
        assert adjacency.tolist() == (edge * ahead).tolist()
        prior = dist.Gumbel(0.0, 1.0).log_prob(order_score).sum() + program.graph_prior().log_prob(
            edge
        )
        score = sum(program.evidence.scores(families_of(adjacency)))
        assert float(trace.log_prob_sum()) == pytest.approx(float(prior) + score, abs=1e-5)


def test_the_program_has_no_latent_site_but_the_graph_and_a_factor_for_each_variable():
    with isolated(0):
        trace = poutine.trace(model()).get_trace()
    assert set(trace.stochastic_nodes) == {"order_score", "edge", "variables"}
    assert list(trace.observation_nodes) == ["evidence"]
    trace.compute_log_prob()
    factor = trace.nodes["evidence"]["log_prob"]
    assert (factor.shape, factor.dtype) == ((D,), torch.float64)
    adjacency = trace.nodes["_RETURN"]["value"]
    assert factor.tolist() == model().evidence.scores(families_of(adjacency))


def test_conditioned_on_a_graph_the_program_scores_that_graph():
    program, graph = model(), torch.tensor([[0.0, 1, 1], [0, 0, 1], [0, 0, 0]])
    data = {"order_score": torch.tensor([2.0, 1.0, 0.0]), "edge": graph}
    trace = poutine.trace(poutine.condition(program, data=data)).get_trace()
    assert trace.nodes["_RETURN"]["value"].tolist() == graph.tolist()
    trace.compute_log_prob()
    scores = program.evidence.scores([Family(0, 0), Family(1, 0b001), Family(2, 0b011)])
    assert trace.nodes["evidence"]["log_prob"].tolist() == scores


# Precision and devices


def moved(scorer, device):
    """The same scorer on another device, in float32 as rows are."""
    rows, law = scorer.rows, scorer.hyperparameters.law
    law = InterventionLaw(*(getattr(law, name).to(device) for name in law.__dataclass_fields__))
    return MechanismEvidence(
        TaskRows(rows.x.float().to(device), rows.covariates.float().to(device), rows.sizes),
        scale=scorer.scale.to(device),
        offset=scorer.offset.to(device),
        hyperparameters=replace(scorer.hyperparameters, law=law),
        landmarks=scorer.landmarks.float().to(device),
        prior_log_odds=scorer.prior_log_odds.to(device),
    )


def test_scores_in_single_precision_are_near_those_in_double():
    for seed in range(3):
        scorer = evidence_for(num_covariates=1, known=KNOWN, seed=seed)
        assert moved(scorer, "cpu").scores(ALL) == pytest.approx(scorer.scores(ALL), abs=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_scores_as_the_cpu_does():
    scorer = evidence_for(num_covariates=1, known=KNOWN)
    here, there = (moved(scorer, device).scores(ALL) for device in ("cpu", "cuda"))
    assert there == pytest.approx(here, abs=1e-2)

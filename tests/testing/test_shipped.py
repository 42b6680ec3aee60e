"""The parts of this package keep the laws that it asks of others."""

from functools import partial

import numpy as np
import pytest
import torch

from pyro_metacadi import testing
from pyro_metacadi.errors import MetaCaDIError
from pyro_metacadi.guides import (
    FlattenedDeepSets,
    MAMLAdaptation,
    RidgeAdaptation,
    SharedDeepSets,
)
from pyro_metacadi.models import (
    ExpertGraphPrior,
    GaussianNoise,
    HeteroscedasticNoise,
    LearnedGaussianNoise,
    NegativeBinomialNoise,
    PostNonlinearNoise,
    ScaleFreeGraphPrior,
    SparseGraphPrior,
    StudentTNoise,
)
from tests.helpers import random_states

MATRIX = np.array([[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.6, 0.3, 0.5]])


@pytest.mark.parametrize(
    "noise",
    [
        GaussianNoise,
        partial(GaussianNoise, scale=0.3),
        LearnedGaussianNoise,
        HeteroscedasticNoise,
        StudentTNoise,
        PostNonlinearNoise,
        NegativeBinomialNoise,
        *(
            partial(NegativeBinomialNoise, dispersion=dispersion, library_size=False)
            for dispersion in (0.0101, 0.05, 0.5, 1.0, 3.0, 9.9)
        ),
    ],
)
def test_every_noise_model_conforms(noise):
    testing.check_noise(noise)
    testing.check_noise(noise, num_variables=1, num_features=1, seed=3)


@pytest.mark.parametrize(
    "prior",
    [
        SparseGraphPrior,
        partial(SparseGraphPrior, probability=0.3),
        ScaleFreeGraphPrior,
        partial(ScaleFreeGraphPrior, exponent=0.5),
        ExpertGraphPrior,
        partial(ExpertGraphPrior, required=[(0, 1)], forbidden=[(2, 1)], max_indegree=1),
        partial(ExpertGraphPrior, required=[(0, 2), (1, 2)], probability=0.2),
        partial(ExpertGraphPrior, max_indegree=1, probability=0.6),
    ],
)
def test_every_graph_prior_conforms(prior):
    testing.check_graph_prior(prior)


def test_a_prior_of_three_variables_only_conforms():
    tiers = partial(ExpertGraphPrior, probability=MATRIX, tiers=[[1], [0, 2]])
    testing.check_graph_prior(tiers, num_variables=3)


class Tiered(ExpertGraphPrior):
    """Independent edges, of which those against the order sum to one."""

    def graph_log_prob(self, adjacency, order_score):
        forward = (order_score.unsqueeze(-1) > order_score.unsqueeze(-2)) & self.constraints.free
        log_p = (
            adjacency * self.edge_log_odds.clamp(-50, 50) + self.edge_log_odds.neg().sigmoid().log()
        )
        return torch.where(forward, log_p, 0.0).sum((-1, -2))


def test_masses_of_graphs_are_asked_for_in_orders_that_tiers_allow():
    testing.check_graph_prior(partial(Tiered, tiers=[[1], [0, 2]]), num_variables=3)


@pytest.mark.parametrize("predictor", [FlattenedDeepSets, SharedDeepSets])
def test_every_target_predictor_conforms(predictor):
    testing.check_target_predictor(predictor)
    testing.check_target_predictor(predictor, num_variables=1, seed=3)


@pytest.mark.parametrize(
    "adaptation",
    [
        RidgeAdaptation,
        MAMLAdaptation,
        partial(MAMLAdaptation, parameters="all", num_steps=2, learning_rate=0.1),
    ],
)
def test_every_adaptation_conforms(adaptation):
    testing.check_adaptation(adaptation)
    testing.check_adaptation(adaptation, num_variables=2, seed=3)


def test_checks_leave_the_callers_random_state_alone():
    before = random_states()
    testing.check_noise(GaussianNoise)
    testing.check_graph_prior(SparseGraphPrior)
    testing.check_target_predictor(SharedDeepSets)
    testing.check_adaptation(RidgeAdaptation)
    assert random_states() == before


def test_a_broken_law_is_an_assertion_and_an_error_of_this_package():
    assert issubclass(testing.ConformanceError, AssertionError)
    assert issubclass(testing.ConformanceError, MetaCaDIError)

from functools import partial

import numpy as np
import torch
from pyro.nn import PyroModule

from pyro_metacadi.guides import Adaptation, RidgeAdaptation
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models import GaussianNoise, Mechanisms, Predictions
from tests.helpers import TINY, random_dag, tiny_batch, tiny_chain

D, PENALTY = 3, 0.7
ADJACENCY = random_dag(D, seed=1)


class UnevenNoise(PyroModule):
    """Every other row is nine times as precise, and responses are shifted."""

    def __init__(self, num_variables, num_features):
        super().__init__()

    def linearize(self, x, features):
        precision = 1 + 8 * (torch.arange(x.shape[-2]) % 2).to(x.dtype)
        return x + 1, precision.unsqueeze(-1).expand_as(x)

    def forward(self, loc, features):
        return GaussianNoise(0, 0)(loc, features)


def adapted(**choices):
    mechanisms = partial(Mechanisms, width=4, penalty=PENALTY)
    chain, batch = tiny_chain(**{**TINY, "mechanisms": mechanisms, **choices}), tiny_batch()
    batch.support_mask[1, 2] = False
    with isolated(0), torch.no_grad():
        at = Predictions(chain.model.mechanisms, batch.support, ADJACENCY)
        own = RidgeAdaptation()(chain.model, at, batch.support, batch.support_mask)
    return batch, at.shared_features.double().numpy(), own["readout"].numpy()


def by_hand(design, response, weight):
    gram = design.T @ (weight[:, None] * design) + PENALTY * np.eye(design.shape[1])
    return np.linalg.solve(gram, design.T @ (weight * response))


def test_the_readout_is_equation_6_and_ignores_rows_that_do_not_exist():
    batch, features, readout = adapted()
    for t in range(2):
        rows = batch.support_mask[t].numpy()
        for i in range(D):
            response = batch.support[t, :, i].double().numpy()[rows]
            expected = by_hand(features[t, i][rows], response, np.ones(rows.sum()))
            np.testing.assert_allclose(readout[t, i], expected, rtol=1e-4, atol=1e-6)


def test_the_noise_model_chooses_response_and_weights():
    batch, features, readout = adapted(noise=UnevenNoise)
    weight = np.array([1.0, 9.0, 1.0])
    response = batch.support[0, :, 0].double().numpy() + 1
    expected = by_hand(features[0, 0], response, weight)
    np.testing.assert_allclose(readout[0, 0], expected, rtol=1e-4, atol=1e-6)


def test_ridge_adaptation_is_an_adaptation():
    assert isinstance(RidgeAdaptation(), Adaptation)

"""Densities of tasks whose weights are integrated out, against multivariate normal ones."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from pyro_metacadi.ops.evidence import kish_weight, regress
from pyro_metacadi.ops.predictive import (
    one_more_row_log_prob,
    predictive_log_prob,
    tasks_log_prob,
)
from tests.ops.test_evidence import SEEDS, designed, floats, normal, rows_of


@pytest.mark.parametrize("num_rows", [2, 4, 9], ids=["dual", "square", "primal"])
def test_the_predictive_density_is_multivariate_normal(num_rows):
    features = normal(2, 3, num_rows, 4, seed=0)
    residual, root = normal(2, 3, num_rows, seed=1), normal(2, 4, 4, seed=2)
    noise = floats(0.3, 1.2)
    got = predictive_log_prob(
        features @ root.unsqueeze(1), residual, noise_variance=noise, weight=1.0
    )
    for s, t in itertools.product(range(2), range(3)):
        scaled = (features[s, t] @ root[s]).numpy()
        covariance = noise[s].item() * np.eye(num_rows) + scaled @ scaled.T
        law = multivariate_normal(np.zeros(num_rows), covariance)
        assert float(got[s, t]) == pytest.approx(law.logpdf(residual[s, t].numpy()), rel=1e-9)


@given(st.integers(1, 8), st.floats(0.05, 1), SEEDS)
def test_the_predictive_density_is_the_evidence_that_new_rows_add(num_rows, weight, seed):
    design = designed((5, 3, num_rows), num_features=4, seed=seed)
    noise, old = floats(0.3, 0.8), floats(1, 0.5, 0).expand(2, -1)
    before = regress(design, old, noise_variance=noise)
    after = regress(design, old + floats(0, 0, weight), noise_variance=noise)
    got = predictive_log_prob(
        (design.features[:, 8:] @ torch.linalg.cholesky(before.covariance)).unsqueeze(1),
        (design.x - before.prediction)[:, None, 8:],
        noise_variance=noise,
        weight=weight,
    )
    expected = after.log_evidence - before.log_evidence
    torch.testing.assert_close(got[:, 0], expected, rtol=1e-8, atol=1e-8)


def test_the_predictive_density_in_single_precision_is_near_that_in_double():
    features, residual = normal(1, 5, 60, 4, seed=0), normal(1, 5, 60, seed=1)
    root, options = 0.1 * normal(1, 4, 4, seed=2), {"noise_variance": floats(0.1), "weight": 0.5}
    double = predictive_log_prob(features @ root.unsqueeze(1), residual, **options)
    scaled = (features.float() @ root.float().unsqueeze(1), residual.float())
    single = predictive_log_prob(*scaled, **options)
    torch.testing.assert_close(single, double, rtol=0, atol=1e-3)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.floats(0, 1), SEEDS)
def test_tasks_of_unequal_size_are_judged_one_by_one(sizes, correlation, seed):
    features, error = normal(2, sum(sizes), 3, seed=seed), normal(2, sum(sizes), seed=seed + 1)
    options = {"noise_variance": floats(0.3, 1.2)}
    got = tasks_log_prob(features, error, rows_of(sizes), correlation=correlation, **options)
    parts = zip(features.split(sizes, 1), error.split(sizes, 1), sizes, strict=True)
    for task, (own, residual, size) in enumerate(parts):
        weight = float(kish_weight(floats(size), correlation))
        alone = predictive_log_prob(own[:, None], residual[:, None], weight=weight, **options)
        torch.testing.assert_close(got[:, task], alone[:, 0])


@pytest.mark.parametrize("sizes", [(1, 4), (3, 3, 9)], ids=str)
def test_one_more_row_is_what_it_adds_to_the_density_of_its_task(sizes):
    features, error = normal(2, sum(sizes), 4, seed=0), normal(2, sum(sizes), seed=1)
    noise = floats(0.3, 1.2)
    got = one_more_row_log_prob(features, error, rows_of(sizes), noise_variance=noise)
    first = 0
    for size in sizes:
        task = slice(first, first + size)
        for row in range(first, first + size):
            # The row's place once more: the same features and the same value.
            more = [*range(first, first + size), row]
            with_it = predictive_log_prob(
                features[:, None, more], error[:, None, more], noise_variance=noise, weight=1.0
            )
            without = predictive_log_prob(
                features[:, None, task], error[:, None, task], noise_variance=noise, weight=1.0
            )
            torch.testing.assert_close(got[:, row], (with_it - without)[:, 0])
        first += size

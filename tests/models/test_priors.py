import numpy as np
import pytest
import torch

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.models import GraphPrior, SparseGraphPrior


def test_the_default_expects_half_a_parent_per_variable():
    for d in (2, 5, 20):
        prior = SparseGraphPrior(d)
        probability = prior.probability[prior.off_diagonal]
        # Half of the indicators point backwards in the order and are no edges.
        assert torch.allclose(probability, torch.tensor(min(0.5, 1 / (d - 1))))
        if d > 2:
            assert probability.sum() / 2 == pytest.approx(d / 2)
    assert isinstance(SparseGraphPrior(3), GraphPrior)


def test_the_diagonal_does_not_count():
    law = SparseGraphPrior(3, probability=0.2)()
    edge = torch.zeros(3, 3)
    assert law.event_shape == (3, 3)
    assert law.log_prob(edge) == law.log_prob(edge + torch.eye(3))
    assert law.log_prob(edge).item() == pytest.approx(6 * np.log(0.8), rel=1e-6)


def test_a_matrix_gives_every_pair_its_own_probability():
    matrix = np.array([[0.0, 0.9, 0.2], [0.1, 1.0, 0.3], [0.4, 0.5, 0.0]])
    law = SparseGraphPrior(3, probability=matrix)()
    edge = torch.zeros(3, 3)
    edge[0, 1] = 1
    expected = np.log([0.9, 0.8, 0.9, 0.7, 0.6, 0.5]).sum()
    assert law.log_prob(edge).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("probability", "message"),
    [
        (0.0, r"strictly between 0 and 1, got 0 at \[0, 1\]"),
        (1.0, r"strictly between 0 and 1, got 1 at \[0, 1\]"),
        (-0.5, r"strictly between 0 and 1, got -0.5"),
        (float("nan"), r"strictly between 0 and 1, got nan"),
        ([[0.5, 0.5, 0.5], [0.5, 0.5, 2.0], [0.5, 0.5, 0.5]], r"got 2 at \[1, 2\]"),
        ([[0.5, 0.5], [0.5, 0.5]], r"matrix \[3, 3\] \[parent, child\], got shape \[2, 2\]"),
        ([0.5, 0.5, 0.5], r"matrix \[3, 3\] \[parent, child\], got shape \[3\]"),
    ],
)
def test_bad_probabilities_are_named(probability, message):
    with pytest.raises(ConfigError, match=message):
        SparseGraphPrior(3, probability=probability)

import pyro.distributions as dist
import pytest
import torch

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.models import GaussianNoise, Noise


def test_gaussian_noise_is_a_normal_around_the_prediction_with_the_given_scale():
    noise, loc, x = GaussianNoise(3, 5, scale=0.5), torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    law = noise(loc, torch.randn(2, 3, 4, 5))
    torch.testing.assert_close(law.log_prob(x), dist.Normal(loc, 0.5).log_prob(x))
    assert isinstance(noise, Noise)


def test_gaussian_noise_leaves_the_observations_to_an_unweighted_regression():
    x = torch.randn(2, 4, 3)
    response, precision = GaussianNoise(3, 5).linearize(x, torch.randn(2, 3, 4, 5))
    assert response is x
    assert precision is None


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_not_positive_is_refused(scale):
    with pytest.raises(ConfigError, match=r"scale: expected a number > 0, got"):
        GaussianNoise(3, 5, scale=scale)

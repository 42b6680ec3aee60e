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


def test_gaussian_noise_weighs_all_observations_by_the_inverse_variance():
    x = torch.randn(2, 4, 3)
    response, precision = GaussianNoise(3, 5, scale=0.5).linearize(x, torch.randn(2, 3, 4, 5))
    assert response is x
    torch.testing.assert_close(precision, torch.full_like(x, 4.0))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_not_positive_is_refused(scale):
    with pytest.raises(ConfigError, match=r"scale: expected a number > 0, got"):
        GaussianNoise(3, 5, scale=scale)

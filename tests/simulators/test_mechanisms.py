"""Functions are draws from their Gaussian process; interventions do what they say."""

import numpy as np
import pytest
import torch

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.simulators.mechanisms import FourierFamily, Intervention


def test_covariance_is_the_rbf_kernel_of_all_parents_jointly():
    family = FourierFamily(num_features=200, length_scale=1.5)
    many = family.draw(2, batch=(4000,), generator=torch.Generator().manual_seed(0))
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    values = torch.stack([many(point.expand(4000, 2)) for point in points])
    squares = torch.cdist(points, points) ** 2
    expected = torch.exp(-squares / (2 * 1.5**2))
    assert (values @ values.T / 4000).numpy() == pytest.approx(expected.numpy(), abs=0.08)
    assert values.mean(1).numpy() == pytest.approx(np.zeros(3), abs=0.06)


def test_function_of_no_parents_is_a_standard_normal_constant():
    family = FourierFamily(num_features=200, length_scale=1.0)
    one = family.draw(0, generator=torch.Generator().manual_seed(1))
    values = one(torch.zeros(5, 0, dtype=torch.float64))
    assert (values == values[0]).all()
    many = family.draw(0, batch=(4000,), generator=torch.Generator().manual_seed(2))
    constants = many(torch.zeros(4000, 0, dtype=torch.float64))
    assert constants.mean().item() == pytest.approx(0, abs=0.06)
    assert constants.var().item() == pytest.approx(1, abs=0.1)


def test_indexed_batch_is_one_function_per_row():
    family = FourierFamily(num_features=10, length_scale=1.0)
    many = family.draw(2, batch=(3,), generator=torch.Generator().manual_seed(3))
    parents = torch.randn(4, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    which = torch.tensor([2, 0, 2, 1])
    alone = [many[which[row : row + 1]](parents[row : row + 1]) for row in range(4)]
    assert torch.allclose(many[which](parents), torch.cat(alone))


@pytest.mark.parametrize(
    ("kind", "loc", "scale"),
    [
        ("hard", [1.0, 3.0], [0.5, 2.0]),
        ("do", [1.0, 3.0], [0.5, 0.0]),
        ("shift", [1.0, 5.0], [0.5, 0.5]),
        ("mechanism", [1.0, 1.0], [0.5, 0.5]),
    ],
)
def test_interventions_touch_the_rows_they_hit(kind, loc, scale):
    change = Intervention(kind, mean=3.0, scale=2.0, shift=4.0)
    before = torch.ones(2), torch.full((2,), 0.5)
    after = change.apply(*before, hit=torch.tensor([False, True]))
    assert [part.tolist() for part in after] == [loc, scale]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "soft"}, "intervention: expected one of 'hard', 'do', 'shift', 'mechanism'"),
        ({"mean": float("nan")}, "intervention_mean: expected a finite number, got nan"),
        ({"scale": 0.0}, "intervention_scale: expected a positive number, got 0.0"),
        ({"shift": float("inf")}, "intervention_shift"),
    ],
)
def test_impossible_interventions_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Intervention(**{"kind": "hard", "mean": 0.0, "scale": 1.0, "shift": 1.0, **options})

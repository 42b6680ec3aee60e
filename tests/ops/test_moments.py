"""Sums over rows are those of the rows, and lose no digits to a large offset."""

import pytest
import torch

from pyro_metacadi.ops.moments import Moments
from tests.ops.test_law import floats, normal, values_of


@pytest.mark.parametrize("offset", [0.0, 4.0, 1e6])
def test_sums_are_those_of_the_rows(offset):
    sizes, units = (3, 1, 4), {"scale": (2.0, 0.5), "offset": (offset, -offset)}
    values, prediction = values_of(normal(2, 8, seed=0), sizes, **units), normal(2, 8, seed=1)
    found = Moments.of(values, prediction, spread=floats(1, 2, 3).expand(2, -1))
    x, f = values.in_units(values.x), values.in_units(prediction)
    for got, expected in {"x": x, "f": f, "xf": x * f, "ff": f.square()}.items():
        torch.testing.assert_close(getattr(found, got), values.rows.sum(expected))
    torch.testing.assert_close(found.spread[:, 1], floats(2) * values.scale.square())
    assert found.count.tolist() == list(sizes)
    for slope, intercept in ((0.0, 0.3), (1.0, 0.0), (0.5, -2.0)):
        residual = x - slope * f - intercept
        total, square = found.residual(torch.tensor(slope), torch.tensor(intercept))
        tolerance = {"rtol": 1e-7, "atol": 1e-9 * (1 + offset)}
        torch.testing.assert_close(total, values.rows.sum(residual), **tolerance)
        torch.testing.assert_close(square, values.rows.sum(residual.square()), **tolerance)


def test_values_that_are_predicted_exactly_leave_nothing():
    x = normal(1, 6, seed=0).float()
    values = values_of(x, (2, 4), scale=(3.0,), offset=(1e5,))
    total, square = Moments.of(values, x, spread=0.0).residual(floats(1)[0], floats(0)[0])
    assert total.abs().max() < 1e-9
    assert ((square >= 0) & (square < 1e-9)).all()

import numpy as np
import torch

from pyro_metacadi.guides.features import NUM_BLOCKS, feature_blocks

ROWS = [5, 1]


def inputs():
    generator = torch.Generator().manual_seed(0)
    support, observational, interventional = torch.randn(3, 2, 5, 3, generator=generator)
    mask = torch.arange(5) < torch.tensor(ROWS).unsqueeze(-1)
    return support * mask.unsqueeze(-1), mask, observational, interventional


def test_the_nine_blocks_are_those_of_section_4_2():
    support, mask, observational, interventional = inputs()
    blocks = feature_blocks(
        support, mask, observational=observational, interventional=interventional
    )
    assert blocks.shape == (2, 5, NUM_BLOCKS, 3)
    for t, rows in enumerate(ROWS):
        data = support[t, :rows].numpy()
        obs, intv = observational[t, :rows].numpy(), interventional[t, :rows].numpy()
        expected = [
            *(data, obs, data - obs, (data - obs) ** 2),
            *(intv, data - intv, (data - intv) ** 2),
            *(np.tile(data.mean(0), (rows, 1)), np.tile(data.std(0), (rows, 1))),
        ]
        found = blocks[t, :rows].numpy().swapaxes(0, 1)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_single_support_row_has_deviation_zero_and_finite_features():
    support, mask, observational, interventional = inputs()
    blocks = feature_blocks(
        support, mask, observational=observational, interventional=interventional
    )
    assert torch.isfinite(blocks).all()
    assert (blocks[1, 0, -1] == 0).all()


def test_the_deviation_of_equal_rows_has_a_finite_gradient():
    support = torch.ones(1, 4, 3, requires_grad=True)
    mask = torch.ones(1, 4, dtype=torch.bool)
    predicted = torch.zeros(1, 4, 3, requires_grad=True)
    blocks = feature_blocks(support, mask, observational=predicted, interventional=predicted)
    for gradient in torch.autograd.grad(blocks.sum(), (predicted, support)):
        assert torch.isfinite(gradient).all()


def test_many_graphs_predictions_share_one_support():
    support, mask, observational, interventional = inputs()
    together = feature_blocks(
        support,
        mask,
        observational=torch.stack([observational, interventional]),
        interventional=torch.stack([interventional, observational]),
    )
    one = feature_blocks(support, mask, observational=interventional, interventional=observational)
    torch.testing.assert_close(together[1], one)


def test_residuals_are_in_units_of_the_noise():
    support, mask, observational, interventional = inputs()
    predicted = {"observational": observational, "interventional": interventional}
    precision = torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(1)) + 0.5
    plain = feature_blocks(support, mask, **predicted).unbind(-2)

    def residual(prediction):
        return (support - prediction) * precision.sqrt()

    scaled = feature_blocks(support, mask, **predicted, residual=residual).unbind(-2)
    for position, (before, after) in enumerate(zip(plain, scaled, strict=True)):
        factor = {2: precision.sqrt(), 3: precision, 5: precision.sqrt(), 6: precision}
        torch.testing.assert_close(after, before * factor.get(position, 1.0))

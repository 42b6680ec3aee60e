import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import pad

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.guides import FlattenedDeepSets, TargetPredictor
from pyro_metacadi.guides.features import NUM_BLOCKS
from pyro_metacadi.inference.training import isolated

D = 3


def predictor(**options):
    with isolated(0):
        return FlattenedDeepSets(D, embedding=4, hidden=8, **options).double()


def blocks(rows, *, seed=0, tasks=2):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(tasks, rows, NUM_BLOCKS, D, generator=generator, dtype=torch.double)
    return values, torch.ones(tasks, rows, dtype=torch.bool)


@given(rows=st.integers(1, 8), seed=st.integers(0, 10_000))
def test_the_order_of_the_rows_does_not_matter(rows, seed):
    values, mask = blocks(rows, seed=seed)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(predictor()(values[:, order], mask), predictor()(values, mask))


@given(rows=st.integers(1, 8), padding=st.integers(1, 5), content=st.floats(-1e3, 1e3))
def test_padding_rows_do_not_matter(rows, padding, content):
    values, mask = blocks(rows)
    padded = pad(values, (0, 0, 0, 0, 0, padding), value=content)
    padded_mask = pad(mask, (0, padding), value=False)
    torch.testing.assert_close(predictor()(padded, padded_mask), predictor()(values, mask))


def test_logits_decode_the_mean_of_embeddings_and_the_embedding_of_the_mean():
    values, mask = blocks(4)
    module = predictor()
    for t in range(2):
        rows = values[t].reshape(4, NUM_BLOCKS * D)
        mean_of_embeddings = torch.stack([module.embed(row) for row in rows]).mean(0)
        embedding_of_mean = module.embed(rows.mean(0))
        expected = module.decode(torch.cat([mean_of_embeddings, embedding_of_mean]))
        torch.testing.assert_close(module(values, mask)[t], expected)


def test_leading_axes_of_draws_are_kept():
    values, mask = blocks(4)
    together = predictor()(torch.stack([values, 2 * values]), mask)
    torch.testing.assert_close(together[1], predictor()(2 * values, mask))


def test_the_untrained_predictor_says_the_given_probability():
    values, mask = blocks(4)
    module = predictor(probability=0.2)
    with torch.no_grad():
        module.decode[-1].weight.zero_()
        probability = torch.sigmoid(module(values, mask))
    torch.testing.assert_close(probability, torch.full_like(probability, 0.2))
    assert isinstance(module, TargetPredictor)


@pytest.mark.parametrize("probability", [0.0, 1.0, 2.0, float("nan")])
def test_a_probability_outside_0_and_1_is_refused(probability):
    with pytest.raises(ConfigError, match=r"probability: expected a number between 0 and 1, got"):
        FlattenedDeepSets(3, probability=probability)

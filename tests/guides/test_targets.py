import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import pad

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.guides import FlattenedDeepSets, SharedDeepSets, TargetPredictor
from pyro_metacadi.guides.features import NUM_BLOCKS
from pyro_metacadi.inference.seeds import isolated

D = 3
KINDS = pytest.mark.parametrize("kind", [FlattenedDeepSets, SharedDeepSets])


def predictor(kind=FlattenedDeepSets, *, num_variables=D, **options):
    with isolated(0):
        return kind(num_variables, embedding=4, hidden=8, **options).double()


def blocks(rows, *, seed=0, tasks=2, num_variables=D):
    generator = torch.Generator().manual_seed(seed)
    shape = (tasks, rows, NUM_BLOCKS, num_variables)
    values = torch.randn(shape, generator=generator, dtype=torch.double)
    return values, torch.ones(tasks, rows, dtype=torch.bool)


@KINDS
@given(rows=st.integers(1, 8), seed=st.integers(0, 10_000))
def test_the_order_of_the_rows_does_not_matter(kind, rows, seed):
    values, mask = blocks(rows, seed=seed)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    module = predictor(kind)
    torch.testing.assert_close(module(values[:, order], mask), module(values, mask))


@KINDS
@given(rows=st.integers(1, 8), padding=st.integers(1, 5), content=st.floats(-1e3, 1e3))
def test_padding_rows_do_not_matter(kind, rows, padding, content):
    values, mask = blocks(rows)
    padded = pad(values, (0, 0, 0, 0, 0, padding), value=content)
    padded_mask = pad(mask, (0, padding), value=False)
    module = predictor(kind)
    torch.testing.assert_close(module(padded, padded_mask), module(values, mask))


@KINDS
def test_padding_rows_have_no_gradient_and_others_have(kind):
    values, mask = blocks(4)
    mask[0, 2:] = False
    values.requires_grad_()
    module = predictor(kind)
    module(values, mask).sum().backward()
    assert (values.grad[~mask] == 0).all()
    assert (values.grad[mask].abs().sum((-1, -2)) > 0).all()
    assert all((parameter.grad != 0).any() for parameter in module.parameters())


@given(
    num_variables=st.integers(1, 6),
    rows=st.integers(1, 5),
    seed=st.integers(0, 10_000),
)
def test_relabelling_the_variables_relabels_the_shared_logits(num_variables, rows, seed):
    values, mask = blocks(rows, seed=seed, num_variables=num_variables)
    order = torch.randperm(num_variables, generator=torch.Generator().manual_seed(seed))
    module = predictor(SharedDeepSets, num_variables=num_variables)
    torch.testing.assert_close(module(values[..., order], mask), module(values, mask)[:, order])


def test_a_shared_predictor_is_used_at_another_number_of_variables():
    module, larger = (predictor(SharedDeepSets, num_variables=d) for d in (D, D + 2))
    with torch.no_grad():
        module.decode[-1].bias.add_(1.0)
    larger.load_state_dict(module.state_dict())
    values, mask = blocks(4, num_variables=D + 2)
    assert larger(values, mask).shape == (2, D + 2)
    torch.testing.assert_close(larger(values, mask), module(values, mask))


def test_a_flattened_predictor_refuses_another_number_of_variables():
    module, larger = (predictor(num_variables=d) for d in (D, D + 2))
    with pytest.raises(RuntimeError, match="size mismatch"):
        larger.load_state_dict(module.state_dict())


def test_a_shared_logit_depends_on_the_other_variables_through_their_mean_alone():
    values, mask = blocks(4)
    module = predictor(SharedDeepSets)
    other = values.clone()
    other[..., 1] += 1.0
    assert (module(other, mask)[:, 0] != module(values, mask)[:, 0]).all()
    swapped = values[..., [0, 2, 1]]
    torch.testing.assert_close(module(swapped, mask)[:, 0], module(values, mask)[:, 0])


def test_logits_decode_the_mean_of_embeddings_and_the_embedding_of_the_mean():
    values, mask = blocks(4)
    module = predictor()
    for t in range(2):
        rows = values[t].reshape(4, NUM_BLOCKS * D)
        mean_of_embeddings = torch.stack([module.embed(row) for row in rows]).mean(0)
        embedding_of_mean = module.embed(rows.mean(0))
        expected = module.decode(torch.cat([mean_of_embeddings, embedding_of_mean]))
        torch.testing.assert_close(module(values, mask)[t], expected)


@KINDS
def test_leading_axes_of_draws_are_kept(kind):
    values, mask = blocks(4)
    together = predictor(kind)(torch.stack([values, 2 * values]), mask)
    torch.testing.assert_close(together[1], predictor(kind)(2 * values, mask))


@KINDS
def test_the_untrained_predictor_says_the_given_probability(kind):
    values, mask = blocks(4)
    module = predictor(kind, probability=0.2)
    with torch.no_grad():
        module.decode[-1].weight.zero_()
        probability = torch.sigmoid(module(values, mask))
    torch.testing.assert_close(probability, torch.full_like(probability, 0.2))
    assert isinstance(module, TargetPredictor)


@KINDS
@pytest.mark.parametrize("probability", [0.0, 1.0, 2.0, float("nan")])
def test_a_probability_outside_0_and_1_is_refused(kind, probability):
    with pytest.raises(ConfigError, match=r"probability: expected a number between 0 and 1, got"):
        kind(3, probability=probability)

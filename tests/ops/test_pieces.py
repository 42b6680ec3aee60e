"""Functions of tasks in pieces: the same values and gradients, less kept on the way."""

import pytest
import torch

from pyro_metacadi.ops.pieces import in_pieces


def outer(tasks, weight, scale):
    return (tasks @ weight).exp(), (tasks * scale).sum(-1)


@pytest.mark.parametrize("size", [None, 1, 2, 5, 9])
def test_values_and_gradients_are_those_of_the_whole(size):
    generator = torch.Generator().manual_seed(0)
    tasks = torch.randn(5, 3, generator=generator, requires_grad=True)
    weight = torch.randn(3, 2, generator=generator, requires_grad=True)
    scale = torch.randn(4, 1, 5, 3, generator=generator, requires_grad=True)
    found = {}
    for at_once in (None, size):
        values = in_pieces(
            lambda some, scales: outer(some, weight, scales),
            (tasks, scale),
            dims=(0, -2),
            joined_at=(0, -1),
            size=at_once,
        )
        loss = values[0].sum() + values[1].square().sum()
        found[at_once] = (*values, *torch.autograd.grad(loss, (tasks, weight, scale)))
    torch.testing.assert_close(found[size], found[None])


def test_only_what_goes_in_is_kept():
    x = torch.ones(100, 50, requires_grad=True)

    def kept_by(size):
        sizes = []

        def pack(tensor):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            in_pieces(
                lambda some: (some.exp().sin().exp().sum(-1),),
                (x,),
                dims=(0,),
                joined_at=(0,),
                size=size,
            )
        return sum(sizes)

    assert kept_by(10) == x.numel()
    assert kept_by(None) == 3 * x.numel()

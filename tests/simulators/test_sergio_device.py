"""The dynamics keep every tensor on the device that was asked for; no such device is needed."""

import multiprocessing

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import backend_registration

from pyro_metacadi.simulators import langevin
from pyro_metacadi.simulators.grn import GeneNetwork

REGISTER = "_setup_privateuseone_for_python_backend"


def pretended_device():
    """A device other than the CPU: operations check devices and shapes, and compute nothing.

    It is no "cuda": a build of torch without CUDA makes such tensors, but cannot move any there.
    """
    getattr(backend_registration, REGISTER)("pretended")
    # This device has neither sparse matrices nor generators. A dense matrix takes part in the same
    # product, and no number is drawn.
    torch.Tensor.to_sparse_coo = lambda weight: weight
    return torch.device("pretended:0")


def regulation_on(device, network):
    ones = torch.ones(4, 3, dtype=torch.float64)
    return network.regulation(
        cell_type=torch.tensor([0, 1, 0, 1]),
        factor=ones,
        half_response=ones,
        dtype=torch.float32,
        device=device,
    )


def run_on_pretended_device():
    """Device and type of the expression that each part of a run returns, and a mistake's error."""
    device = pretended_device()
    with FakeTensorMode():
        strength = torch.tensor([[0, 2.0, 0], [0, 0, -1.0], [0, 0, 0]]).double()
        rate = torch.tensor([[1.0, 0, 0], [2.0, 0, 0]]).double()
        network = GeneNetwork((strength != 0).long(), strength, rate, 0.8, 2.0)
        regulation = regulation_on(device, network)
        means = torch.ones(4, 3, dtype=torch.float64)
        start = langevin._start(network, regulation, regulator_means=means)
        found = {"fixed point": regulation.fixed_point(0.8, num_levels=3), "start": start}
        for noise in langevin.NOISE_TYPES:
            step, generator = langevin.Langevin(noise, 1.0, 0.01).step, torch.Generator()
            found[noise] = step(start, regulation, decay=0.8, generator=generator)
        found = {name: (str(value.device), value.dtype) for name, value in found.items()}
        try:
            regulation_on(torch.device("cpu"), network).production(start)
        except RuntimeError as error:
            found["mistake"] = str(error)
    return found


@pytest.mark.skipif(not hasattr(backend_registration, REGISTER), reason="needs a newer torch")
def test_no_step_mixes_devices():
    """In a process of its own: devices are registered for good."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(run_on_pretended_device)
    assert "same device" in found.pop("mistake")
    assert set(found) == {"fixed point", "start", *langevin.NOISE_TYPES}
    assert set(found.values()) == {("pretended:0", torch.float32)}

"""Random numbers: seeds of their own for each use, and blocks that leave the caller's alone."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import pyro
import torch

from pyro_metacadi.checks import check_seed

__all__ = ["isolated", "stream_seed"]


def stream_seed(seed: int, *keys: int | str) -> int:
    """A seed of its own for each use of one seed, so that no two uses share random numbers.

    Raises:
        ConfigError: `seed` is not a whole number from 0 to 2**64 - 1.
    """
    check_seed(seed)
    digest = hashlib.sha256(repr((int(seed), *keys)).encode()).digest()
    return int.from_bytes(digest[:8], "big")


@contextmanager
def isolated(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Run with a seeded RNG and with parameters kept in the modules; restore both afterwards.

    Inside, Pyro's param store is neither read nor written; the caller's random state and Pyro
    settings are what they were once the block ends.
    """
    check_seed(seed)
    devices = [device] if torch.device(device).type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        pyro.settings.context(module_local_params=True),
    ):
        # Not torch.manual_seed, which would seed every CUDA device, saved above or not.
        torch.default_generator.manual_seed(int(seed))
        for used in devices:
            with torch.cuda.device(used):
                torch.cuda.manual_seed(int(seed))
        yield

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

with install_import_hook("pyro_metacadi", "beartype.beartype"):
    import pyro_metacadi  # noqa: F401

import pyro
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("deep", deadline=None, max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def untouched_globals():
    """Fail the test that leaves torch's or Pyro's global state other than it found it."""
    before = (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        pyro.settings.get("module_local_params"),
        set(pyro.get_param_store().keys()),
    )
    yield
    after = (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        pyro.settings.get("module_local_params"),
        set(pyro.get_param_store().keys()),
    )
    assert after == before

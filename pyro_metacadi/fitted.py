"""What a fit leaves behind, and how it is written to disk and read again."""

import os
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_metacadi import __version__
from pyro_metacadi.checks import check_count, check_seed
from pyro_metacadi.components import Components, chosen_factories
from pyro_metacadi.data.checks import within_reach
from pyro_metacadi.data.scaling import Standardizer
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import ModelFileError
from pyro_metacadi.inference.draws import Chain
from pyro_metacadi.inference.posterior import Posterior
from pyro_metacadi.inference.storage import fill_module, read_model, write_model
from pyro_metacadi.inference.training import isolated

__all__ = ["Fitted"]

DTYPES = {
    "data.values": torch.float64,
    "data.num_rows": torch.int64,
    "scaling.mean": torch.float64,
    "scaling.scale": torch.float64,
}

# What reading an entry of the wrong type or shape can raise.
DAMAGE = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Fitted:
    """One fit: the training tasks, their scaling, and one trained chain per restart.

    Attributes:
        tasks: Training tasks, in the user's units.
        scaling: Fitted on them.
        chains: Trained models and guides.
        history: Of each chain, the objective's terms by name, shape ``[step]``.
        seed: Of the first chain.
    """

    tasks: TaskDataset
    scaling: Standardizer
    chains: tuple[Chain, ...]
    history: tuple[dict[str, np.ndarray], ...]
    seed: int

    def posterior(
        self, tasks: TaskDataset, *, seed: int, num_graphs: int | None = None
    ) -> Posterior:
        """Posterior for `tasks` over the same variables, reordered by name where need be.

        Values far outside the training data are cut, with a warning (see `within_reach`).
        """
        aligned = tasks.align(self.tasks.variables)
        return Posterior(
            self.chains,
            aligned,
            standardised=within_reach(self.scaling.transform(aligned), aligned),
            num_graphs=num_graphs,
            seed=seed,
            attrs={"inference_library": "pyro_metacadi", "version": __version__, "seed": seed},
        )

    @cached_property
    def training_posterior(self) -> Posterior:
        """Posterior for the training tasks."""
        return self.posterior(self.tasks, seed=self.seed)

    def save(self, folder: str | os.PathLike[str], *, components: Components) -> None:
        """Write a model folder (see `write_model`)."""
        header = {
            "pyro_metacadi": __version__,
            "variables": self.tasks.variables,
            "tasks": self.tasks.tasks,
            "num_chains": len(self.chains),
            "seed": self.seed,
            "components": components.to_json(),
        }
        write_model(folder, header, self._tensors())

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {
            "data.values": torch.tensor(self.tasks.values),
            "data.num_rows": torch.tensor(self.tasks.num_rows),
            "scaling.mean": torch.tensor(self.scaling.mean),
            "scaling.scale": torch.tensor(self.scaling.scale),
        }
        for index, (chain, record) in enumerate(zip(self.chains, self.history, strict=True)):
            for part, module in chain._asdict().items():
                for name, value in module.state_dict().items():
                    tensors[f"chain{index}.{part}.{name}"] = value
            for name, values in record.items():
                tensors[f"chain{index}.history.{name}"] = torch.tensor(values)
        return tensors

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        device: torch.device,
        replacements: dict[str, Any],
    ) -> tuple["Fitted", Components]:
        """Read what `save` wrote; `replacements` are components that are not this package's.

        Raises:
            ConfigError: A replacement is that of no part, or no factory.
            ModelFileError: The folder is missing, truncated, inconsistent or of another schema.
        """
        factories = chosen_factories(**replacements)
        header, tensors = read_model(folder)
        try:
            components = Components.from_json(header["components"], **factories)
            components.build_objective()  # not needed before the next fit, but refused now if bad
            return cls._restore(header, tensors, components=components, device=device), components
        except ModelFileError as error:
            raise ModelFileError(f"model '{os.fspath(folder)}': {error}") from error
        except DAMAGE as error:
            raise ModelFileError(
                f"model '{os.fspath(folder)}': expected the entries that MetaCaDI.save writes, got "
                f"a damaged one ({' '.join(str(error).split())}). Save or copy the model again."
            ) from error

    @classmethod
    def _restore(
        cls,
        header: dict[str, Any],
        tensors: dict[str, Tensor],
        *,
        components: Components,
        device: torch.device,
    ) -> "Fitted":
        _check_consistent(header, tensors)
        ends = tensors["data.num_rows"].cumsum(0)[:-1]
        arrays = [rows.numpy() for rows in tensors["data.values"].tensor_split(ends)]
        tasks = TaskDataset.from_arrays(
            arrays, variables=header["variables"], tasks=header["tasks"]
        )
        mean, scale = (tensors[f"scaling.{name}"].numpy() for name in ("mean", "scale"))
        chains, history = [], []
        for index in range(header["num_chains"]):
            with isolated(0):
                chain = components.build(len(tasks.variables))
            for part, module in chain._asdict().items():
                fill_module(module, tensors, prefix=f"chain{index}.{part}.")
            chains.append(chain.to(device))
            prefix = f"chain{index}.history."
            names = [name for name in tensors if name.startswith(prefix)]
            history.append({name.removeprefix(prefix): tensors[name].numpy() for name in names})
        _check_history(history)
        _check_all_used(tensors, num_chains=len(chains))
        scaling = Standardizer(mean, scale, tasks.variables)
        return cls(tasks, scaling, tuple(chains), tuple(history), header["seed"])


def _check_consistent(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Refuse entries that are well-formed one by one but do not belong together."""
    check_seed(header["seed"])
    check_count("num_chains", header["num_chains"])
    num_rows, values = tensors["data.num_rows"], tensors["data.values"]
    mean, scale = tensors["scaling.mean"], tensors["scaling.scale"]
    for name, dtype in DTYPES.items():
        _refuse_unless(tensors[name].dtype == dtype, name, tensors[name].dtype)
    for name in ("variables", "tasks"):
        _refuse_unless(isinstance(header[name], list), name, header[name])
    shape = (len(header["variables"]),)
    checks = {
        "data.num_rows": (num_rows > 0).all() and num_rows.sum() == len(values),
        "scaling.mean": mean.shape == shape and mean.isfinite().all(),
        "scaling.scale": scale.shape == shape and scale.isfinite().all() and (scale > 0).all(),
    }
    for name, consistent in checks.items():
        _refuse_unless(bool(consistent), name, tensors[name].tolist())


def _check_history(history: Sequence[dict[str, np.ndarray]]) -> None:
    """Refuse records without a loss, of unequal length, or with NaN."""
    lengths = [{name: values.shape for name, values in record.items()} for record in history]
    steps = lengths[0].get("loss")
    _refuse_unless(steps is not None and len(steps) == 1, "history", sorted(lengths[0]))
    for record, shapes in zip(history, lengths, strict=True):
        _refuse_unless(shapes == dict.fromkeys(lengths[0], steps), "history", shapes)
        for name, values in record.items():
            _refuse_unless(not np.isnan(values).any(), f"history of {name}", "NaN")


def _check_all_used(tensors: dict[str, Tensor], *, num_chains: int) -> None:
    parts = (*Chain._fields, "history")
    used = tuple(f"chain{index}.{part}." for index in range(num_chains) for part in parts)
    for name, tensor in tensors.items():
        known = name in DTYPES or name.startswith(used)
        _refuse_unless(known, f"tensor '{name}'", list(tensor.shape))


def _refuse_unless(consistent: bool, name: str, got: Any) -> None:
    if not consistent:
        raise ModelFileError(
            f"{name}: expected what fits the model's data and variables, got {reprlib.repr(got)}. "
            f"Save or copy the model again."
        )

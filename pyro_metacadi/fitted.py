"""What a fit leaves behind, and how it is written to disk and read again."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_metacadi import __version__
from pyro_metacadi.components import Components
from pyro_metacadi.data.scaling import Standardizer
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import ModelFileError
from pyro_metacadi.inference.draws import Chain
from pyro_metacadi.inference.posterior import Posterior
from pyro_metacadi.inference.storage import fill_module, read_model, write_model
from pyro_metacadi.inference.training import isolated

__all__ = ["Fitted"]

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
        """Posterior for `tasks` over the same variables, reordered by name where need be."""
        aligned = tasks.align(self.tasks.variables)
        return Posterior(
            self.chains,
            aligned,
            standardised=self.scaling.transform(aligned),
            num_graphs=num_graphs,
            seed=seed,
            attrs={"inference_library": "pyro_metacadi", "version": __version__, "seed": seed},
        )

    def save(self, folder: str | os.PathLike[str], *, components: Components) -> None:
        """Write a model folder (see `write_model`)."""
        header = {
            "pyro_metacadi": __version__,
            "variables": self.tasks.variables,
            "tasks": self.tasks.tasks,
            "num_chains": len(self.chains),
            "seed": int(self.seed),
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
            ModelFileError: The folder is missing, truncated, inconsistent or of another schema.
        """
        header, tensors = read_model(folder)
        try:
            components = Components.from_json(header["components"], **replacements)
            return cls._restore(header, tensors, components=components, device=device), components
        except ModelFileError as error:
            raise ModelFileError(f"model '{os.fspath(folder)}': {error}") from error
        except DAMAGE as error:
            raise ModelFileError(
                f"model '{os.fspath(folder)}': expected the entries that MetaCaDI.save writes, got "
                f"a damaged one ({error}). Save or copy the model again."
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
        scaling = Standardizer(mean, scale, tasks.variables)
        return cls(tasks, scaling, tuple(chains), tuple(history), header["seed"])


def _check_consistent(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Refuse entries that are well-formed one by one but do not belong together."""
    num_rows, values = tensors["data.num_rows"], tensors["data.values"]
    mean, scale = tensors["scaling.mean"], tensors["scaling.scale"]
    d = len(header["variables"])
    checks = {
        "data.num_rows": (num_rows > 0).all() and num_rows.sum() == len(values),
        "scaling.mean": mean.shape == (d,) and mean.isfinite().all(),
        "scaling.scale": scale.shape == (d,) and scale.isfinite().all() and (scale > 0).all(),
        "num_chains": header["num_chains"] > 0,
        "seed": isinstance(header["seed"], int),
    }
    for name, consistent in checks.items():
        if not consistent:
            raise ModelFileError(
                f"{name}: expected what fits the model's data and variables, got "
                f"{header.get(name, tensors.get(name))}. Save or copy the model again."
            )

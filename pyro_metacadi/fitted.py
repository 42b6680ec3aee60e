"""What a fit leaves behind, and how it is written to disk and read again."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_metacadi import __version__
from pyro_metacadi.checks import check_count, check_seed
from pyro_metacadi.components import chosen_factories
from pyro_metacadi.data.checks import within_reach
from pyro_metacadi.data.coding import CovariateCoding, from_codes
from pyro_metacadi.data.declared import HIT, NOT_HIT, UNKNOWN
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.engines import ENGINES, Engine, Scaling
from pyro_metacadi.errors import ModelFileError
from pyro_metacadi.inference.chains import Chain
from pyro_metacadi.inference.posterior import Posterior
from pyro_metacadi.inference.storage import read_model, refuse_unless, write_model
from pyro_metacadi.inference.surroundings import Trained
from pyro_metacadi.inference.user_units import to_user

__all__ = ["Fitted"]

DTYPES = {"data.values": torch.float64, "data.num_rows": torch.int64}

# What reading an entry of the wrong type or shape can raise.
DAMAGE = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Fitted:
    """One fit: the training tasks, the engine, and the scaling and chains that it made of them.

    Attributes:
        tasks: Training tasks, in the user's units.
        engine: With the options of this fit.
        scaling: Fitted on the tasks.
        chains: Posteriors over graphs, fitted independently.
        history: Of each chain, ``loss`` and other series by name, shape ``[step]``.
        seed: Of the first chain.
        converged: See `Outcome`.
    """

    tasks: TaskDataset
    engine: Engine
    scaling: Scaling
    chains: tuple[Chain, ...]
    history: tuple[dict[str, np.ndarray], ...]
    seed: int
    converged: bool | None

    @property
    def joint_history(self) -> dict[str, np.ndarray]:
        """The history of one chain, or of several, ``[chain, step]``, padded with NaN."""
        if len(self.history) == 1:
            return self.history[0]
        most = max(len(record["loss"]) for record in self.history)
        return {name: _padded([r[name] for r in self.history], most) for name in self.history[0]}

    def posterior(
        self, tasks: TaskDataset, *, seed: int, num_graphs: int | None = None
    ) -> Posterior:
        """Posterior for `tasks` over the same variables, reordered by name where need be.

        Values far outside the training data are cut, with a warning (see `within_reach`).
        """
        aligned, scaling = tasks.align(self.tasks.variables), self.scaling
        rows = within_reach(
            scaling.transform(aligned), aligned, reach=scaling.reach, reach_in=scaling.reach_in
        )
        return Posterior(
            self.chains,
            aligned,
            standardised=rows,
            num_graphs=num_graphs,
            seed=seed,
            restore=partial(to_user, scaling.units),
            history=self.history,
            attrs={"inference_library": "pyro_metacadi", "version": __version__, "seed": seed},
            trained=Trained(
                self.tasks, scaling.units, lambda: self.training_posterior.target_probs.values
            ),
        )

    @cached_property
    def training_posterior(self) -> Posterior:
        """Posterior for the training tasks."""
        return self.posterior(self.tasks, seed=self.seed)

    @cached_property
    def range(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Least and largest value of every variable in training; None of rows on disk."""
        if self.tasks.on_disk:
            return None
        return self.tasks.values.min(axis=0), self.tasks.values.max(axis=0)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a model folder (see `write_model`)."""
        header = {
            "pyro_metacadi": __version__,
            "variables": self.tasks.variables,
            "tasks": self.tasks.tasks,
            "covariates": dict(CovariateCoding.of(self.tasks.covariates).groups),
            "num_chains": len(self.chains),
            "seed": self.seed,
            "converged": self.converged,
            "engine": self.engine.name,
            "components": self.engine.to_json(),
        }
        rows = self.tasks.values if self.tasks.on_disk else None
        write_model(folder, header, self._tensors(), rows=rows)

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {
            "data.num_rows": torch.tensor(self.tasks.num_rows),
            **{f"scaling.{name}": value for name, value in self.scaling.tensors().items()},
        }
        if not self.tasks.on_disk:
            tensors["data.values"] = torch.tensor(self.tasks.values)
        if self.tasks.known_targets is not None:
            tensors["data.known_targets"] = torch.tensor(self.tasks.known_targets)
        if self.tasks.covariates:
            coding = CovariateCoding.of(self.tasks.covariates)
            tensors["data.covariates"] = torch.tensor(coding.codes(self.tasks.covariates))
        for index, (chain, record) in enumerate(zip(self.chains, self.history, strict=True)):
            for name, value in chain.tensors().items():
                tensors[f"chain{index}.{name}"] = value
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
    ) -> "Fitted":
        """Read what `save` wrote; `replacements` are components that are not this package's.

        Raises:
            ConfigError: A replacement is that of no part, or no factory.
            ModelFileError: The folder is missing, truncated, inconsistent or of another schema.
        """
        factories = chosen_factories(**replacements)
        header, tensors, rows = read_model(folder)
        try:
            engine = _engine_named(header["engine"]).from_json(header["components"], **factories)
            return cls._restore(header, tensors, rows, engine=engine, device=device)
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
        rows: np.ndarray | None,
        *,
        engine: Engine,
        device: torch.device,
    ) -> "Fitted":
        _check_consistent(header, tensors, rows)
        num_chains, tasks = header["num_chains"], _read_tasks(header, tensors, rows)
        chains, scaling = engine.restore(tensors, tasks=tasks, num_chains=num_chains, device=device)
        history = tuple(_read_history(tensors, index=index) for index in range(num_chains))
        _check_history(history)
        fit = cls(tasks, engine, scaling, chains, history, header["seed"], header.get("converged"))
        for name in sorted(tensors.keys() - fit._tensors().keys()):
            refuse_unless(False, f"tensor '{name}'", list(tensors[name].shape))
        return fit


def _engine_named(name: Any) -> type[Engine]:
    if name not in tuple(ENGINES):
        raise ModelFileError(
            f"engine: expected {' or '.join(map(repr, ENGINES))}, got {name!r}. Load it with the "
            f"version of pyro_metacadi that saved it."
        )
    return ENGINES[name]


def _read_tasks(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], rows: np.ndarray | None
) -> TaskDataset:
    num_rows = tensors["data.num_rows"]
    covariates, groups = None, header.get("covariates")  # older models do not know any
    if groups:
        kind = tensors["data.covariates"].dtype
        refuse_unless(kind == torch.float64, "data.covariates", kind)
        covariates = from_codes(tensors["data.covariates"].numpy(), groups)
    shape = (len(num_rows), len(header["variables"]))
    beside = {
        "variables": header["variables"],
        "tasks": header["tasks"],
        "covariates": covariates,
    }
    known = _read_known(tensors, shape=shape)
    if rows is not None:
        mapped = TaskDataset.from_memmap(rows, num_rows=num_rows.numpy(), **beside)
        return mapped.with_known_targets(known)
    parts = tensors["data.values"].tensor_split(num_rows.cumsum(0)[:-1])
    arrays = [part.numpy() for part in parts]
    return TaskDataset.from_arrays(arrays, known_targets=known, **beside)


def _read_known(tensors: Mapping[str, Tensor], *, shape: tuple[int, int]) -> Any:
    known = tensors.get("data.known_targets")  # where nothing was declared, there is none
    if known is None:
        return None
    fits = known.dtype == torch.int8 and known.shape == shape
    refuse_unless(fits, "data.known_targets", [known.dtype, list(known.shape)])
    values = known.unique().tolist()
    refuse_unless(set(values) <= {HIT, NOT_HIT, UNKNOWN}, "data.known_targets", values)
    return known.numpy()


def _check_consistent(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], rows: np.ndarray | None
) -> None:
    """Refuse entries that are well-formed one by one but do not belong together."""
    check_seed(header["seed"])
    check_count("num_chains", header["num_chains"])
    converged = header.get("converged")  # older models do not know
    refuse_unless(converged is None or isinstance(converged, bool), "converged", converged)
    for name, dtype in DTYPES.items():
        if rows is None or name != "data.values":
            refuse_unless(tensors[name].dtype == dtype, name, tensors[name].dtype)
    for name in ("variables", "tasks"):
        refuse_unless(isinstance(header[name], list), name, header[name])
    num_rows = tensors["data.num_rows"]
    total = len(tensors["data.values"] if rows is None else rows)
    consistent = (num_rows > 0).all() and num_rows.sum() == total
    refuse_unless(bool(consistent), "data.num_rows", num_rows.tolist())


def _read_history(tensors: Mapping[str, Tensor], *, index: int) -> dict[str, np.ndarray]:
    prefix = f"chain{index}.history."
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors[name].numpy() for name in names}


def _check_history(history: Sequence[dict[str, np.ndarray]]) -> None:
    """Refuse records without a loss, of other series than the first chain's, or with NaN.

    A chain's series have one length; chains may have stopped one before the other.
    """
    for record in history:
        shapes = {name: values.shape for name, values in record.items()}
        steps = shapes.get("loss")
        refuse_unless(steps is not None and len(steps) == 1, "history", sorted(shapes))
        refuse_unless(shapes == dict.fromkeys(history[0], steps), "history", shapes)
        for name, values in record.items():
            refuse_unless(not np.isnan(values).any(), f"history of {name}", "NaN")


def _padded(series: Sequence[np.ndarray], length: int) -> np.ndarray:
    whole = [np.pad(s, (0, length - len(s)), constant_values=np.nan) for s in series]
    return np.stack(whole)

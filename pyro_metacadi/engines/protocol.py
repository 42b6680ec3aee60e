"""What a way to get chains from tasks must do."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pyro_metacadi.data.counts import CountUnits
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.data.scaling import Standardizer
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.inference.chains import Chain
from pyro_metacadi.inference.training import Callback
from pyro_metacadi.typing import Array

__all__ = ["Engine", "MemoryNeeded", "Outcome", "Scaling"]


@runtime_checkable
class Scaling(Protocol):
    """The map from the user's units to those of the chains, fitted on the training tasks."""

    @property
    def reach(self) -> float:
        """Size of the values, in the units of the chains, beyond which they are to be cut."""
        ...

    @property
    def reach_in(self) -> str:
        """What `reach` is counted in, for messages."""
        ...

    @property
    def units(self) -> Standardizer | Representation | CountUnits:
        """The map, for densities (see `log_derivative`)."""
        ...

    def transform(self, tasks: TaskDataset) -> Sequence[Array]:
        """Each task's rows in the units of the chains: float64 arrays ``[rows, variable]``."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All that is to be saved, by name."""
        ...


class MemoryNeeded(NamedTuple):
    """Bytes that a fit takes: an estimate.

    Attributes:
        least: Where as little as possible is computed at once.
        most: Where nothing is computed in parts or twice.
    """

    least: int
    most: int


class Outcome(NamedTuple):
    """What an engine makes of tasks.

    Attributes:
        chains: Posteriors over graphs, fitted independently.
        history: Of each chain, ``loss`` and other series of shape ``[step]`` by name.
        scaling: Of the data.
        converged: Whether more steps or draws would hardly change the chains, as far as the engine
            can tell; None if it cannot.
    """

    chains: tuple[Chain, ...]
    history: tuple[dict[str, np.ndarray], ...]
    scaling: Scaling
    converged: bool | None = None


@runtime_checkable
class Engine(Protocol):
    """A way to get chains from tasks, with the options that the user chose."""

    name: ClassVar[str]
    """As in ``MetaCaDI(engine=...)`` and in saved models."""

    fits_to_support: ClassVar[bool]
    """Whether a new task's own rows are all that its interventional mechanisms are learned from."""

    @property
    def components(self) -> Any:
        """The options, shown as `MetaCaDI.components`."""
        ...

    @classmethod
    def resolve(cls, **choices: Any) -> "Engine":
        """An engine with the choices of `MetaCaDI`; None means the default.

        Raises:
            ConfigError: A choice is bad, or not this engine's to make.
        """
        ...

    @classmethod
    def from_json(cls, data: Any, **replacements: Any) -> "Engine":
        """The inverse of `to_json`; `replacements` supply parts that are not this package's.

        Raises:
            ModelFileError: An entry is missing or bad, or names no part of this package.
        """
        ...

    def to_json(self) -> dict[str, Any]:
        """The options as plain data."""
        ...

    def fit_chains(
        self,
        tasks: TaskDataset,
        *,
        num_steps: int | None,
        num_chains: int | None,
        seed: int,
        device: torch.device,
        memory: int,
        progress: bool,
        callbacks: Sequence[Callback],
    ) -> Outcome:
        """Learn from `tasks`; arguments as in `MetaCaDI.fit`, which checked all but `num_steps`.

        A `num_chains` of None is the engine's default; `memory` is in bytes.

        Raises:
            ConfigError: It cannot be done with so little `memory`.

        Warns:
            MetaCaDIWarning: The chains have not converged; says what to do.
        """
        ...

    def memory_needed(self, tasks: TaskDataset, *, device: torch.device) -> MemoryNeeded:
        """Bytes that fitting to `tasks` takes, beside the tasks themselves."""
        ...

    def restore(
        self,
        tensors: Mapping[str, Tensor],
        *,
        tasks: TaskDataset,
        num_chains: int,
        device: torch.device,
    ) -> tuple[tuple[Chain, ...], Scaling]:
        """Chains and scaling from their `tensors`, saved under ``chain{index}.`` and ``scaling.``.

        The `tasks` are those that were trained on.

        Raises:
            ModelFileError: A tensor is bad or does not fit the others.
            KeyError: A tensor is missing.
        """
        ...

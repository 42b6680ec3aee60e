"""The evidence engine: mechanisms and targets integrated out, graphs by Markov chains."""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pyro_metacadi.checks import check_count
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.engines.evidence_scaling import EvidenceScaling
from pyro_metacadi.errors import ConfigError, ModelFileError
from pyro_metacadi.inference.evidence import Sampling, evidence_of, fit_evidence
from pyro_metacadi.inference.evidence_chain import EvidenceChain
from pyro_metacadi.inference.library import MechanismLibrary
from pyro_metacadi.inference.search import CERTAIN
from pyro_metacadi.inference.storage import refuse_unless
from pyro_metacadi.inference.training import Callback
from pyro_metacadi.ops.graphs import check_dag
from pyro_metacadi.typing import Array

__all__ = ["EvidenceEngine", "EvidenceOptions"]

EXPECTED_PARENTS = 1.0
"""A priori, of a variable, unless the user says otherwise."""


@dataclass(frozen=True)
class EvidenceOptions:
    """Choices of the evidence engine.

    Attributes:
        graph_prior: Probability of an edge that the order allows, one number or a matrix
            ``[parent, child]`` in which 0 forbids and 1 requires an edge; None for one expected
            parent per variable. With a matrix, graphs have the odds of their edges.
        target_prior: Probability of a task hitting a variable; None learns it.
        sampling: Representation of the data, chains and draws.
    """

    graph_prior: float | list[list[float]] | None = None
    target_prior: float | None = None
    sampling: Sampling = field(default_factory=Sampling)

    def edge_log_odds(self, num_variables: int) -> Array:
        """Log prior odds of every edge ``[parent, child]``.

        Raises:
            ConfigError: The matrix has another shape, or requires a cycle.
        """
        prior = self.graph_prior
        if prior is None:
            prior = min(0.5, 2 * EXPECTED_PARENTS / max(1, num_variables - 1))
        matrix = np.asarray(prior, dtype=float)
        if matrix.shape not in ((), (num_variables, num_variables)):
            raise ConfigError(
                f"graph_prior: expected one probability or a matrix "
                f"{[num_variables, num_variables]} [parent, child], got shape "
                f"{list(matrix.shape)}. Pass one row and one column per variable."
            )
        with np.errstate(divide="ignore"):
            odds = np.log(matrix) - np.log1p(-matrix)
        return np.broadcast_to(np.clip(odds, -CERTAIN, CERTAIN), (num_variables, num_variables))


@dataclass(frozen=True)
class EvidenceEngine:
    """See the module."""

    name: ClassVar[str] = "evidence"
    components: EvidenceOptions

    @classmethod
    def resolve(
        cls,
        *,
        graph_prior: float | ArrayLike | None = None,
        target_prior: float | None = None,
        sampling: Sampling | None = None,
        **others: Any,
    ) -> "EvidenceEngine":
        """An engine with the user's choices; those of the other engine are refused by name."""
        for part, choice in others.items():
            if choice is not None:
                raise ConfigError(
                    f"{part}: expected none with engine='evidence', which integrates mechanisms "
                    f"and targets out, got {choice!r}. Pass engine='svi' with it."
                )
        if sampling is not None and not isinstance(sampling, Sampling):
            raise ConfigError(
                f"sampling: expected a Sampling, got {sampling!r}. Use Sampling(num_draws=1000)."
            )
        options = EvidenceOptions(
            _probabilities(graph_prior), _probability(target_prior), sampling or Sampling()
        )
        return cls(options)

    @classmethod
    def from_json(cls, data: Any, **replacements: Any) -> "EvidenceEngine":
        """An engine with the options that were written down."""
        if replacements:
            raise ConfigError(
                f"components: expected none for a model of engine 'evidence', got "
                f"{next(iter(replacements))!r}. Leave it out."
            )
        try:
            choices = {**data, "sampling": Sampling(**data["sampling"])}
            return cls.resolve(**choices)
        except (ConfigError, KeyError, TypeError) as error:
            raise ModelFileError(
                f"model.json: expected the options of the engine, got a damaged entry ({error}). "
                f"Save the model again."
            ) from error

    def to_json(self) -> dict[str, Any]:
        """The options as plain data."""
        return asdict(self.components)

    def fit_chains(
        self,
        tasks: TaskDataset,
        *,
        num_steps: int | None,
        num_chains: int | None,
        seed: int,
        device: torch.device,
        progress: bool,
        callbacks: Sequence[Callback],
    ) -> tuple[tuple[EvidenceChain, ...], tuple[dict[str, np.ndarray], ...], EvidenceScaling]:
        """Learn hyper-parameters and sample graphs; `num_steps` is the number of draws kept."""
        sampling = self.components.sampling
        if num_steps is not None:
            num_draws = check_count("num_steps", num_steps)
            sampling = Sampling(**{**asdict(sampling), "num_draws": num_draws})
        representation = Representation.fit(tasks, kind=sampling.representation)
        prior = self.components.target_prior

        def on_draw(step: int, draw: dict[str, Tensor]) -> None:
            for callback in callbacks:
                callback(step, {"loss": -draw["log_score"].mean()})

        fit = fit_evidence(
            evidence_of(
                tasks,
                representation,
                target_prior=1 / (len(tasks.variables) + 1) if prior is None else prior,
                seed=seed,
                device=device,
            ),
            edge_log_odds=self.components.edge_log_odds(len(tasks.variables)),
            target_prior=prior,
            sampling=sampling,
            num_chains=num_chains or sampling.num_chains,
            seed=seed,
            progress=progress,
            on_draw=on_draw,
        )
        library = MechanismLibrary(fit.evidence)
        chains = tuple(
            EvidenceChain(library, *pair) for pair in zip(fit.adjacency, fit.log_score, strict=True)
        )
        history = tuple({"loss": -chain.log_score.numpy()} for chain in chains)
        return chains, history, EvidenceScaling(representation, fit.evidence)

    def restore(
        self,
        tensors: Mapping[str, Tensor],
        *,
        variables: tuple[str, ...],
        num_chains: int,
        device: torch.device,
    ) -> tuple[tuple[EvidenceChain, ...], EvidenceScaling]:
        """Chains of saved graphs over mechanisms that are fitted again when needed."""
        scaling = EvidenceScaling.restore(tensors, variables=variables, device=device)
        library, d = MechanismLibrary(scaling.evidence), len(variables)
        chains = []
        for index in range(num_chains):
            adjacency, score = (
                tensors[f"chain{index}.{name}"] for name in ("adjacency", "log_score")
            )
            fits = adjacency.dtype == torch.int8 and adjacency.shape[1:] == (d, d)
            refuse_unless(fits, f"chain{index}.adjacency", list(adjacency.shape))
            binary = bool(((adjacency == 0) | (adjacency == 1)).all())
            refuse_unless(binary, f"chain{index}.adjacency", "values other than 0 and 1")
            consistent = score.shape == adjacency.shape[:1] and bool(score.isfinite().all())
            refuse_unless(consistent, f"chain{index}.log_score", list(score.shape))
            chains.append(EvidenceChain(library, adjacency, score))
        return tuple(chains), scaling


def _probability(target_prior: Any) -> float | None:
    if target_prior is None:
        return None
    if not isinstance(target_prior, Real) or not 0 < float(target_prior) < 1:
        raise ConfigError(
            f"target_prior: expected a probability between 0 and 1, got {target_prior!r}. One "
            f"target among d variables is 1 / d."
        )
    return float(target_prior)


def _probabilities(graph_prior: Any) -> float | list[list[float]] | None:
    if graph_prior is None:
        return None
    try:
        values = np.asarray(graph_prior, dtype=float)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"graph_prior: expected a probability or a matrix [parent, child] of them, got "
            f"{reprlib.repr(graph_prior)}. Pass a number such as 0.1, or engine='svi' with a class."
        ) from error
    if not ((values >= 0) & (values <= 1)).all() or (values.ndim == 0 and values in (0, 1)):
        raise ConfigError(
            f"graph_prior: expected probabilities, got {reprlib.repr(graph_prior)}. Pass a number "
            f"such as 0.1."
        )
    if values.ndim == 2 and values.shape[0] == values.shape[1]:
        check_dag(torch.tensor(values == 1).int())
    return values.tolist()

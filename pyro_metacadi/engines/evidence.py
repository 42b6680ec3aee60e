"""The evidence engine: mechanisms and targets integrated out, graphs by Markov chains."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from pyro_metacadi.checks import check_count
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.engines.evidence_memory import check_memory_suffices, evidence_memory
from pyro_metacadi.engines.evidence_options import EvidenceOptions
from pyro_metacadi.engines.evidence_scaling import EvidenceScaling, check_tensor
from pyro_metacadi.engines.protocol import MemoryNeeded, Outcome
from pyro_metacadi.errors import ConfigError, MetaCaDIWarning, ModelFileError
from pyro_metacadi.inference.convergence import AGREEMENT, chains_agree
from pyro_metacadi.inference.evidence import Sampling, evidence_of, fit_evidence
from pyro_metacadi.inference.evidence_chain import EvidenceChain
from pyro_metacadi.inference.graph_score import GraphOdds
from pyro_metacadi.inference.library import MechanismLibrary
from pyro_metacadi.inference.storage import refuse_unless
from pyro_metacadi.inference.training import Callback
from pyro_metacadi.models.evidence import MechanismEvidence
from pyro_metacadi.parts import Factory, find_part

__all__ = ["EvidenceEngine"]


@dataclass(frozen=True)
class EvidenceEngine:
    """See the module. All rows are in memory, also those of datasets on disk."""

    name: ClassVar[str] = "evidence"
    fits_to_support: ClassVar[bool] = False
    components: EvidenceOptions

    @classmethod
    def resolve(
        cls,
        *,
        graph_prior: float | ArrayLike | Factory | None = None,
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
        return cls(EvidenceOptions.checked(graph_prior, target_prior, sampling))

    @classmethod
    def from_json(cls, data: Any, **replacements: Any) -> "EvidenceEngine":
        """An engine with the options that were written down."""
        for name in replacements.keys() - {"graph_prior"}:
            raise ConfigError(
                f"components: expected none but a graph_prior for a model of engine 'evidence', "
                f"got {name!r}. Leave it out."
            )
        try:
            names = [one.name for one in fields(EvidenceOptions)]
            if sorted(data) != sorted(names):
                raise ConfigError(f"options: expected {', '.join(names)}, got {', '.join(data)}")
            prior = replacements.get("graph_prior") or data["graph_prior"]
            if isinstance(prior, dict):
                prior = find_part("graph_prior", prior)
            options = {**data, "graph_prior": prior, "sampling": Sampling(**data["sampling"])}
            return cls.resolve(**options)
        except (ConfigError, KeyError, TypeError) as error:
            raise ModelFileError(
                f"model.json: expected the options of the engine, got a damaged entry ({error}). "
                f"Save the model again."
            ) from error

    def to_json(self) -> dict[str, Any]:
        """The options as plain data."""
        return self.components.to_json()

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
        """Learn hyper-parameters and sample graphs; `num_steps` is the number of draws kept."""
        sampling = self.components.sampling
        if num_steps is not None:
            num_draws = check_count("num_steps", num_steps)
            sampling = Sampling(**{**asdict(sampling), "num_draws": num_draws})
        check_memory_suffices(memory, tasks)
        representation = Representation.fit(tasks, kind=sampling.representation)
        prior = self.components.target_prior
        odds = self.components.graph_odds(tasks.variables)

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
                memory=memory,
            ),
            graph_odds=odds,
            target_prior=prior,
            sampling=sampling,
            num_chains=num_chains or sampling.num_chains,
            seed=seed,
            atoms=representation.kind != "log",  # whose zero is a one
            progress=progress,
            on_draw=on_draw,
        )
        draws = zip(fit.adjacency, fit.log_score, strict=True)
        chains = _chains(fit.evidence, draws, odds=odds)
        history = tuple({"loss": -chain.log_score.numpy()} for chain in chains)
        agree = chains_agree(fit.log_score.numpy())
        if agree is False:
            warnings.warn(
                f"fit: expected chains that agree about the graph's log score (R-hat below "
                f"{AGREEMENT}), got others after {sampling.num_draws} draws. Pass a larger "
                f"num_steps.",
                MetaCaDIWarning,
                stacklevel=3,
            )
        return Outcome(chains, history, EvidenceScaling(representation, fit.evidence), agree)

    def memory_needed(self, tasks: TaskDataset, *, device: torch.device) -> MemoryNeeded:
        """What scoring parent sets takes: counted, and rather too much than too little."""
        return evidence_memory(tasks)

    def restore(
        self,
        tensors: Mapping[str, Tensor],
        *,
        tasks: TaskDataset,
        num_chains: int,
        device: torch.device,
    ) -> tuple[tuple[EvidenceChain, ...], EvidenceScaling]:
        """Chains of saved graphs over mechanisms that are fitted again when needed."""
        scaling = EvidenceScaling.restore(tensors, tasks=tasks, device=device)
        num_variables = len(tasks.variables)
        odds = self._graph_odds(tasks.variables)
        draws = (
            _draws(tensors, f"chain{index}", num_variables=num_variables)
            for index in range(num_chains)
        )
        return _chains(scaling.evidence, draws, odds=odds), scaling

    def _graph_odds(self, variables: Sequence[str]) -> GraphOdds:
        try:
            return self.components.graph_odds(variables)
        except ConfigError as error:
            raise ModelFileError(str(error)) from error


def _chains(
    evidence: MechanismEvidence, draws: Iterable[tuple[Tensor, Tensor]], *, odds: GraphOdds
) -> tuple[EvidenceChain, ...]:
    """Chains of these graphs and log scores, over one library."""
    library = MechanismLibrary(evidence)
    chains = tuple(EvidenceChain(library, *pair, odds) for pair in draws)
    library.expect(family for chain in chains for family in chain.usual_graphs.families)
    return chains


def _draws(
    tensors: Mapping[str, Tensor], chain: str, *, num_variables: int
) -> tuple[Int[Tensor, "draw parent child"], Float[Tensor, " draw"]]:
    """Graphs and log scores of a saved chain."""
    adjacency, score = (f"{chain}.{name}" for name in ("adjacency", "log_score"))
    num_draws = tensors[adjacency].shape[:1]
    refuse_unless(num_draws.numel() > 0, adjacency, list(tensors[adjacency].shape))
    shape = (*num_draws, num_variables, num_variables)
    graphs = check_tensor(tensors, adjacency, dtype=torch.int8, shape=shape)
    refuse_unless(bool(((graphs == 0) | (graphs == 1)).all()), adjacency, "others than 0 and 1")
    refuse_unless(_acyclic(graphs), adjacency, "a cycle")
    sizes = {name: list(tensors[name].shape) for name in (adjacency, score)}
    refuse_unless(tensors[score].shape == num_draws, f"{adjacency} and {score}", sizes)
    return graphs, check_tensor(tensors, score, dtype=torch.float64, shape=num_draws)


def _acyclic(graphs: Int[Tensor, "draw parent child"]) -> bool:
    """Whether all graphs are: variables without parents are taken away until none is left."""
    edge = graphs.float()
    left = edge.new_ones(edge.shape[:2])
    for _ in range(edge.shape[-1]):
        left = left * ((left.unsqueeze(1) @ edge).squeeze(1) > 0)
    return not left.any()

"""Fitting by evidence: hyper-parameters, then a search, then Markov chains over graphs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from pyro_metacadi.data.representation import REPRESENTATIONS, Representation
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.candidates import score_table
from pyro_metacadi.inference.empirical_bayes import (
    best_kernel,
    best_law,
    informative,
    initial_law,
    row_correlation,
    target_rate,
)
from pyro_metacadi.inference.graph_score import CERTAIN, GraphOdds, GraphScore, adjacency_of
from pyro_metacadi.inference.num_targets import odds_beside_others, target_counts
from pyro_metacadi.inference.order_mcmc import sample_graphs
from pyro_metacadi.inference.redrawn import learned_redrawn_share
from pyro_metacadi.inference.screening import screen_of
from pyro_metacadi.inference.search import climb
from pyro_metacadi.inference.seeds import stream_seed
from pyro_metacadi.inference.zeros import has_zeros, learned_hurdle_law
from pyro_metacadi.models.evidence import MechanismEvidence
from pyro_metacadi.models.families import Family, families_of
from pyro_metacadi.models.hyperparameters import Hyperparameters
from pyro_metacadi.ops.graphs import topological_order
from pyro_metacadi.ops.kernels import Kernel
from pyro_metacadi.ops.rows import TaskRows

__all__ = ["EvidenceFit", "Sampling", "evidence_of", "fit_evidence"]

FIRST_KERNEL = Kernel(length_scale=2.0, amplitude=1.0)
"""Of the first search; the second takes the best for its graph."""

FIRST_RESOLUTION, LAST_RESOLUTION = 1 / 3, 2.0
"""Of mechanisms in the first search, and of rough ones where graphs of chains are scored."""

ENOUGH_VARIABLES = 50
"""To learn from what all variables share."""

NUM_LANDMARKS = 256
"""Enough for the finest mechanisms, those that targets are inferred with."""


@dataclass(frozen=True)
class Sampling:
    """How the evidence engine represents data and samples graphs.

    Attributes:
        num_draws: Graphs kept of each chain.
        warmup: Draws left out before them.
        num_chains: Unless `MetaCaDI.fit` says otherwise.
        representation: ``"auto"``, ``"identity"``, ``"sqrt"``, ``"log"`` or ``"counts"``, see
            `pyro_metacadi.data.representation.Representation`.
    """

    num_draws: int = 500
    warmup: int = 200
    num_chains: int = 4
    representation: str = "auto"

    def __post_init__(self) -> None:
        for name, least in {"num_draws": 1, "warmup": 0, "num_chains": 1}.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
                raise ConfigError(
                    f"{name}: expected a whole number of at least {least}, got {value!r}. The "
                    f"default is {self.__dataclass_fields__[name].default}."
                )
            object.__setattr__(self, name, int(value))  # numpy's whole numbers are no JSON
        known = isinstance(self.representation, str)
        if not known or self.representation not in ("auto", *REPRESENTATIONS):
            raise ConfigError(
                f"representation: expected 'auto' or one of "
                f"{', '.join(map(repr, REPRESENTATIONS))}, got {self.representation!r}. Use "
                f"'auto' if in doubt."
            )


@dataclass(frozen=True, eq=False)
class EvidenceFit:
    """What a fit finds: scores of families under the final hyper-parameters, and graphs."""

    evidence: MechanismEvidence
    adjacency: Int[Tensor, "chain draw parent child"]
    log_score: Float[Tensor, "chain draw"]


def evidence_of(
    tasks: TaskDataset,
    representation: Representation,
    *,
    hyperparameters: Hyperparameters | None = None,
    landmarks: Float[Tensor, "landmark input"] | None = None,
    target_prior: float = 0.1,
    prior_log_odds: Float[Tensor, "task variable"] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    memory: int | None = None,
) -> MechanismEvidence:
    """Data in the units of the model, and hyper-parameters to begin with.

    Args:
        tasks: Training tasks, and what is known of their targets.
        representation: Fitted on them.
        hyperparameters: By default, those of the first search.
        landmarks: Rows that span the mechanisms' functions; by default random ones.
        target_prior: Of the first search.
        prior_log_odds: See `MechanismEvidence`.
        seed: Of the landmarks.
        device: Where scores are computed.
        memory: See `MechanismEvidence`.
    """
    rows = TaskRows.from_arrays(
        representation.transform(tasks),
        num_covariates=representation.num_covariates,
        device=device,
    )
    scale, offset = (torch.tensor(part, device=device) for part in representation.law_units)
    known = tasks.known_targets
    if hyperparameters is None:
        law = initial_law(float(offset.median()), device=device)
        hyperparameters = Hyperparameters(FIRST_KERNEL, 0.0, target_prior, law)
    if landmarks is None:
        generator = torch.Generator().manual_seed(stream_seed(seed, "landmarks") % 2**63)
        chosen = torch.randperm(len(rows.x), generator=generator)[:NUM_LANDMARKS]
        landmarks = rows.inputs[chosen.to(rows.x.device)]
    return MechanismEvidence(
        rows,
        scale=scale,
        offset=offset,
        hyperparameters=hyperparameters,
        landmarks=landmarks,
        prior_log_odds=prior_log_odds,
        known=None if known is None else torch.tensor(known, device=device),
        memory=memory,
    )


def fit_evidence(
    evidence: MechanismEvidence,
    *,
    graph_odds: GraphOdds,
    target_prior: float | None,
    sampling: Sampling,
    num_chains: int,
    seed: int,
    atoms: bool = True,
    progress: bool = False,
    on_draw: Callable[[int, dict[str, Tensor]], None] | None = None,
) -> EvidenceFit:
    """Alternate hyper-parameters and greedy search twice, then sample graphs.

    The first graph has the required edges only.

    Args:
        evidence: See `evidence_of`.
        graph_odds: Prior of the graph.
        target_prior: Of a task hitting a variable; None learns it.
        sampling: Draws and warm-up.
        num_chains: At least 1.
        seed: Of the chains.
        atoms: Whether a value of 0 before standardisation is none at all.
        progress: Whether to show a bar.
        on_draw: See `sample_graphs`.
    """
    families = families_of(torch.tensor(graph_odds.edge_log_odds >= CERTAIN))
    with tqdm(total=5, disable=not progress, desc="fit", leave=False) as bar:
        for again in (False, True):
            evidence = _learned(evidence, families, target_prior=target_prior, kernel=again)
            evidence = evidence.agreed_upon()
            bar.update()
            # The first graph is for the second hyper-parameters: coarse mechanisms will do.
            scored = evidence if again else evidence.with_resolution(FIRST_RESOLUTION)
            families = climb(families, _graph_score(scored, graph_odds))
            bar.update()
        explored = _graph_score(evidence, graph_odds)
        if evidence.hyperparameters.is_rough:
            evidence = evidence.with_resolution(LAST_RESOLUTION)
        table = score_table(
            families,
            replace(explored, evidence=evidence.scores),
            explored=explored,
            tier=graph_odds.tier,
        )
        draws = sample_graphs(
            table,
            num_chains=num_chains,
            num_draws=sampling.num_draws,
            warmup=sampling.warmup,
            seed=seed,
            initial_orders=_orders(families, num_chains=num_chains),
            on_draw=on_draw,
        )
        if graph_odds.structured is not None:
            draws = graph_odds.structured.resampled(draws, seed=seed)
        bar.update()
    evidence = _ready_to_judge(evidence, families, target_prior=target_prior, atoms=atoms)
    return EvidenceFit(evidence, draws["adjacency"], draws["log_score"])


def _graph_score(evidence: MechanismEvidence, prior: GraphOdds) -> GraphScore:
    """Scores of families, and which are worth trying."""
    worth = screen_of(evidence, prior.edge_log_odds)
    return GraphScore(evidence.scores, prior.edge_log_odds, worth, prior.max_indegree)


def _ready_to_judge(
    evidence: MechanismEvidence,
    families: Sequence[Family],
    *,
    target_prior: float | None,
    atoms: bool,
) -> MechanismEvidence:
    """The evidence with what only targets need: other laws of hits, and how many there are."""
    families = informative(evidence, families)
    if atoms and families and has_zeros(evidence, families):
        evidence = _but(evidence, hurdle=learned_hurdle_law(evidence, families))
    elif families:
        evidence = _but(evidence, redrawn_share=learned_redrawn_share(evidence, families))
    if target_prior is None:
        evidence = _but(evidence, num_targets=target_counts(evidence, families))
    return evidence


def _but(evidence: MechanismEvidence, **changes: Any) -> MechanismEvidence:
    """The same data under other hyper-parameters."""
    return evidence.with_hyperparameters(replace(evidence.hyperparameters, **changes))


def _learned(
    evidence: MechanismEvidence,
    families: Sequence[Family],
    *,
    target_prior: float | None,
    kernel: bool,
) -> MechanismEvidence:
    """The evidence under hyper-parameters learned for these families, if a variable varies."""
    families = informative(evidence, families)
    if not families:
        return evidence
    chosen = np.linspace(0, len(families) - 1, min(len(families), ENOUGH_VARIABLES))
    some = [families[at] for at in chosen.round().astype(int)]
    evidence = _but(evidence, correlation=row_correlation(evidence, some))
    evidence = _but(evidence, law=best_law(evidence, some))
    if target_prior is None:
        evidence = _but(evidence, target_prior=target_rate(evidence, families))
    if kernel:
        evidence = evidence.with_hyperparameters(best_kernel(evidence, some))
        if target_prior is None:
            evidence = evidence.with_prior(odds_beside_others(evidence, families))
    return evidence


def _orders(families: Sequence[Family], *, num_chains: int) -> Int[Tensor, "chain variable"]:
    adjacency = torch.tensor(np.array(adjacency_of(families)), dtype=torch.long)
    return topological_order(adjacency).expand(num_chains, -1).clone()

"""What the chains of an evidence fit share, and how it is saved: units and hyper-parameters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import mode
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.checks import check_memory
from pyro_metacadi.data.checks import REACH, STANDARD_DEVIATIONS
from pyro_metacadi.data.coding import CovariateCoding
from pyro_metacadi.data.declared import HIT, NOT_HIT, UNKNOWN
from pyro_metacadi.data.representation import REPRESENTATIONS, Representation
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.inference.evidence import evidence_of
from pyro_metacadi.inference.storage import refuse_unless
from pyro_metacadi.models.evidence import MechanismEvidence
from pyro_metacadi.models.hyperparameters import Hyperparameters
from pyro_metacadi.ops.hurdle_hits import HurdleLaw
from pyro_metacadi.ops.kernels import Kernel
from pyro_metacadi.ops.law import InterventionLaw
from pyro_metacadi.typing import Array

__all__ = ["EvidenceScaling", "check_tensor"]

LAW = tuple(one.name for one in fields(InterventionLaw))
KERNEL = tuple(one.name for one in fields(Kernel))
NUMBERS = ("correlation", "target_prior", "redrawn_share")
RANGES: dict[str, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys(
        ("scale", "length_scale", "amplitude", "law.scale"), lambda values: (values > 0).all()
    ),
    **dict.fromkeys(("correlation", "long_share"), lambda value: (value >= 0) & (value <= 1)),
    "redrawn_share": lambda value: (value >= 0) & (value < 1),
    "target_prior": lambda value: (value > 0) & (value < 1),
    "law.shift": lambda values: (values >= 0).all(),
    "law.weight": lambda values: (values > 0).all() & ((values.sum() - 1).abs() < 1e-6),
    "num_targets": lambda values: (
        (values >= 0).all() & ((values.numel() == 0) | ((values.sum() - 1).abs() < 1e-6))
    ),
    "hurdle": lambda values: (
        (values[4:] > 0).all() & ((values.numel() == 0) | ((values[5:].sum() - 1).abs() < 1e-6))
    ),
}
TENSORS = (
    *("kind", "mean", "scale", "landmarks", "num_targets", "prior_log_odds", "hurdle"),
    *KERNEL,
    *NUMBERS,
    *(f"law.{name}" for name in LAW),
)


@dataclass(frozen=True)
class EvidenceScaling:
    """Representation of the data and what was learned with it: all that chains share."""

    reach: ClassVar[float] = REACH
    reach_in: ClassVar[str] = STANDARD_DEVIATIONS
    representation: Representation
    evidence: MechanismEvidence

    @property
    def units(self) -> Representation:
        """The units of the data."""
        return self.representation

    @property
    def has_atom(self) -> bool:
        """Whether values are judged by laws with an atom at zero."""
        return self.evidence.hyperparameters.hurdle is not None

    def transform(self, tasks: TaskDataset) -> list[Array]:
        """Each task's rows in the units of the mechanisms, covariates last."""
        return self.representation.transform(tasks)

    def tensors(self) -> dict[str, Tensor]:
        """Representation, hyper-parameters and landmarks."""
        hyper = self.evidence.hyperparameters
        kind = REPRESENTATIONS.index(self.representation.kind)
        return {
            "kind": torch.tensor(kind),
            "mean": torch.tensor(self.representation.mean),
            "scale": torch.tensor(self.representation.scale),
            "landmarks": self.evidence.landmarks.clone(),
            "prior_log_odds": self.evidence.prior_log_odds.clone(),
            **{name: _number(getattr(hyper.kernel, name)) for name in KERNEL},
            **{name: _number(getattr(hyper, name)) for name in NUMBERS},
            **{f"law.{name}": getattr(hyper.law, name).clone() for name in LAW},
            "num_targets": _or_empty(hyper.num_targets),
            "hurdle": _or_empty(None if hyper.hurdle is None else hyper.hurdle.to_tensor()),
        }

    @classmethod
    def restore(
        cls, tensors: Mapping[str, Tensor], *, tasks: TaskDataset, device: torch.device
    ) -> "EvidenceScaling":
        """The inverse of `tensors`, of names that start with ``scaling.``, and the training tasks.

        Raises:
            ModelFileError: A tensor is bad or does not fit the others.
            KeyError: A tensor is missing.
        """
        coding = CovariateCoding.of(tasks.covariates)
        _check(tensors, tasks=tasks, num_coded=len(coding.is_indicator))
        part = {name: tensors[f"scaling.{name}"] for name in TENSORS}
        representation = Representation(
            REPRESENTATIONS[int(part["kind"])],
            part["mean"].numpy(),
            part["scale"].numpy(),
            tasks.variables,
            coding,
        )
        law = InterventionLaw(*(part[f"law.{name}"].to(device) for name in LAW))
        hurdle = part["hurdle"].to(device)
        num_targets = part["num_targets"].to(device)
        numbers: dict[str, Any] = {name: float(part[name]) for name in NUMBERS}
        hyperparameters = Hyperparameters(
            kernel=Kernel(**{name: float(part[name]) for name in KERNEL}),
            law=law,
            num_targets=num_targets if num_targets.numel() else None,
            hurdle=HurdleLaw.from_tensor(hurdle) if hurdle.numel() else None,
            **numbers,
        )
        evidence = evidence_of(
            tasks,
            representation,
            hyperparameters=hyperparameters,
            landmarks=part["landmarks"].to(device),
            prior_log_odds=part["prior_log_odds"].to(device),
            device=device,
            memory=check_memory(None, device),
        )
        return cls(representation, evidence)


def check_tensor(
    tensors: Mapping[str, Tensor],
    name: str,
    *,
    dtype: torch.dtype,
    shape: Sequence[int],
    infinite: bool = False,
) -> Tensor:
    """The tensor of that name, if it has this type and shape and finite (or infinite) numbers.

    Raises:
        ModelFileError: It has not.
        KeyError: It is missing.
    """
    tensor = tensors[name]
    refuse_unless(tensor.dtype == dtype, name, tensor.dtype)
    refuse_unless(tensor.shape == tuple(shape), name, list(tensor.shape))
    numbers = ~tensor.isnan() if infinite else tensor.isfinite()
    refuse_unless(bool(numbers.all()), name, "NaN or infinity")
    return tensor


def _number(value: float) -> Float[Tensor, ""]:
    return torch.tensor(value, dtype=torch.float64)


def _or_empty(values: Tensor | None) -> Float[Tensor, " value"]:
    return torch.empty(0, dtype=torch.float64) if values is None else values.clone()


def _check(tensors: Mapping[str, Tensor], *, tasks: TaskDataset, num_coded: int) -> None:
    num_variables = len(tasks.variables)
    kind = int(check_tensor(tensors, "scaling.kind", dtype=torch.int64, shape=()))
    refuse_unless(0 <= kind < len(REPRESENTATIONS), "scaling.kind", kind)
    width = num_variables + (REPRESENTATIONS[kind] == "counts") + num_coded
    # What most parts of the law say, so that the one that differs is the one that is named.
    components = mode(tensors[f"scaling.law.{name}"].numel() - (name == "weight") for name in LAW)
    landmarks = tensors["scaling.landmarks"].shape[:1]
    refuse_unless(landmarks.numel() > 0, "scaling.landmarks", list(landmarks))
    shapes: dict[str, tuple[int, ...]] = {
        "mean": (width,),
        "scale": (width,),
        "landmarks": (*landmarks, width),
        **dict.fromkeys((*KERNEL, *NUMBERS), ()),
        "prior_log_odds": (len(tasks), num_variables),
        "hurdle": (7 * bool(tensors["scaling.hurdle"].numel()),),
        "num_targets": (min(tensors["scaling.num_targets"].numel(), num_variables + 1),),
        **{f"law.{name}": (components + (name == "weight"),) for name in LAW},
    }
    dtypes = {"landmarks": torch.float32, "law.relative": torch.bool}
    for name, shape in shapes.items():
        dtype = dtypes.get(name, torch.float64)
        values = check_tensor(
            tensors, f"scaling.{name}", dtype=dtype, shape=shape, infinite=name == "prior_log_odds"
        )
        valid = RANGES[name](values) if name in RANGES else True
        refuse_unless(bool(valid), f"scaling.{name}", values.tolist())
    _check_known(tensors["scaling.prior_log_odds"], tasks)
    either = not tensors["scaling.hurdle"].numel() or float(tensors["scaling.redrawn_share"]) == 0
    refuse_unless(either, "scaling.redrawn_share", "a share beside hurdle laws")


def _check_known(odds: Float[Tensor, "task variable"], tasks: TaskDataset) -> None:
    """Refuse odds that are infinite for other targets than those that are known."""
    unknown = torch.full_like(odds, UNKNOWN, dtype=torch.int8)
    known = unknown if tasks.known_targets is None else torch.tensor(tasks.known_targets)
    fits = (odds == torch.inf) == (known == HIT)
    fits &= (odds == -torch.inf) == (known == NOT_HIT)
    refuse_unless(bool(fits.all()), "scaling.prior_log_odds", odds[~fits].tolist())

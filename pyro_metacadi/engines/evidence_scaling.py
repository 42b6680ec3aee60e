"""What the chains of an evidence fit share, and how it is saved: units and hyper-parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from pyro_metacadi.data.representation import REPRESENTATIONS, Representation
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.inference.evidence import evidence_of
from pyro_metacadi.inference.storage import refuse_unless
from pyro_metacadi.models.evidence import Hyperparameters, MechanismEvidence
from pyro_metacadi.ops.law import InterventionLaw
from pyro_metacadi.typing import Array

__all__ = ["EvidenceScaling"]

LAW = tuple(one.name for one in fields(InterventionLaw))
NUMBERS = ("length_scale", "amplitude", "correlation", "target_prior")
TENSORS = ("kind", "mean", "scale", "landmarks", *NUMBERS, *(f"law.{name}" for name in LAW))


@dataclass(frozen=True)
class EvidenceScaling:
    """Representation of the data and what was learned with it: all that chains share."""

    representation: Representation
    evidence: MechanismEvidence

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
            **{name: torch.tensor(getattr(hyper, name), dtype=torch.float64) for name in NUMBERS},
            **{f"law.{name}": getattr(hyper.law, name).clone() for name in LAW},
        }

    @classmethod
    def restore(
        cls, tensors: Mapping[str, Tensor], *, variables: tuple[str, ...], device: torch.device
    ) -> "EvidenceScaling":
        """The inverse of `tensors`, of names that start with ``scaling.``, with the data.

        Raises:
            ModelFileError: A tensor is bad or does not fit the others.
            KeyError: A tensor is missing.
        """
        _check(tensors, num_variables=len(variables))
        part = {name: tensors[f"scaling.{name}"] for name in TENSORS}
        representation = Representation(
            REPRESENTATIONS[int(part["kind"])],
            part["mean"].numpy(),
            part["scale"].numpy(),
            variables,
        )
        law = InterventionLaw(*(part[f"law.{name}"].to(device) for name in LAW))
        hyperparameters = Hyperparameters(**{name: float(part[name]) for name in NUMBERS}, law=law)
        ends = tensors["data.num_rows"].cumsum(0)[:-1]
        arrays = [rows.numpy() for rows in tensors["data.values"].tensor_split(ends)]
        evidence = evidence_of(
            TaskDataset.from_arrays(arrays, variables=variables),
            representation,
            hyperparameters=hyperparameters,
            landmarks=part["landmarks"].to(device),
            device=device,
        )
        return cls(representation, evidence)


def _check(tensors: Mapping[str, Tensor], *, num_variables: int) -> None:
    kind = tensors["scaling.kind"]
    refuse_unless(kind.shape == () and 0 <= int(kind) < len(REPRESENTATIONS), "kind", kind)
    width = num_variables + (REPRESENTATIONS[int(kind)] == "counts")
    components = len(tensors["scaling.law.slope"])
    shapes = {
        "mean": (width,),
        "scale": (width,),
        "landmarks": (len(tensors["scaling.landmarks"]), width),
        **dict.fromkeys(NUMBERS, ()),
        **{f"law.{name}": (components + (name == "weight"),) for name in LAW},
    }
    for name, shape in shapes.items():
        tensor = tensors[f"scaling.{name}"]
        fits = tensor.shape == shape and bool(tensor.isfinite().all())
        refuse_unless(fits, f"scaling.{name}", list(tensor.shape))
    for name in ("scale", "length_scale", "amplitude", "target_prior", "law.scale"):
        positive = bool((tensors[f"scaling.{name}"] > 0).all())
        refuse_unless(positive, f"scaling.{name}", tensors[f"scaling.{name}"].tolist())

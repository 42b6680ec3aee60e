"""The exchangeable parts of a MetaCaDI model: how they are chosen, built and written down.

A part is a class, or a `functools.partial` of one that fixes some options. It is built once the
number of variables is known. Parts of this package are saved by name and options; a user's own
class cannot be (nothing is pickled), so `MetaCaDI.load` asks for it again.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np

from pyro_metacadi.errors import ConfigError, ModelFileError
from pyro_metacadi.guides.adaptation import RidgeAdaptation
from pyro_metacadi.guides.dag import DAGGuide
from pyro_metacadi.guides.metacadi import MetaCaDIGuide
from pyro_metacadi.guides.targets import FlattenedDeepSets
from pyro_metacadi.inference.draws import Chain
from pyro_metacadi.inference.objective import ELBOObjective, MetaCaDIObjective, PaperObjective
from pyro_metacadi.inference.training import Training
from pyro_metacadi.models.mechanisms import Mechanisms
from pyro_metacadi.models.metacadi import MetaCaDIModel
from pyro_metacadi.models.noise import GaussianNoise
from pyro_metacadi.models.priors import SparseGraphPrior

__all__ = ["Components"]

Factory = Callable[..., Any]

OBJECTIVES: dict[str, Factory] = {"paper": PaperObjective, "elbo": ELBOObjective}
FACTORIES = ("objective", "graph_prior", "noise", "predictor", "adaptation", "mechanisms")


@dataclass(frozen=True)
class Components:
    """One choice of every part. Fields are as in `MetaCaDI`, resolved to factories."""

    objective: Factory = PaperObjective
    graph_prior: Factory = SparseGraphPrior
    target_prior: float = 0.1
    noise: Factory = GaussianNoise
    predictor: Factory = FlattenedDeepSets
    adaptation: Factory = RidgeAdaptation
    mechanisms: Factory = Mechanisms
    training: Training = field(default_factory=Training)

    @classmethod
    def resolve(cls, **choices: Any) -> "Components":
        """Components from the user's choices; None means the default.

        Raises:
            ConfigError: A choice is neither a factory nor one of the accepted short forms.
        """
        given = {name: value for name, value in choices.items() if value is not None}
        if isinstance(given.get("objective"), str):
            given["objective"] = _named_objective(given["objective"])
        prior = given.get("graph_prior")
        if prior is not None and not callable(prior):
            given["graph_prior"] = _sparse_prior(prior)
        for name in FACTORIES:
            # Instances of modules are callable as well.
            if name in given and not isinstance(given[name], type | partial | FunctionType):
                raise ConfigError(
                    f"{name}: expected a class or a functools.partial of one, got "
                    f"{given[name]!r}. Pass the class, not an instance."
                )
        target_prior = given.get("target_prior", cls.target_prior)
        if not 0 < target_prior < 1:
            raise ConfigError(
                f"target_prior: expected a probability between 0 and 1, got {target_prior!r}. "
                f"One target among d variables is 1 / d."
            )
        if given.get("objective") is ELBOObjective:
            # A bound on the evidence of all query rows needs them all.
            given.setdefault("training", Training(query_size=None))
        return cls(**given)

    def build(self, num_variables: int) -> Chain:
        """A fresh model and guide over `num_variables`, initialised from torch's RNG."""
        mechanisms = self.mechanisms(num_variables)
        model = MetaCaDIModel(
            num_variables,
            mechanisms=mechanisms,
            noise=self.noise(num_variables, mechanisms.num_features),
            graph_prior=self.graph_prior(num_variables),
            target_prior=self.target_prior,
        )
        guide = MetaCaDIGuide(
            model,
            dag=DAGGuide(num_variables),
            adaptation=self.adaptation(),
            predictor=self.predictor(num_variables),
        )
        return Chain(model, guide)

    def build_objective(self) -> MetaCaDIObjective:
        """A fresh objective."""
        return self.objective()

    def to_json(self) -> dict[str, Any]:
        """The choices as plain data: names and options of factories, numbers."""
        described: dict[str, Any] = {name: _describe(getattr(self, name)) for name in FACTORIES}
        return {
            **described,
            "target_prior": _plain("target_prior", self.target_prior),
            "training": {k: _plain(k, value) for k, value in asdict(self.training).items()},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any], **replacements: Any) -> "Components":
        """The inverse of `to_json`; `replacements` supply parts that are not this package's.

        Raises:
            ModelFileError: An entry is missing or names a class that is not this package's.
        """
        try:
            parts = {name: replacements.get(name) or _find(name, data[name]) for name in FACTORIES}
            return cls(
                target_prior=float(data["target_prior"]),
                training=Training(**data["training"]),
                **parts,
            )
        except (KeyError, TypeError) as error:
            raise ModelFileError(
                f"model.json: expected the options of every component, got a damaged entry "
                f"({error}). Save the model again."
            ) from error


def _named_objective(name: str) -> Factory:
    if name not in OBJECTIVES:
        raise ConfigError(
            f"objective: expected one of {', '.join(map(repr, OBJECTIVES))} or an objective "
            f"class, got {name!r}."
        )
    return OBJECTIVES[name]


def _sparse_prior(probability: Any) -> Factory:
    try:
        values = np.asarray(probability, dtype=float).tolist()
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"graph_prior: expected a probability, a matrix [parent, child] of them, or a class, "
            f"got {probability!r}."
        ) from error
    return partial(SparseGraphPrior, probability=values)


def _describe(factory: Factory) -> dict[str, Any]:
    options = dict(factory.keywords) if isinstance(factory, partial) else {}
    target = factory.func if isinstance(factory, partial) else factory
    name = f"{target.__module__}.{getattr(target, '__qualname__', type(target).__name__)}"
    return {"class": name, "options": {key: _plain(key, value) for key, value in options.items()}}


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(key, item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ConfigError(
        f"option {key!r}: expected a number, a string or a list of them, so that it can be saved, "
        f"got {type(value).__name__}. Build the value inside the component from plain options."
    )


def _find(part: str, described: dict[str, Any]) -> Factory:
    """The factory that `_describe` wrote down; only this package's own modules are imported."""
    module, _, name = described["class"].rpartition(".")
    if module.split(".")[0] != "pyro_metacadi":
        raise ModelFileError(
            f"model.json: the {part} is {described['class']!r}, which is not part of "
            f"pyro_metacadi. Pass it again: MetaCaDI.load(..., {part}={name})."
        )
    try:
        factory = getattr(importlib.import_module(module), name, None)
    except ImportError:
        factory = None
    if not isinstance(factory, type):
        raise ModelFileError(
            f"model.json: expected a known {part}, got {described['class']!r}. Load it with the "
            f"version of pyro_metacadi that saved it."
        )
    return partial(factory, **described["options"]) if described["options"] else factory

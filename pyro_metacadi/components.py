"""The exchangeable parts of a MetaCaDI model: how they are chosen, built and written down.

A part is a class, or a `functools.partial` of one that fixes some options. It is built once the
number of variables is known. Parts of this package are saved by name and options; a user's own
class cannot be (nothing is pickled), so `MetaCaDI.load` asks for it again.
"""

import reprlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from pyro_metacadi.checks import refuse_labels
from pyro_metacadi.errors import ConfigError, ModelFileError
from pyro_metacadi.guides.adaptation import Adaptation, RidgeAdaptation
from pyro_metacadi.guides.dag import DAGGuide
from pyro_metacadi.guides.metacadi import MetaCaDIGuide
from pyro_metacadi.guides.targets import FlattenedDeepSets, TargetPredictor
from pyro_metacadi.inference.draws import SVIChain
from pyro_metacadi.inference.objective import ELBOObjective, MetaCaDIObjective, PaperObjective
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.inference.training import Training
from pyro_metacadi.models.expert import ExpertGraphPrior
from pyro_metacadi.models.mechanisms import Mechanisms
from pyro_metacadi.models.metacadi import MetaCaDIModel
from pyro_metacadi.models.noise.gaussian import GaussianNoise
from pyro_metacadi.models.noise.protocol import Noise
from pyro_metacadi.models.prior_checks import check_law
from pyro_metacadi.models.priors import GraphPrior, SparseGraphPrior, constraints_of
from pyro_metacadi.parts import Factory, build_part, check_factory, describe, find_part, plain
from pyro_metacadi.typing import Array

__all__ = ["Components", "chosen_factories"]

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
    def resolve(
        cls, *, target_prior: Any = None, training: Any = None, **parts: Any
    ) -> "Components":
        """Components from the user's choices; None means the default.

        Raises:
            ConfigError: A choice is neither a factory nor one of the accepted short forms.
        """
        factories = chosen_factories(**parts)
        if training is None:
            # A bound on the evidence of all query rows needs them all.
            all_rows = factories.get("objective") is ELBOObjective
            training = Training(query_size=None) if all_rows else Training()
        if not isinstance(training, Training):
            raise ConfigError(
                f"training: expected a Training, got {training!r}. Use "
                f"pyro_metacadi.inference.Training(num_steps=1000)."
            )
        prior = cls.target_prior if target_prior is None else _target_prior(target_prior)
        return cls(target_prior=prior, training=training, **factories)

    def build(self, num_variables: int, *, variables: Sequence[str] | None = None) -> SVIChain:
        """A fresh model and guide over `num_variables`, initialised from torch's RNG.

        Names of `variables` are for graph priors that speak of them.

        Raises:
            ConfigError: A factory cannot be called as documented, or makes something else.
        """
        d = num_variables
        mechanisms = self._built("mechanisms", Mechanisms, d)
        sizes = {"num_variables": d, "num_features": mechanisms.num_features}
        graph_prior = self._built("graph_prior", GraphPrior, d, variables=variables)
        with isolated(0):  # another, for a module that has run cannot become part of a model
            check_law(self._built("graph_prior", GraphPrior, d, variables=variables), d)
        noise = self._built("noise", Noise, *sizes.values())
        adaptation = self._built("adaptation", Adaptation, **sizes)
        model = MetaCaDIModel(
            d,
            mechanisms=mechanisms,
            noise=noise,
            graph_prior=graph_prior,
            target_prior=self.target_prior,
            adapts=adaptation.adapts,
        )
        guide = MetaCaDIGuide(
            model,
            dag=DAGGuide(d, constraints=constraints_of(graph_prior)),
            adaptation=adaptation,
            predictor=self._built("predictor", TargetPredictor, d),
        )
        return SVIChain(model, guide)

    def build_noise(self, num_variables: int) -> Noise:
        """A noise model to be asked what it is for; the caller's random state is untouched."""
        with isolated(0):
            mechanisms = self._built("mechanisms", Mechanisms, num_variables)
            noise: Noise = self._built("noise", Noise, num_variables, mechanisms.num_features)
        return noise

    def build_objective(self) -> MetaCaDIObjective:
        """A fresh objective; raises as `build` does."""
        return self._built("objective", MetaCaDIObjective)

    def _built(self, name: str, kind: type, *sizes: int, **names: Any) -> Any:
        """The part of that name, which must be of that kind."""
        return build_part(name, getattr(self, name), kind, *sizes, **names)

    def to_json(self) -> dict[str, Any]:
        """The choices as plain data: names and options of factories, numbers."""
        described: dict[str, Any] = {name: describe(getattr(self, name)) for name in FACTORIES}
        return {
            **described,
            "target_prior": plain("target_prior", self.target_prior),
            "training": {k: plain(k, value) for k, value in asdict(self.training).items()},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any], **replacements: Any) -> "Components":
        """The inverse of `to_json`; `replacements` supply parts that are not this package's.

        Raises:
            ModelFileError: An entry is missing or bad, or names no part of this package.
        """
        try:
            parts = {
                name: replacements.get(name) or find_part(name, data[name]) for name in FACTORIES
            }
            return cls(
                target_prior=_target_prior(data["target_prior"]),
                training=Training(**data["training"]),
                **parts,
            )
        except (ConfigError, KeyError, TypeError) as error:
            raise ModelFileError(
                f"model.json: expected the options of every component, got a damaged entry "
                f"({error}). Save the model again."
            ) from error


def chosen_factories(**choices: Any) -> dict[str, Factory]:
    """Factories from the user's choices of parts, without those that are None.

    Raises:
        ConfigError: A name is that of no part, or a choice is neither a factory nor a short form.
    """
    unknown = sorted(choices.keys() - set(FACTORIES))
    if unknown:
        raise ConfigError(
            f"components: expected some of {', '.join(FACTORIES)}, got {unknown[0]!r}. Leave it "
            f"out or correct the name."
        )
    return {name: _factory(name, value) for name, value in choices.items() if value is not None}


def _factory(name: str, choice: Any) -> Factory:
    if name == "objective" and isinstance(choice, str):
        return _named_objective(choice)
    if name == "graph_prior" and not callable(choice):
        return _sparse_prior(choice)
    return check_factory(name, choice)


def _target_prior(value: Any) -> float:
    if not isinstance(value, Real) or not 0 < float(value) < 1:
        raise ConfigError(
            f"target_prior: expected a probability between 0 and 1, got {value!r}. One target "
            f"among d variables is 1 / d."
        )
    return float(value)


def _named_objective(name: str) -> Factory:
    if name not in OBJECTIVES:
        raise ConfigError(
            f"objective: expected one of {', '.join(map(repr, OBJECTIVES))} or an objective "
            f"class, got {name!r}. Use 'paper' if in doubt."
        )
    return OBJECTIVES[name]


def _sparse_prior(probability: Any) -> Factory:
    refuse_labels("graph_prior", probability)
    try:
        values = np.asarray(probability, dtype=float).tolist()
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"graph_prior: expected a probability, a matrix [parent, child] of them, or a class, "
            f"got {reprlib.repr(probability)}. Pass a number such as 0.1."
        ) from error
    certain = isinstance(values, list) and _has_certain(np.asarray(values))
    return partial(ExpertGraphPrior if certain else SparseGraphPrior, probability=values)


def _has_certain(matrix: Array) -> bool:
    """Whether an edge off the diagonal is required or forbidden."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        return False
    off_diagonal = matrix[~np.eye(len(matrix), dtype=bool)]
    return bool(((off_diagonal == 0) | (off_diagonal == 1)).any())

"""`MetaCaDI`: fit on experiments, then tell of new ones who was hit."""

import os
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pyro_metacadi import __version__
from pyro_metacadi.components import Components, Factory
from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.data.checks import warn_about
from pyro_metacadi.data.scaling import Standardizer
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import ConfigError, MetaCaDIError, MetaCaDIWarning, ModelFileError
from pyro_metacadi.inference.draws import Chain
from pyro_metacadi.inference.posterior import Posterior
from pyro_metacadi.inference.storage import fill_module, read_model, write_model
from pyro_metacadi.inference.training import Callback, Training, isolated, train

__all__ = ["MetaCaDI"]

COLLAPSED = 0.5


class MetaCaDI:
    """Causal discovery from experiments with unknown interventions.

    >>> mc = MetaCaDI().fit(tasks)                    # doctest: +SKIP
    >>> mc.posterior.edge_probs                       # doctest: +SKIP
    >>> mc.adapt(new_tasks).rank_targets()            # doctest: +SKIP

    Every part may be exchanged for a class, or a `functools.partial` of one:

    Args:
        engine: ``"svi"``, the paper's: a DP-DAG guide trained by stochastic variational inference.
        objective: ``"paper"`` (Eq. 7), ``"elbo"``, or an objective class.
        graph_prior: A probability, a matrix ``[parent, child]`` of probabilities, or a `GraphPrior`
            class built as ``cls(num_variables)``.
        target_prior: Prior probability that a variable is a target.
        noise: A `Noise` class, built as ``cls(num_variables, num_features)``.
        predictor: A `TargetPredictor` class, built as ``cls(num_variables)``.
        adaptation: An `Adaptation` class, built without arguments.
        mechanisms: A `Mechanisms` class, built as ``cls(num_variables)``.
        training: Steps, learning rates and support size.

    Raises:
        ConfigError: An option is unknown or out of range.
    """

    def __init__(
        self,
        *,
        engine: str = "svi",
        objective: str | Factory = "paper",
        graph_prior: float | ArrayLike | Factory | None = None,
        target_prior: float | None = None,
        noise: Factory | None = None,
        predictor: Factory | None = None,
        adaptation: Factory | None = None,
        mechanisms: Factory | None = None,
        training: Training | None = None,
    ) -> None:
        if engine != "svi":
            raise ConfigError(f"engine: expected 'svi', got {engine!r}.")
        self.components = Components.resolve(
            objective=objective,
            graph_prior=graph_prior,
            target_prior=target_prior,
            noise=noise,
            predictor=predictor,
            adaptation=adaptation,
            mechanisms=mechanisms,
            training=training,
        )
        self._chains: list[Chain] = []
        self._history: list[dict[str, np.ndarray]] = []
        self._tasks: TaskDataset | None = None
        self._scaling: Standardizer | None = None
        self._seed = 0

    @classmethod
    def paper(cls, **overrides: Any) -> "MetaCaDI":
        """The paper's configuration (Eq. 7, ridge readout, flattened DeepSets); see `__init__`.

        The paper's widths, weights and schedule are not public; those here are our choice.
        """
        return cls(**{"engine": "svi", "objective": "paper", **overrides})

    def fit(
        self,
        tasks: TaskDataset,
        *,
        num_steps: int | None = None,
        num_chains: int = 1,
        seed: int = 0,
        device: str | torch.device = "auto",
        progress: bool = True,
        callbacks: Sequence[Callback] = (),
    ) -> "MetaCaDI":
        """Learn the shared graph, the mechanisms and the target predictor from `tasks`.

        Args:
            tasks: Experiments; the targets of none are known, observational ones are welcome.
            num_steps: Gradient steps; default as in `training`.
            num_chains: Independent restarts, whose posteriors are averaged with equal weight.
            seed: The same seed gives the same bytes on the same machine; the caller's random
                state is untouched.
            device: ``"auto"`` takes CUDA where there is any.
            progress: Whether to show a progress bar.
            callbacks: Called as ``callback(step, terms)`` after every step.

        Returns:
            This model, fitted. If anything fails, an earlier fit is kept.

        Raises:
            ConfigError: An argument is out of range, or CUDA is asked for where there is none.
            MetaCaDIError: The loss diverged.

        Warns:
            MetaCaDIWarning: The data cannot tell what is asked, or the targets collapsed.
        """
        where = _device(device)
        options = self.components.training
        if num_steps is not None:
            options = Training(**{**vars(options), "num_steps": num_steps})
        if num_chains < 1:
            raise ConfigError(f"num_chains: expected at least 1, got {num_chains}.")
        warn_about(tasks)
        scaling = Standardizer.fit(tasks)
        batch = TaskBatch.from_arrays(scaling.transform(tasks), device=where)
        chains, history = [], []
        for index in range(num_chains):
            with isolated(seed + index, where):
                chain = self.components.build(len(tasks.variables)).to(where)
                record = train(
                    *chain,
                    batch,
                    objective=self.components.build_objective(),
                    options=options,
                    callbacks=callbacks,
                    progress=progress,
                )
            chains.append(chain)
            history.append(record)
        self._set(tasks, scaling, chains=chains, history=history, seed=seed)
        self._warn_if_collapsed()
        return self

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables of the fitted model."""
        return self._fitted()[0].variables

    @property
    def history(self) -> dict[str, np.ndarray]:
        """``loss`` and each term of the objective by name, shape ``[step]``, or ``[chain, step]``.

        The second shape is that of several chains. Terms are unweighted.
        """
        self._fitted()
        stacked = {name: np.stack([h[name] for h in self._history]) for name in self._history[0]}
        return stacked if len(self._history) > 1 else self._history[0]

    @cached_property
    def posterior(self) -> Posterior:
        """Posterior over the graph and the training tasks' targets."""
        tasks, _ = self._fitted()
        return self._posterior(tasks, num_graphs=None, seed=self._seed)

    def adapt(
        self, tasks: TaskDataset, *, num_graphs: int | None = None, seed: int = 0
    ) -> Posterior:
        """Posterior for other tasks, by Eq. 6 only: no gradient, and the model stays as it is.

        Each task is judged on its own, so that twenty together give the same as one by one.

        Args:
            tasks: New experiments of a few rows, over the same variables (in any order).
            num_graphs: Graphs per chain that probabilities average over; default 32.
            seed: Of these graphs.

        Raises:
            DataError: A variable is missing or unknown.
            ConfigError: `num_graphs` is not positive.
        """
        self._fitted()
        if num_graphs is not None and num_graphs < 1:
            raise ConfigError(f"num_graphs: expected at least 1, got {num_graphs}.")
        return self._posterior(tasks.align(self.variables), num_graphs=num_graphs, seed=seed)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the fitted model, its training tasks included, to a folder.

        Raises:
            ModelFileError: The folder holds something else or cannot be written.
        """
        tasks, scaling = self._fitted()
        header = {
            "pyro_metacadi": __version__,
            "variables": tasks.variables,
            "tasks": tasks.tasks,
            "num_chains": len(self._chains),
            "seed": self._seed,
            "components": self.components.to_json(),
        }
        tensors: dict[str, Tensor] = {
            "data.values": torch.tensor(tasks.values),
            "data.num_rows": torch.tensor(tasks.num_rows),
            "scaling.mean": torch.tensor(scaling.mean),
            "scaling.scale": torch.tensor(scaling.scale),
        }
        for index, (chain, record) in enumerate(zip(self._chains, self._history, strict=True)):
            for part, module in chain._asdict().items():
                for name, value in module.state_dict().items():
                    tensors[f"chain{index}.{part}.{name}"] = value
            for name, values in record.items():
                tensors[f"chain{index}.history.{name}"] = torch.tensor(values)
        write_model(folder, header, tensors)

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], *, device: str | torch.device = "auto", **components: Any
    ) -> "MetaCaDI":
        """Read a model that `save` wrote.

        Args:
            folder: Where it was saved.
            device: As in `fit`; it may differ from where the model was trained.
            components: Parts that are not this package's own, such as ``noise=MyNoise``.

        Raises:
            ModelFileError: The folder is missing, truncated, inconsistent or of another schema.
        """
        where = _device(device)
        header, tensors = read_model(folder)
        try:
            return cls._from_saved(header, tensors, where=where, components=components)
        except ModelFileError as error:
            raise ModelFileError(f"model '{os.fspath(folder)}': {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"model '{os.fspath(folder)}': expected the entries that MetaCaDI.save writes, got "
                f"a damaged one ({error}). Save or copy the model again."
            ) from error

    @classmethod
    def _from_saved(
        cls,
        header: dict[str, Any],
        tensors: dict[str, Tensor],
        *,
        where: torch.device,
        components: dict[str, Any],
    ) -> "MetaCaDI":
        ends = tensors["data.num_rows"].cumsum(0)[:-1]
        arrays = [rows.numpy() for rows in tensors["data.values"].tensor_split(ends)]
        tasks = TaskDataset.from_arrays(
            arrays, variables=header["variables"], tasks=header["tasks"]
        )
        mean, scale = (tensors[f"scaling.{name}"].numpy() for name in ("mean", "scale"))
        model = cls()
        model.components = Components.from_json(header["components"], **components)
        chains, history = [], []
        for index in range(header["num_chains"]):
            with isolated(0, where):
                chain = model.components.build(len(tasks.variables))
            for part, module in chain._asdict().items():
                fill_module(module, tensors, prefix=f"chain{index}.{part}.")
            chains.append(chain.to(where))
            prefix = f"chain{index}.history."
            history.append(
                {k.removeprefix(prefix): v.numpy() for k, v in tensors.items() if k.startswith(prefix)}
            )
        scaling = Standardizer(mean, scale, tasks.variables)
        model._set(tasks, scaling, chains=chains, history=history, seed=header["seed"])
        return model

    def _set(
        self,
        tasks: TaskDataset,
        scaling: Standardizer,
        *,
        chains: list[Chain],
        history: list[dict[str, np.ndarray]],
        seed: int,
    ) -> None:
        self._tasks, self._scaling, self._seed = tasks, scaling, seed
        self._chains, self._history = chains, history
        self.__dict__.pop("posterior", None)

    def _fitted(self) -> tuple[TaskDataset, Standardizer]:
        if self._tasks is None or self._scaling is None:
            raise MetaCaDIError("MetaCaDI: expected a fitted model. Call .fit(tasks) first.")
        return self._tasks, self._scaling

    def _posterior(self, tasks: TaskDataset, *, num_graphs: int | None, seed: int) -> Posterior:
        _, scaling = self._fitted()
        return Posterior(
            self._chains,
            tasks,
            standardised=scaling.transform(tasks),
            num_graphs=num_graphs,
            seed=seed,
            attrs={"inference_library": "pyro_metacadi", "version": __version__, "seed": seed},
        )

    def _warn_if_collapsed(self) -> None:
        mean = float(self.posterior.target_probs.mean())
        if mean > COLLAPSED:
            warnings.warn(
                f"targets: expected few per task, got a mean probability of {mean:.2f}. The "
                f"interventional mechanisms explain everything; raise the objective's "
                f"target_weight.",
                MetaCaDIWarning,
                stacklevel=3,
            )


def _device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(
            f"device: expected 'auto', 'cpu' or 'cuda', got {device!r}."
        ) from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: expected one that exists, got 'cuda'. Use device='cpu'.")
    return chosen

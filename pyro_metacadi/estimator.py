"""`MetaCaDI`: fit on experiments, then tell of new ones who was hit."""

import copy
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from pyro_metacadi._ranks import rank
from pyro_metacadi.checks import (
    check_callbacks,
    check_count,
    check_device,
    check_memory,
    check_seed,
)
from pyro_metacadi.data.checks import check_tasks, warn_about
from pyro_metacadi.data.coding import CovariateCoding
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.doubts import (
    warn_if_rows_are_few,
    warn_if_targets_collapsed,
    warn_if_units_differ,
    warn_of_conflicts,
)
from pyro_metacadi.engines import ENGINES, MemoryNeeded
from pyro_metacadi.errors import ConfigError, MetaCaDIError
from pyro_metacadi.fitted import Fitted
from pyro_metacadi.inference.evidence import Sampling
from pyro_metacadi.inference.posterior import Posterior
from pyro_metacadi.inference.training import Callback, Training
from pyro_metacadi.parts import Factory

__all__ = ["MetaCaDI"]


class MetaCaDI:
    """Causal discovery from experiments with unknown interventions.

    >>> mc = MetaCaDI().fit(tasks)                    # doctest: +SKIP
    >>> mc.posterior.edge_probs                       # doctest: +SKIP
    >>> mc.adapt(new_tasks).rank_targets()            # doctest: +SKIP

    Two engines share one `Posterior`:

    * ``"evidence"``: mechanisms integrated out, targets summed out, graphs sampled by Markov chains
      over orders. It learns from the training tasks what an intervention looks like.
    * ``"svi"``, the paper's: a DP-DAG guide trained by stochastic variational inference, whose
      parts may be exchanged for a class, or a `functools.partial` of one.

    Args:
        engine: ``"evidence"`` or ``"svi"``.
        objective: svi: ``"paper"`` (Eq. 7), ``"elbo"``, or an objective class.
        graph_prior: A probability, or a matrix ``[parent, child]`` of probabilities, in which 0
            forbids and 1 requires an edge; or a `GraphPrior` class, built as
            ``cls(num_variables)``, such as a partial of `ExpertGraphPrior` (required and forbidden
            edges, tiers, a limit of parents) or `ScaleFreeGraphPrior`, both of
            `pyro_metacadi.models`.
        target_prior: Prior probability that a variable is a target, whatever others are; evidence:
            None learns it, and how many targets a task has.
        noise: svi: a `Noise` class, built as ``cls(num_variables, num_features)``, such as those of
            `pyro_metacadi.models.noise`. With `NegativeBinomialNoise`, tasks are raw counts.
        predictor: svi: a `TargetPredictor` class, built as ``cls(num_variables)``, such as the
            paper's `FlattenedDeepSets` (the default) or `SharedDeepSets`.
        adaptation: svi: an `Adaptation` class, such as the paper's `RidgeAdaptation` (the default)
            or, as ``partial(MAMLAdaptation, parameters="all")``, an ablation of it.
        mechanisms: svi: a `Mechanisms` class, built as ``cls(num_variables)``.
        training: svi: a `Training` of `pyro_metacadi.inference`: steps, learning rates and support
            size.
        sampling: evidence: a `Sampling` of the same: representation of the data, chains and draws.

    Raises:
        ConfigError: An option is unknown or out of range.
    """

    def __init__(
        self,
        *,
        engine: str = "evidence",
        objective: str | Factory | None = None,
        graph_prior: float | ArrayLike | Factory | None = None,
        target_prior: float | None = None,
        noise: Factory | None = None,
        predictor: Factory | None = None,
        adaptation: Factory | None = None,
        mechanisms: Factory | None = None,
        training: Training | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        if engine not in tuple(ENGINES):
            expected = " or ".join(map(repr, ENGINES))
            raise ConfigError(f"engine: expected {expected}, got {engine!r}. Leave it out.")
        self._engine = ENGINES[engine].resolve(
            objective=objective,
            graph_prior=graph_prior,
            target_prior=target_prior,
            noise=noise,
            predictor=predictor,
            adaptation=adaptation,
            mechanisms=mechanisms,
            training=training,
            sampling=sampling,
        )
        self._fit: Fitted | None = None

    def __repr__(self) -> str:
        state = "not fitted"
        if self._fit is not None:
            tasks, chains = self._fit.tasks, len(self._fit.chains)
            state = f"{len(tasks)} tasks, {len(tasks.variables)} variables, {chains} chain(s)"
        return f"<MetaCaDI: engine {self.engine!r}, {state}>"

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
        num_chains: int | None = None,
        seed: int = 0,
        device: str | torch.device = "auto",
        memory_budget: int | str | None = None,
        progress: bool = True,
        callbacks: Sequence[Callback] = (),
    ) -> "MetaCaDI":
        """Learn the shared graph, the mechanisms and the target predictor from `tasks`.

        Where `torch.distributed` has a process group, all its processes fit one model together:
        each scores its part of the parent sets (evidence), or sees its part of the tasks of every
        step (svi). All of them have the model afterwards.

        Args:
            tasks: Experiments; observational ones are welcome. What is known of their targets is
                declared in them (`TaskDataset.declare`) and taken as known; nothing need be. Every
                mechanism may read their covariates (evidence only). Rows on disk
                (`TaskDataset.open`) stay there with svi, whose steps read the rows that they use.
            num_steps: svi: gradient steps at most (see `Training`); evidence: graphs kept of each
                chain. The defaults are those of `training` and `sampling`.
            num_chains: Independent restarts, whose posteriors are averaged with equal weight; by
                default 1 (svi), and as in `sampling` (evidence: Markov chains).
            seed: The same seed gives the same bytes on the same machine; the caller's random
                state is untouched.
            device: ``"auto"`` takes CUDA where there is any.
            memory_budget: What a process may take beside the tasks: bytes, or text such as
                ``"4 GB"``; by default half of the machine's (or the GPU's) memory. Where all at
                once would take more, it is computed in parts, and some of it twice, with the same
                result up to rounding. See `memory_needed`.
            progress: Whether to show a progress bar.
            callbacks: Called as ``callback(step, terms)`` after every gradient step or draw.

        Returns:
            This model, fitted. If anything fails, an earlier fit is kept.

        Raises:
            DataError: `tasks` are not a `TaskDataset`, have covariates (svi), or are no counts for
                a noise model of counts.
            ConfigError: An argument is out of range, CUDA is asked for where there is none, or the
                `memory_budget` is too small for one task.
            MetaCaDIError: The loss diverged.

        Warns:
            MetaCaDIWarning: The data cannot tell what is asked, training did not converge, the
                targets collapsed, or the rows speak against a declared target with 10 nats or more
                (evidence only).
        """
        check_tasks(tasks)
        where, seed, callbacks = check_device(device), check_seed(seed), check_callbacks(callbacks)
        memory = check_memory(memory_budget, where)
        if num_chains is not None:
            num_chains = check_count("num_chains", num_chains)
        warn_about(tasks)
        chains, history, scaling, converged = self._engine.fit_chains(
            tasks,
            num_steps=num_steps,
            num_chains=num_chains,
            seed=seed,
            device=where,
            memory=memory,
            progress=progress and rank() == 0,
            callbacks=callbacks,
        )
        fit = Fitted(tasks, self._engine, scaling, chains, history, seed, converged)
        warn_if_targets_collapsed(fit)
        warn_of_conflicts(fit.training_posterior)
        self._fit = fit
        return self

    def memory_needed(
        self, tasks: TaskDataset, *, device: str | torch.device = "auto"
    ) -> MemoryNeeded:
        """Estimate the memory that `fit` takes, before it starts.

        Args:
            tasks: As for `fit`.
            device: As for `fit`.

        Returns:
            ``least``, the smallest `memory_budget` that `fit` accepts, and ``most``, from which on
            nothing is computed in parts; bytes beside the tasks themselves.

        Raises:
            DataError: `tasks` are not a `TaskDataset`, or have covariates (svi).
            ConfigError: `device` is not known.
        """
        return self._engine.memory_needed(check_tasks(tasks), device=check_device(device))

    @property
    def components(self) -> Any:
        """The chosen parts and options: of the engine ``svi``, a `Components`."""
        return self._engine.components

    @property
    def engine(self) -> str:
        """``"evidence"`` or ``"svi"``."""
        return self._engine.name

    @property
    def seed(self) -> int:
        """Of the fit."""
        return self._fitted().seed

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables of the fitted model."""
        return self._fitted().tasks.variables

    @property
    def covariates(self) -> dict[str, tuple[str, ...] | None]:
        """What the fitted model reads beside the variables: name -> groups, None for a quantity."""
        return dict(CovariateCoding.of(self._fitted().tasks.covariates).groups)

    @property
    def history(self) -> dict[str, np.ndarray]:
        """svi: ``loss``, the objective's terms, unweighted, and the latest ``held_out`` loss.

        evidence: ``loss``, minus the log score of each graph drawn.

        Shape ``[step]``, or ``[chain, step]`` for several chains, NaN after a chain's last step.
        """
        return self._fitted().joint_history

    @property
    def converged(self) -> bool | None:
        """svi: whether the held-out loss of every chain stopped falling before the steps ran out.

        evidence: whether the chains agree about their log scores (R-hat below 1.1).

        None if nothing was held out (``patience=None``, or no task of three rows), or for one
        Markov chain.
        """
        return self._fitted().converged

    @property
    def posterior(self) -> Posterior:
        """Posterior over the graph and the training tasks' targets.

        Targets of tasks on disk (svi) are inferred a few tasks at a time; the largest task must fit
        in memory. `Posterior.log_likelihood` and `Posterior.to_inference_data` read all rows.
        """
        return self._fitted().training_posterior

    def adapt(
        self, tasks: TaskDataset, *, num_graphs: int | None = None, seed: int = 0
    ) -> Posterior:
        """Posterior for other tasks in closed form: no gradient, and the model stays as it is.

        Each task is judged on its own: twenty together give the same as one by one.

        Args:
            tasks: New experiments of a few rows, over the same variables (in any order) and with
                the same covariates. Declared targets are taken as known.
            num_graphs: Graphs per chain that probabilities average over; default 32.
            seed: Of these graphs.

        Raises:
            DataError: `tasks` are not a `TaskDataset`, a variable, a covariate or a group is
                missing or unknown, or values are no counts for a noise model of counts.
            ConfigError: `num_graphs` is not a positive whole number, or `seed` is no seed.

        Warns:
            MetaCaDIWarning: Values so far from the training data that they had to be cut, tasks in
                which most variables are beyond all training rows (as in other units), rows that
                speak against a declared target (evidence only), or (with the engine ``"svi"``)
                fewer rows than a variable has probable parents.
        """
        fit = self._fitted()
        posterior = fit.posterior(check_tasks(tasks), num_graphs=num_graphs, seed=seed)
        warn_if_units_differ(fit, posterior)
        warn_if_rows_are_few(fit, posterior)
        warn_of_conflicts(posterior)
        return posterior

    def copy(self) -> "MetaCaDI":
        """Another model with the same options, and the same fit until it is fitted again."""
        return copy.copy(self)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the fitted model, its training tasks included, to a folder.

        Nothing is pickled. The folder is replaced as a whole, or not at all. Rows of training tasks
        on disk are copied from file to file, and stay on disk when the model is loaded.

        Raises:
            ModelFileError: The folder holds something else or cannot be written.
        """
        self._fitted().save(folder)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        device: str | torch.device = "auto",
        **components: Any,
    ) -> "MetaCaDI":
        """Read a model that `save` wrote.

        Args:
            folder: Where it was saved.
            device: As in `fit`, but not necessarily the same.
            components: Parts that are not this package's own, such as ``noise=MyNoise``.

        Raises:
            ConfigError: `device` or a name or value in `components` is not known.
            ModelFileError: The folder is missing, truncated, inconsistent or of another schema.
        """
        model = cls()
        fit = Fitted.load(folder, device=check_device(device), replacements=components)
        model._fit, model._engine = fit, fit.engine
        return model

    def _fitted(self) -> Fitted:
        if self._fit is None:
            raise MetaCaDIError("MetaCaDI: expected a fitted model. Call .fit(tasks) first.")
        return self._fit

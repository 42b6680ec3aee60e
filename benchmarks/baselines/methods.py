"""Every baseline by its id, and the one way to run it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from benchmarks.baselines.controls import blind
from benchmarks.baselines.result import BaselineResult
from pyro_metacadi import TaskDataset
from pyro_metacadi.checks import check_count
from pyro_metacadi.data import mean_shift, variance_ratio
from pyro_metacadi.errors import ConfigError

__all__ = ["METHODS", "Method", "fit"]


@dataclass(frozen=True)
class Method:
    """What a baseline is, and what of its output is its own.

    Attributes:
        module: Of this package; has ``fit(tasks, *, seed, **options) -> BaselineResult``.
        options: Of that function.
        edges: Whether it looks for a graph; otherwise its graph is the empty one.
        targets: Whether it looks for targets; otherwise all target scores are alike, or are what it
            was told.
        told: Whether it has to know the targets of every task, as ``tasks.known_targets``.
        bootstrapped: Whether ``num_draws`` resamples make its probabilities.
        few_steps: Options in place of the others where it only has to be seen to work.
    """

    module: str
    options: Mapping[str, Any] = field(default_factory=dict)
    edges: bool = True
    targets: bool = True
    told: bool = False
    bootstrapped: bool = False
    few_steps: Mapping[str, Any] = field(default_factory=dict)


def _without_model(rule: Any) -> Method:
    return Method("without_model", {"rule": rule}, edges=False)


METHODS: Mapping[str, Method] = {
    "jci_pc": Method("jci_pc", bootstrapped=True),
    # Kernels take long: fewer resamples, our choice.
    "jci_pc_kernel": Method("jci_pc", {"test": "kci", "num_draws": 5}, bootstrapped=True),
    "utigsp": Method("utigsp", bootstrapped=True),
    "gies": Method("gies", targets=False, told=True, bootstrapped=True),
    "linear_gaussian": Method("linear_gaussian", bootstrapped=True),
    "dcdi_g": Method("dcdi_g", bootstrapped=True, few_steps={"num_rounds": 3}),
    "bacadi": Method("bacadi", few_steps={"num_steps": 50}),
    "bacadi_uniform": Method("bacadi", {"weighted": False}, few_steps={"num_steps": 50}),
    "mean_shift": _without_model(mean_shift),
    "variance_ratio": _without_model(variance_ratio),
    "empty": Method("empty_graph", targets=False),
    "random": Method("random_graph"),
}


def fit(
    name: str,
    tasks: TaskDataset,
    *,
    seed: int,
    num_draws: int | None = None,
    few_steps: bool = False,
) -> BaselineResult:
    """Run a baseline on all `tasks` together.

    Of ``tasks.known_targets`` a method that is not told the targets is shown only which tasks are
    controls, that is declared to hit nothing (`TaskDataset.declare_observational`). There need be
    none.

    Args:
        name: One of `METHODS`.
        tasks: Rows as they are; log-normalise counts before.
        seed: Of resampling and of the method itself.
        num_draws: Resamples of those methods that are bootstrapped; by default 20, with kernels
            and of DCDI-G 5.
        few_steps: Only to see that it works: gradient steps, where it takes any, are then too few.

    Raises:
        ConfigError: There is no such method, or `num_draws` is no such number.
        DataError: The tasks do not suit the method.
        ModuleNotFoundError: A package is missing; says how to install it.
    """
    if name not in METHODS:
        raise ConfigError(
            f"method: expected one of {', '.join(METHODS)}, got {name!r}. Choose one of these."
        )
    method = METHODS[name]
    options = {**method.options, **(method.few_steps if few_steps else {})}
    if num_draws is not None and method.bootstrapped:
        options["num_draws"] = check_count("num_draws", num_draws)
    module = import_module(f"benchmarks.baselines.{method.module}")
    shown = tasks if method.told else blind(tasks)
    result: BaselineResult = module.fit(shown, seed=seed, **options)
    return result

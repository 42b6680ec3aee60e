"""Parts of a model, given as factories: how they are called, written down and found again."""

import importlib
import inspect
import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np

from pyro_metacadi.errors import ConfigError, ModelFileError

__all__ = ["Factory", "build_part", "check_factory", "describe", "find_part", "plain"]

Factory = Callable[..., Any]

ROOMS = ("models", "guides", "inference")
"""Where this package's own parts live: a saved model can name no other class."""


def check_factory(name: str, choice: Any) -> Factory:
    """The choice, if it is a class, a `functools.partial` or a function.

    Raises:
        ConfigError: It is not.
    """
    # Instances of modules are callable as well.
    if not isinstance(choice, type | partial | FunctionType):
        raise ConfigError(
            f"{name}: expected a class or a functools.partial of one, got {choice!r}. Pass the "
            f"class, not an instance{' nor its name' * isinstance(choice, str)}."
        )
    return choice


def build_part(name: str, factory: Factory, kind: type, *sizes: int, **names: Any) -> Any:
    """The part that a factory makes, which must be of that kind.

    Args:
        name: Of the part, for messages.
        factory: What makes it.
        kind: Of the part.
        sizes: What it is made from.
        names: Further arguments, for factories that have them and that are not told otherwise.

    Raises:
        ConfigError: The factory cannot be called so, or makes something else.
    """
    try:
        part = factory(*sizes, **_wanted(factory, names))
    except TypeError as error:
        raise ConfigError(
            f"{name}: expected a class that is built from {len(sizes)} sizes, got {factory!r} "
            f"({error}). See MetaCaDI for how each part is built."
        ) from error
    if not isinstance(part, kind):
        lacking = [word for word in dir(kind) if word[0] != "_" and not hasattr(part, word)]
        raise ConfigError(
            f"{name}: expected a factory of {kind.__name__} parts, got {factory!r}, which "
            f"makes {type(part).__name__}{' without ' * bool(lacking)}{', '.join(lacking)}. Pass "
            f"such a class."
        )
    return part


def _wanted(factory: Factory, names: dict[str, Any]) -> dict[str, Any]:
    if not names:
        return {}
    try:
        known = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some builtins have none
        return {}
    told = factory.keywords if isinstance(factory, partial) else {}
    return {name: value for name, value in names.items() if name in known and name not in told}


def describe(factory: Factory) -> dict[str, Any]:
    """Name and options of a factory, as plain data."""
    options = dict(factory.keywords) if isinstance(factory, partial) else {}
    target = factory.func if isinstance(factory, partial) else factory
    name = f"{target.__module__}.{getattr(target, '__qualname__', type(target).__name__)}"
    return {"class": name, "options": {key: plain(key, value) for key, value in options.items()}}


def plain(key: str, value: Any) -> Any:
    """The option `key` as plain data.

    Raises:
        ConfigError: It cannot be written down.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(key, item) for item in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: plain(key, item) for name, item in value.items()}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ConfigError(
        f"option {key!r}: expected a number, a string, or a list or dict of them, so that it can "
        f"be saved, got {type(value).__name__}. Build the value in the component, of plain options."
    )


def find_part(part: str, described: dict[str, Any]) -> Factory:
    """The factory that `describe` wrote down; only modules with parts in them are imported.

    Raises:
        ModelFileError: It is not this package's, or unknown.
    """
    module, _, name = described["class"].rpartition(".")
    package, _, rest = module.partition(".")
    if package != "pyro_metacadi":
        raise ModelFileError(
            f"model.json: the {part} is {described['class']!r}, which is not part of "
            f"pyro_metacadi. Pass it again: MetaCaDI.load(..., {part}={name})."
        )
    factory = None
    if rest.partition(".")[0] in ROOMS:
        with suppress(ImportError):
            factory = getattr(importlib.import_module(module), name, None)
    if not isinstance(factory, type):
        raise ModelFileError(
            f"model.json: expected a known {part}, got {described['class']!r}. Load it with the "
            f"version of pyro_metacadi that saved it."
        )
    return partial(factory, **described["options"]) if described["options"] else factory

"""Packages that only some baselines need: imported when they run, and named where they lack."""

import warnings
from importlib import import_module
from typing import Any

__all__ = ["imported"]


def imported(module: str, *, method: str, extra: str) -> Any:
    """Import `module`, whose own announcements of what it will deprecate are nobody's concern.

    Args:
        module: Dotted name.
        method: The baseline that needs it.
        extra: Of pyro-metacadi, that brings it.

    Raises:
        ModuleNotFoundError: It is not installed, nor is something that it needs.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return import_module(module)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{method}: expected the package that has {module}, got: {error}. Install it: "
                f"pip install -e '.[{extra}]'"
            ) from error

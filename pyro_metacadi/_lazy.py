"""Names imported when first used (PEP 562), so that ``import pyro_metacadi`` stays fast."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def attach(
    package: str, names: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's ``__getattr__`` and ``__dir__`` for the public `names`.

    Args:
        package: The package's ``__name__``.
        names: Public name -> module it lives in, relative to the package (``".tasks"``); a name
            equal to its module's is the module itself.

    Raises:
        AttributeError: By the returned ``__getattr__``, for a name that is not public.
    """

    def getattr_(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(names[name], package)
        return module if names[name] == f".{name}" else getattr(module, name)

    return getattr_, lambda: sorted(names)

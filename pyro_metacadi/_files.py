"""Folders that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["staged_folder"]


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it takes the place of `target` once the block is done.

    If the block, or the exchange, fails, `target` is as it was and nothing is left beside it.

    Raises:
        OSError: The folder cannot be written.
    """
    with TemporaryDirectory(prefix=f".{target.name}-", dir=_anchor(target)) as scratch:
        fresh, old = Path(scratch) / "new", Path(scratch) / "old"
        fresh.mkdir()
        yield fresh
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(fresh, target)
        except BaseException:
            if old.exists():
                os.replace(old, target)
            raise


def _anchor(target: Path) -> Path:
    """The nearest folder above `target` that exists: nothing below it is made too early."""
    return next(parent for parent in target.absolute().parents if parent.exists())

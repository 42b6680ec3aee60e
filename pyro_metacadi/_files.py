"""Files and folders that appear whole or not at all, and paths that can be used at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pyro_metacadi.errors import MetaCaDIError

__all__ = ["RECORD", "checked_path", "contents", "is_current", "staged_file", "staged_folder"]

RECORD = "run.json"  # how a command's output came about; part of every folder that it writes


def checked_path(path: Any, *, what: str, error: type[MetaCaDIError]) -> Path:
    """Return `path` as a `Path` that the system accepts, whether or not there is something.

    Raises:
        MetaCaDIError: No path, too long, with a null character or in a folder that cannot be read;
            of the class `error`.
    """
    try:
        checked = Path(path)
        os.stat(checked)
    except (FileNotFoundError, NotADirectoryError):
        return checked
    except (TypeError, ValueError, OSError) as reason:
        why = (reason.strerror if isinstance(reason, OSError) else None) or reason
        raise error(
            f"{what}: expected a path, got {path!r:.80} ({why}). Pass one like 'folder/name'."
        ) from reason
    return checked


def is_current(folder: Path) -> bool:
    """Whether the process stands in `folder`, which then must not be replaced by another."""
    return folder.exists() and os.path.samefile(folder, os.curdir)


def contents(folder: Path) -> set[str]:
    """Paths, relative to `folder`, of everything in it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@contextmanager
def staged_file(target: Path) -> Iterator[Path]:
    """Give a path to write a file at; it takes the place of `target` once the block is done.

    Raises:
        OSError: The file cannot be written, or `target` is a folder.
    """
    target = Path(os.path.realpath(target))
    with TemporaryDirectory(prefix=".metacadi-", dir=target.parent) as scratch:
        fresh = Path(scratch) / target.name
        yield fresh
        os.replace(fresh, target)


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it takes the place of `target` once the block is done.

    If the block, or the exchange, fails, `target` is as it was and nothing is left beside it.

    Raises:
        OSError: The folder cannot be written, or is the current one.
    """
    target = Path(os.path.realpath(target))  # so that a folder is replaced, and no link to it
    if is_current(target):
        raise OSError(errno.EBUSY, "the current folder, which cannot be replaced", str(target))
    with TemporaryDirectory(prefix=".metacadi-", dir=_anchor(target)) as scratch:
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

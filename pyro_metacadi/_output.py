"""Folders that a command writes: whole or not at all, and never over somebody else's files."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyro_metacadi._files import staged_folder
from pyro_metacadi.errors import ConfigError, ModelFileError

__all__ = ["check_output", "read_record", "staged_output"]

RECORD = "run.json"  # how the folder came about; marks it as ours to replace


def check_output(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that cannot or must not be written, before any work is done.

    Raises:
        ConfigError: `out` exists (unless empty, or ours and `overwrite`), or cannot be made.
    """
    if not out.exists():
        _check_writable(out)
    elif not out.is_dir():
        raise ConfigError(f"output folder: expected a folder, got the file '{out}'. Rename it.")
    elif any(out.iterdir()) and not overwrite:
        raise ConfigError(
            f"output folder: expected a new one, got '{out}', which exists. "
            "Choose another name, or replace it with --overwrite."
        )
    elif any(out.iterdir()) and not (out / RECORD).is_file():
        raise ConfigError(
            f"output folder: expected one that metacadi wrote, got '{out}', which has no {RECORD}. "
            "Choose another name."
        )


@contextmanager
def staged_output(out: Path, *, record: Mapping[str, Any]) -> Iterator[Path]:
    """Give a path to make the folder at; it takes the place of `out` once the block is done.

    Args:
        out: The folder to appear; `check_output` has been asked about it.
        record: How the folder came about, for `read_record`.
    """
    with staged_folder(out) as folder:
        yield folder
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a folder; empty where a program, not a command, wrote the folder.

    Raises:
        ModelFileError: The record is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFileError(
            f"file '{path}': expected JSON, got something else ({error}). Fit the model again."
        ) from error
    if not isinstance(record, dict):
        raise ModelFileError(f"file '{path}': expected an object, got a list. Fit the model again.")
    return record


def _check_writable(out: Path) -> None:
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"output folder: expected a place that can be written, got '{folder}'. "
            "Choose another name."
        )

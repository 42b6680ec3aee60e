"""Where a report may be written; light, so that a command can ask before it does any work."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyro_metacadi._files import checked_path, staged_file
from pyro_metacadi.errors import ConfigError

__all__ = ["GENERATOR", "check_report_path", "write_page"]

GENERATOR = '<meta name="generator" content="pyro_metacadi report">'
"""What every report has in its head, so that it is known to be one."""

HEAD_BYTES = 1000
SUFFIXES = (".html", ".htm")
"""By which a browser knows a file that lies on a disk."""


def check_report_path(path: Any, *, overwrite: bool, inputs: Sequence[Path] = ()) -> Path:
    """Refuse a file that cannot or must not be written.

    Raises:
        ConfigError: No path; in no folder that can be written; one of the `inputs`, or inside one;
            not named as a web page; there already, unless it is a report to be overwritten.
    """
    target = checked_path(path, what="report", error=ConfigError)
    folder = target.absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"report: expected an existing folder, got '{folder}'. Create it first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"report: expected a folder that can be written, got '{folder}'. Choose another."
        )
    whole = Path(os.path.realpath(target))
    for one in inputs:
        read = Path(os.path.realpath(one))
        if whole == read or read in whole.parents:
            raise ConfigError(
                f"report: expected a file apart from the inputs, got '{target}', which would "
                f"replace or lie inside '{one}'. Choose another name."
            )
    if target.is_dir():
        raise ConfigError(f"report: expected a file, got the folder '{target}'. Name a file in it.")
    if target.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"report: expected a name that ends in .html, got '{target}'. Write to "
            f"'{target.name}.html'."
        )
    if target.exists():
        _check_replaceable(target, overwrite=overwrite)
    return target


def _check_replaceable(target: Path, *, overwrite: bool) -> None:
    if not overwrite:
        raise ConfigError(
            f"report: expected a new file, got '{target}', which exists. Choose another name, or "
            "replace it with --overwrite (overwrite=True)."
        )
    with target.open("rb") as file:
        if GENERATOR.encode() not in file.read(HEAD_BYTES):
            raise ConfigError(
                f"report: expected an earlier report to replace, got '{target}', which is none. "
                "Choose another name."
            )


def write_page(page: str, target: Path) -> None:
    """Write a page, whole or not at all.

    Raises:
        ConfigError: It cannot be written; what was there is then as it was.
    """
    try:
        with staged_file(target) as fresh:
            fresh.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"report: expected a file that can be written, got '{target}' "
            f"({error.strerror or error}). Choose another name or free some space."
        ) from error

"""Folders that a command writes: whole or not at all, and never over somebody else's files."""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyro_metacadi._files import RECORD, contents, is_current, staged_folder
from pyro_metacadi.errors import ConfigError, ModelFileError

__all__ = ["Output", "read_record", "write_posterior"]

GROUPS = ("posterior", "sample_stats", "log_likelihood", "observed_data", "constant_data")
LAYOUT_BYTES = 2**20  # more than a NetCDF file takes besides its values


@dataclass(frozen=True)
class Output:
    """A folder that a command is going to write.

    Attributes:
        folder: Where it will be.
        record: How it came about, for `read_record`: the ``"command"`` and its options.
        inputs: Files and folders that the command reads.
        overwrite: Whether it may replace what the same command wrote there earlier.
    """

    folder: Path
    record: Mapping[str, Any]
    inputs: tuple[Path, ...] = ()
    overwrite: bool = False

    def check(self) -> None:
        """Refuse a folder that cannot or must not be written, before any work is done.

        Raises:
            ConfigError: The folder overlaps an input; or is there already (unless empty, or written
                by the same command, unchanged and to be overwritten); or cannot be made.
            ModelFileError: The record of the folder that is there is damaged.
        """
        for path in self.inputs:
            if _overlap(self.folder, path):
                raise ConfigError(
                    f"output folder: expected one apart from the inputs, got '{self.folder}', "
                    f"which would replace or lie inside '{path}'. Choose another name."
                )
        if not self.folder.exists():
            _check_writable(self.folder)
        elif not self.folder.is_dir():
            raise ConfigError(
                f"output folder: expected a folder, got the file '{self.folder}'. Rename it."
            )
        elif is_current(self.folder):
            raise ConfigError(
                f"output folder: expected another than the current one, got '{self.folder}'. "
                "Name a folder inside it."
            )
        elif any(self.folder.iterdir()):
            self._check_replaceable()

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """Give an empty folder to fill; it becomes the output once the block is done.

        Raises:
            ConfigError: As `check`, which is asked again for what appeared in the meantime.
            OSError: The folder cannot be written.
        """
        with staged_folder(self.folder) as fresh:
            yield fresh
            record = {**self.record, "files": sorted(contents(fresh) | {RECORD})}
            (fresh / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            self.check()

    def _check_replaceable(self) -> None:
        """Check that the folder that is there holds what the same command wrote, and only that."""
        command = self.record["command"]
        if not self.overwrite:
            rule, got = "a new one", "which exists"
            fix = "Choose another name, or replace it with --overwrite."
        else:
            rule, fix = f"one that `metacadi {command}` wrote", "Choose another name."
            got = _foreign(self.folder, command=command)
        if got:
            raise ConfigError(f"output folder: expected {rule}, got '{self.folder}', {got}. {fix}")


def _foreign(folder: Path, *, command: str) -> str:
    """Say what is in the folder besides an output of `command`; empty if there is nothing else."""
    if not (folder / RECORD).is_file():
        return f"which has no {RECORD}"
    record = read_record(folder)
    if record.get("command") != command:
        return f"which `metacadi {record.get('command')}` wrote"
    files = record.get("files")
    others = contents(folder) - set(map(str, files if isinstance(files, list) else ()))
    return f"whose {RECORD} does not list '{min(others)}'" if others else ""


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
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"file '{path}': expected JSON, got something else ({error}). Fit the model again."
        ) from error
    if not isinstance(record, dict):
        raise ModelFileError(f"file '{path}': expected an object, got a list. Fit the model again.")
    return record


def write_posterior(posterior: Any, path: Path) -> None:
    """Write a posterior as NetCDF, for ArviZ.

    Raises:
        OSError: The file cannot be written, or may not fit.
    """
    data = posterior.to_inference_data(num_predictive=0)
    size = sum(data[group].nbytes for group in GROUPS) + LAYOUT_BYTES
    if shutil.disk_usage(path.parent).free < size:  # HDF5 crashes the process on a full disk
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path.name)
    try:
        data.to_netcdf(str(path))
    except RuntimeError as error:  # how HDF5 reports what the system refuses, a quota for instance
        raise OSError(errno.EIO, "a failed write", path.name) from error


def _overlap(first: Path, second: Path) -> bool:
    """Whether one is the other or lies inside it, through whatever links."""
    a, b = (Path(os.path.realpath(path)) for path in (first, second))
    return a == b or a in b.parents or b in a.parents


def _check_writable(out: Path) -> None:
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"output folder: expected a place that can be written, got '{folder}'. "
            "Choose another name."
        )

"""Saved models: one folder with ``model.json`` and ``tensors.safetensors``; nothing is pickled.

Training rows that are on disk are in ``rows.npy`` beside them: they are never all in memory.

A folder is written whole beside its destination and then renamed, so that a crash leaves the old
model or the new one, never half of one.
"""

import json
import os
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from pyro_metacadi._files import checked_path, staged_folder
from pyro_metacadi.errors import ModelFileError

__all__ = ["SCHEMA", "fill_module", "read_model", "refuse_unless", "write_model"]

SCHEMA = 5
HEADER, TENSORS = "model.json", "tensors.safetensors"
ROWS = "rows.npy"  # of datasets on disk only


def write_model(
    folder: str | os.PathLike[str],
    header: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    rows: np.ndarray | None = None,
) -> None:
    """Write a model folder; an older model there is replaced.

    Args:
        folder: Where.
        header: Plain data.
        tensors: By name; safetensors copies them all in memory.
        rows: A memory map, which is copied from file to file.

    Raises:
        ModelFileError: The folder holds something that is not a saved model, or cannot be written.
    """
    target = _resolved(folder)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"schema": SCHEMA, **header}, indent=2, allow_nan=False)
    try:
        _check_replaceable(target)
        with staged_folder(target) as fresh:
            (fresh / HEADER).write_text(text + "\n", encoding="utf-8")
            safetensors.torch.save_file(contiguous, fresh / TENSORS)
            # safetensors lets nobody else read its files; a model may be shared like any file.
            (fresh / TENSORS).chmod((fresh / HEADER).stat().st_mode & 0o777)
            if rows is not None:
                np.save(fresh / ROWS, rows)
    except (OSError, SafetensorError) as error:
        raise ModelFileError(
            f"folder '{target}': expected a place to write to, got '{error}'. Choose another "
            f"folder or free some space."
        ) from error


def _check_replaceable(target: Path) -> None:
    """Refuse a destination whose replacement would delete anything but an older model."""
    if not target.exists():
        return
    if target == Path.cwd():
        # Folders are replaced as a whole: the process would be left in a deleted one.
        raise ModelFileError(
            f"folder '{target}': expected another than the current one. Choose a folder inside it."
        )
    found = {path.name for path in target.iterdir()} if target.is_dir() else {target.name}
    foreign = sorted(found - ({HEADER, TENSORS, ROWS} if _is_model(target) else set()))
    if foreign:
        raise ModelFileError(
            f"folder '{target}': expected a new or empty folder, or a saved model to replace, got "
            f"the file '{foreign[0]}'. Choose another folder."
        )


def _is_model(folder: Path) -> bool:
    if not all((folder / name).is_file() for name in (HEADER, TENSORS)):
        return False
    try:
        _read_header(folder / HEADER)
    except ModelFileError:
        return False
    return True


def _resolved(folder: str | os.PathLike[str]) -> Path:
    """The folder without dots and links, so that it and no link to it is replaced."""
    return checked_path(folder, what="folder", error=ModelFileError).resolve()


def read_model(
    folder: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, Tensor], np.ndarray | None]:
    """Read a model folder written by `write_model`: its header, tensors, and rows as a map.

    Raises:
        ModelFileError: A file is missing, truncated, not what it says, or of another schema.
    """
    path = _resolved(folder)
    try:
        missing = [name for name in (HEADER, TENSORS) if not (path / name).is_file()]
    except OSError as error:
        raise ModelFileError(
            f"model '{path}': expected a folder that can be read, got '{error}'. Check its "
            f"permissions."
        ) from error
    if missing:
        raise ModelFileError(
            f"model '{path}': expected a folder with {HEADER} and {TENSORS}, found no "
            f"{missing[0]}. Pass a folder written by MetaCaDI.save."
        )
    header = _read_header(path / HEADER)
    try:
        tensors = safetensors.torch.load_file(path / TENSORS)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(
            f"file '{path / TENSORS}': expected a complete safetensors file, got {error}. It may "
            f"be truncated: save or copy the model again."
        ) from error
    return header, tensors, _mapped_rows(path / ROWS) if (path / ROWS).is_file() else None


def _mapped_rows(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"file '{path}': expected a complete .npy file, got '{error}'. It may be truncated: "
            f"save or copy the model again."
        ) from error


def _read_header(path: Path) -> dict[str, Any]:
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise ModelFileError(
            f"file '{path}': expected JSON, got {error}. Save or copy the model again."
        ) from error
    schema = header.get("schema") if isinstance(header, dict) else None
    if schema != SCHEMA:
        raise ModelFileError(
            f"file '{path}': expected schema version {SCHEMA}, got {schema!r}. Load it with the "
            f"version of pyro_metacadi that saved it."
        )
    return header


def fill_module(module: nn.Module, tensors: Mapping[str, Tensor], *, prefix: str) -> None:
    """Load the state of `module` from the tensors whose names start with `prefix`.

    Raises:
        ModelFileError: A tensor is missing, unknown, not finite or has another shape or dtype;
            nothing is loaded then.
    """
    stored = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    expected = module.state_dict()
    for name in sorted(expected.keys() | stored.keys()):
        wanted = list(expected[name].shape) if name in expected else None
        found = list(stored[name].shape) if name in stored else None
        if wanted != found:
            raise ModelFileError(
                f"tensor '{prefix}{name}': expected shape {wanted}, got {found}. The folder's "
                f"files belong to different models: save or copy the model again."
            )
        if stored[name].dtype != expected[name].dtype:
            raise ModelFileError(
                f"tensor '{prefix}{name}': expected {expected[name].dtype}, got "
                f"{stored[name].dtype}. Save or copy the model again."
            )
        if not torch.isfinite(stored[name]).all():
            raise ModelFileError(
                f"tensor '{prefix}{name}': expected finite numbers, got NaN or infinity. Save or "
                f"copy the model again."
            )
    module.load_state_dict(stored)


def refuse_unless(consistent: bool, name: str, got: Any) -> None:
    """Say of the entry of that name that it does not fit the rest, unless it does.

    Raises:
        ModelFileError: It is not consistent.
    """
    if not consistent:
        raise ModelFileError(
            f"{name}: expected what fits the model's data and variables, got {reprlib.repr(got)}. "
            f"Save or copy the model again."
        )

"""Saved models: one folder with ``model.json`` and ``tensors.safetensors``; nothing is pickled.

A folder is written whole beside its destination and then renamed, so that a crash leaves the old
model or the new one, never half of one.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from pyro_metacadi._files import staged_folder
from pyro_metacadi.errors import ModelFileError

__all__ = ["SCHEMA", "fill_module", "read_model", "write_model"]

SCHEMA = 1
HEADER, TENSORS = "model.json", "tensors.safetensors"


def write_model(
    folder: str | os.PathLike[str], header: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write a model folder; an older model there is replaced.

    Raises:
        ModelFileError: The folder holds something that is not a saved model, or cannot be written.
    """
    target = Path(folder)
    _check_replaceable(target)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"schema": SCHEMA, **header}, indent=2, allow_nan=False)
    try:
        with staged_folder(target) as fresh:
            safetensors.torch.save_file(contiguous, fresh / TENSORS)
            (fresh / HEADER).write_text(text + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise ModelFileError(
            f"folder '{target}': expected a place to write to, got '{error}'. Choose another "
            f"folder or free some space."
        ) from error


def _check_replaceable(target: Path) -> None:
    """Refuse a destination whose replacement would delete anything but an older model."""
    if target.is_dir():
        foreign = sorted({path.name for path in target.iterdir()} - {HEADER, TENSORS})
    else:
        foreign = [target.name] if target.exists() else []
    if foreign:
        raise ModelFileError(
            f"folder '{target}': expected a new or empty folder, or a saved model to replace, got "
            f"the file '{foreign[0]}'. Choose another folder."
        )


def read_model(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a model folder written by `write_model`.

    Raises:
        ModelFileError: A file is missing, truncated, not what it says, or of another schema.
    """
    path = Path(folder)
    for name in (HEADER, TENSORS):
        if not (path / name).is_file():
            raise ModelFileError(
                f"model '{path}': expected a folder with {HEADER} and {TENSORS}, found no {name}. "
                f"Pass a folder written by MetaCaDI.save."
            )
    header = _read_header(path / HEADER)
    try:
        tensors = safetensors.torch.load_file(path / TENSORS)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(
            f"file '{path / TENSORS}': expected a complete safetensors file, got {error}. It may "
            f"be truncated: save or copy the model again."
        ) from error
    return header, tensors


def _read_header(path: Path) -> dict[str, Any]:
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
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
        ModelFileError: A tensor is missing, unknown, not finite or has another shape; nothing is
            loaded then.
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
        if not torch.isfinite(stored[name]).all():
            raise ModelFileError(
                f"tensor '{prefix}{name}': expected finite numbers, got NaN or infinity. Save or "
                f"copy the model again."
            )
    module.load_state_dict(stored)

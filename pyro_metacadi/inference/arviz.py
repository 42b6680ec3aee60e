"""Posterior draws as the container of the installed ArviZ.

Takes plain arrays and imports numpy and xarray only, so that it serves any source of draws. ArviZ
0.x keeps groups in an ``InferenceData``, ArviZ 1.x in an ``xarray.DataTree``; files of either open
in the other. Each group is built here as an ``xarray.Dataset``, which keeps dtypes (0/1 draws stay
int8 and are plotted as counts, not as a smoothed density), and only the wrapping differs.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import xarray as xr
from packaging.version import Version

from pyro_metacadi.errors import DataError

__all__ = [
    "container",
    "import_arviz",
    "read_inference_data",
    "to_inference_data",
    "write_zarr",
]

SAMPLED_GROUPS = frozenset(
    {
        "posterior",
        "sample_stats",
        "log_likelihood",
        "log_prior",
        "posterior_predictive",
        "predictions",
        "prior",
        "prior_predictive",
        "sample_stats_prior",
    }
)
RESERVED_DIMS = frozenset({"sample", "chain", "draw"})


def to_inference_data(
    groups: Mapping[str, Mapping[str, Any]],
    *,
    coords: Mapping[str, Sequence[Any]],
    dims: Mapping[str, Sequence[str]],
    attrs: Mapping[str, str | float] | None = None,
) -> Any:
    """Wrap arrays, group by group, in what the installed ArviZ calls its container.

    Args:
        groups: Group -> variable -> array. Sampled groups (``posterior``, ``sample_stats``,
            ``log_likelihood``, ...) have shape ``[chain, draw, *dims]``, all others
            (``observed_data``, ``constant_data``) ``[*dims]``. Dtypes are kept.
        coords: Dimension -> labels. Dimensions without labels are numbered from 0.
        dims: Variable, or group/variable, -> its dimensions after chain and draw; scalars may be
            left out. Dimensions of a sampled variable that begin with ``chain`` are all it has,
            such as those of a loss, ``("chain", "step")``.
        attrs: Strings and numbers about the whole, such as the seed or the version.

    Returns:
        An ``arviz.InferenceData`` (ArviZ 0.x) or an ``xarray.DataTree`` (ArviZ 1.x).

    Raises:
        DataError: A dimension has a reserved name, or an array does not have the shape that
            `dims` and `coords` promise.
    """
    _check_dim_names(coords, dims)
    datasets = {
        group: _dataset(group, variables, coords=coords, dims=dims)
        for group, variables in groups.items()
    }
    return container(datasets, attrs or {})


def container(datasets: Mapping[str, xr.Dataset], attrs: Mapping[str, str | float]) -> Any:
    """Groups and what is said of the whole, in the installed ArviZ's container."""
    arviz = import_arviz()
    if Version(arviz.__version__) < Version("1.0.0.dev0"):
        return arviz.InferenceData(attrs=dict(attrs), **datasets)
    tree = xr.DataTree.from_dict(dict(datasets))
    tree.attrs.update(attrs)
    return tree


def write_zarr(data: Any, path: str | os.PathLike[str]) -> None:
    """Write what `to_inference_data` made as a Zarr folder, by xarray.

    ArviZ 0.x itself writes with zarr 2 only; this takes any, and either generation reads it.

    Raises:
        ImportError: zarr is not installed.
    """
    tree = data if isinstance(data, xr.DataTree) else data.to_datatree()
    # Format 2: the third has no standard yet for texts of fixed length, such as names.
    tree.to_zarr(os.fspath(path), consolidated=False, zarr_format=2)


def read_inference_data(path: str | os.PathLike[str]) -> Any:
    """Read a NetCDF file or Zarr folder of either generation, as the installed ArviZ's container.

    Raises:
        OSError: There is no such file, or it is no such file.
    """
    arviz = import_arviz()
    options: dict[str, Any] = {"engine": "h5netcdf"}
    if os.path.isdir(path):
        options = {"engine": "zarr", "consolidated": False}
    with xr.open_datatree(os.fspath(path), **options) as opened:
        tree = opened.load()
    is_old = Version(arviz.__version__) < Version("1.0.0.dev0")
    return arviz.InferenceData.from_datatree(tree) if is_old else tree


def _check_dim_names(
    coords: Mapping[str, Sequence[Any]], dims: Mapping[str, Sequence[str]]
) -> None:
    """ArviZ stacks chain and draw into `sample`, so data may use none of the three."""
    used = set(coords).union(
        *(names[names[:1] == ("chain",) :] for names in map(tuple, dims.values()))
    )
    for name in sorted(used & RESERVED_DIMS):
        raise DataError(
            f"dimension name: expected one that ArviZ does not reserve, got {name!r}. "
            "Rename it, for example to 'obs'."
        )


def _dataset(
    group: str,
    variables: Mapping[str, Any],
    *,
    coords: Mapping[str, Sequence[Any]],
    dims: Mapping[str, Sequence[str]],
) -> xr.Dataset:
    arrays = {}
    for name, values in variables.items():
        array, names = np.asarray(values), _dims_of(group, name, dims)
        _check_shape(f"{group}/{name}", array, names=names, coords=coords)
        arrays[name] = (names, array)
    sizes = _common_sizes(group, arrays)
    labels = {
        dim: np.asarray(coords[dim]) if dim in coords else np.arange(size)
        for dim, size in sizes.items()
    }
    return xr.Dataset(arrays, coords=labels)


def _dims_of(group: str, name: str, dims: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A variable may have other dimensions in one group, such as x in log_likelihood."""
    names = tuple(dims.get(f"{group}/{name}", dims.get(name, ())))
    return (
        ("chain", "draw", *names) if group in SAMPLED_GROUPS and names[:1] != ("chain",) else names
    )


def _check_shape(
    what: str, array: np.ndarray, *, names: tuple[str, ...], coords: Mapping[str, Sequence[Any]]
) -> None:
    wanted = tuple(len(coords[name]) if name in coords else None for name in names)
    fits = len(wanted) == array.ndim and all(
        size in (None, got) for size, got in zip(wanted, array.shape, strict=True)
    )
    if not fits:
        axes = ", ".join(
            name if size is None else f"{name}={size}"
            for name, size in zip(names, wanted, strict=True)
        )
        raise DataError(
            f"array {what}: expected shape [{axes}], got {list(array.shape)}. "
            "Give `dims` and `coords` that match the array."
        )


def _common_sizes(group: str, arrays: Mapping[str, tuple[tuple[str, ...], Any]]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name, (dims, array) in arrays.items():
        for dim, size in zip(dims, array.shape, strict=True):
            if sizes.setdefault(dim, size) != size:
                raise DataError(
                    f"array {group}/{name}: expected {dim}={sizes[dim]} as in the rest of the "
                    f"group, got {size}. Give every array of a group the same {dim}s."
                )
    return sizes


def import_arviz() -> ModuleType:
    """Import ArviZ without its once-a-day announcement of ArviZ 1.0.

    ArviZ 0.23 announces by a FutureWarning and keeps a stamp in the user's cache folder; where
    that folder cannot be written (read-only containers) its import fails, unless it gets another.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*ArviZ", category=FutureWarning)
        try:
            import arviz
        except OSError:
            with TemporaryDirectory() as folder:
                arviz = _import_with_cache(folder)
    return arviz


def _import_with_cache(folder: str) -> ModuleType:
    variable = "XDG_CACHE_HOME"
    before = os.environ.get(variable)
    os.environ[variable] = folder
    try:
        import arviz
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
    return arviz

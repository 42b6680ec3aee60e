"""Figures as files."""

import os

from pyro_metacadi._files import checked_path, staged_file
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.plots._shared import Axes

__all__ = ["save_figure"]


def save_figure(ax: Axes, path: str | os.PathLike[str]) -> None:
    """Write the figure that holds `ax`; the extension chooses the format (png, pdf, svg).

    Raises:
        ConfigError: The folder does not exist, matplotlib cannot write this format, or the file
            cannot be written; an older file is then as it was.
    """
    path = checked_path(path, what="figure path", error=ConfigError)
    figure = ax.figure.figure  # an axes of a sub-figure too belongs to one whole figure
    formats = sorted(figure.canvas.get_supported_filetypes())
    if path.suffix.lstrip(".").lower() not in formats:
        raise ConfigError(
            f"figure format: expected one of {', '.join(formats)}, got {path.suffix!r}. "
            "Name the file like 'edges.png'."
        )
    if not path.parent.is_dir():
        raise ConfigError(
            f"figure path: expected an existing folder, got '{path.parent}'. Create it first."
        )
    try:
        with staged_file(path) as fresh:
            figure.savefig(fresh, dpi=150)
    except OSError as error:
        raise ConfigError(
            f"figure path: expected a file that can be written, got '{path}' "
            f"({error.strerror or error}). Choose another name or free some space."
        ) from error

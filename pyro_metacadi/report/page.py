"""The page: its parts put together, made HTML and written."""

import base64
import hashlib
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pyro_metacadi import __version__
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import MetaCaDIError
from pyro_metacadi.estimator import MetaCaDI
from pyro_metacadi.report.figures import edge_figure, graph_figure, loss_figure, target_figure
from pyro_metacadi.report.findings import SIGNS, findings
from pyro_metacadi.report.subject import Subject
from pyro_metacadi.report.tables import (
    Table,
    edge_table,
    target_table,
    task_table,
    variable_table,
)
from pyro_metacadi.report.writing import GENERATOR, check_report_path, write_page

__all__ = ["render_report", "write_report"]

LONGEST_VALUE = 500  # characters: a matrix of prior probabilities may be long
LIBRARIES = ("torch", "pyro-ppl", "numpy", "scipy")


def render_report(
    model: MetaCaDI,
    *,
    tasks: TaskDataset | None = None,
    title: str = "Causal discovery report",
    further: Sequence[Table] = (),
    record: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> str:
    """HTML of a report that needs nothing besides itself.

    Args:
        model: A fitted model.
        tasks: Experiments whose targets are reported; by default, the training tasks.
        title: Of the page.
        further: Tables to show among the diagnostics, see `Table.of`.
        record: Further lines of the provenance, such as the command that fitted the model.
        seed: Of the graphs that probabilities for `tasks` average over.

    Raises:
        MetaCaDIError: The model is not fitted.
        DataError: `tasks` do not fit the model, see `MetaCaDI.adapt`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    posterior = model.posterior if tasks is None else model.adapt(tasks, seed=seed)
    subject, folder = Subject(model, posterior, tasks is not None), Path(__file__).parent
    script, style = ((folder / f"page.{kind}").read_text("utf-8") for kind in ("js", "css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found = findings(subject)
    return environment.get_template("page.html").render(
        title=title,
        generator=Markup(GENERATOR),
        script=Markup(script),
        script_digest=digest,
        style=Markup(style),
        subject=subject,
        training=posterior.tasks if tasks is None else model.posterior.tasks,
        findings=found,
        signs=SIGNS,
        further=further,
        figures={
            "graph": graph_figure(subject),
            "edges": edge_figure(subject),
            "targets": target_figure(subject),
            "loss": loss_figure(subject),
        },
        tables={
            "edges": edge_table(subject),
            "targets": target_table(subject),
            "tasks": task_table(model.posterior.tasks),
            "variables": variable_table(model.posterior.tasks),
        },
        provenance=_provenance(model, record or {}),
    )


def write_report(
    model: MetaCaDI,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    **options: Any,
) -> None:
    """Write a report, whole or not at all.

    Args:
        model: A fitted model.
        path: The file, in a folder that exists.
        overwrite: Whether an earlier report may be replaced; other files never are.
        options: See `render_report`.

    Raises:
        ConfigError: The file exists, or cannot be written.
        MetaCaDIError: As `render_report`.
    """
    target = check_report_path(path, overwrite=overwrite)
    write_page(render_report(model, **options), target)


def _provenance(model: MetaCaDI, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the model and the page came about, as pairs of a name and a value."""
    now = datetime.now(UTC)
    lines: list[tuple[str, Any]] = [("page written", f"{now:%Y-%m-%d %H:%M} UTC")]
    lines.append(("pyro_metacadi", __version__))
    lines.append(("Python", f"{platform.python_version()} on {platform.system()}"))
    lines += [(name, version(name)) for name in LIBRARIES]
    lines += [("engine", model.engine), ("seed", model.seed)]
    lines += [(f"option {name}", value) for name, value in _flat(_options(model))]
    lines += [(f"fitted with {name}", value) for name, value in _flat(record) if name != "files"]
    return [(name, _shortened(str(value))) for name, value in lines]


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _options(model: MetaCaDI) -> dict[str, Any]:
    try:
        return model.components.to_json()
    except MetaCaDIError:  # parts of the user's own that have no name to be written down by
        return {"components": repr(model.components)}


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value

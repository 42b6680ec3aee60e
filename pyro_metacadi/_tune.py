"""The sub-command ``metacadi tune``: options scored by what they predict of tasks left out."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyro_metacadi._simulate import positive
from pyro_metacadi.errors import ConfigError

if TYPE_CHECKING:
    from pyro_metacadi.data.tasks import TaskDataset

__all__ = ["TUNE", "add_tune_options", "check_table", "tuned"]

TUNE = """\
Score options without knowing the truth: fit to some of the experiments, and see how well a few rows
of each of the others predict their remaining rows. Prints all combinations, the best first, and the
Python that uses it; writes the table to --out. Every combination is fitted --folds times. --set
says what to try, as often as you like (none: learned, or the engine's default):
  evidence: graph_prior, target_prior, representation (identity, sqrt, log, counts, auto)
  svi: target_weight, residual_weight, graph_weight, target_prior

example:
  metacadi tune data.csv --task condition --set graph_prior=0.05,0.2 --set target_prior=none,0.1"""

NUMBERS = ("score", "se", "behind", "behind_se")


def add_tune_options(command: argparse.ArgumentParser) -> None:
    """Options beside the data and where to compute."""
    command.add_argument(
        "--engine", default="evidence", help="evidence or svi; default: evidence", metavar="NAME"
    )
    command.add_argument(
        "--set",
        action="append",
        type=_option,
        help="option and values to try, all combined; default: a few of the engine's own",
        metavar="NAME=A,B",
    )
    command.add_argument("--folds", type=positive, default=3, help="parts; default: 3")
    command.add_argument(
        "--support", type=positive, default=10, help="rows shown of a task left out; default: 10"
    )
    command.add_argument(
        "--steps", type=positive, help="of each fit; default: as needed", metavar="N"
    )
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.add_argument("-o", "--out", type=_file, help="CSV file to write", metavar="FILE")
    command.add_argument("--overwrite", action="store_true", help="replace the file")
    command.add_argument("--seed", type=int, default=0, help="fixes all chance; default: 0")


def check_table(args: argparse.Namespace) -> None:
    """Refuse a file that cannot or must not be written, before any work is done.

    Raises:
        ConfigError: It is there already and not to be overwritten, or is no file, or its folder
            cannot be written.
    """
    out: Path | None = args.out
    if out is None:
        return
    if args.data.exists() and os.path.realpath(out) == os.path.realpath(args.data):
        raise ConfigError(
            f"output file: expected one apart from the data, got '{out}'. Choose another name."
        )
    if out.is_dir() or (out.exists() and not args.overwrite):
        got = "a folder" if out.is_dir() else "which exists"
        raise ConfigError(
            f"output file: expected a new one, got '{out}', {got}. Choose another name, or replace "
            f"a file with --overwrite."
        )
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK | os.X_OK):
        raise ConfigError(
            f"output file: expected a folder that can be written, got '{out.parent}'. Choose "
            f"another name."
        )


def tuned(tasks: "TaskDataset", args: argparse.Namespace) -> str:
    """Score the options, write the table, and say what came out."""
    from pyro_metacadi.tuning import tune

    options = args.set or []
    names = [name for name, _ in options]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"--set: expected each option once, got {', '.join(names)}. Join its values by commas."
        )
    table = tune(
        tasks,
        dict(options) or None,
        engine=args.engine,
        folds=args.folds,
        support_size=args.support,
        num_steps=args.steps,
        seed=args.seed,
        device=args.device,
        progress=not args.quiet,
    )
    if args.out is not None:
        part = args.out.with_name(f"{args.out.name}.part")
        table.to_csv(part, index=False)
        part.replace(args.out)
    settings = table.drop(columns=list(NUMBERS))
    shown = table.astype(dict.fromkeys(settings, object)).fillna("none")
    formats: Any = dict.fromkeys(NUMBERS, "{:.3f}".format)
    best = as_python(args.engine, dict(zip(settings.columns, settings.iloc[0], strict=True)))
    return (
        f"{shown.to_string(index=False, formatters=formats)}\n"
        f"score: log density per row of the tasks left out; a combination less than two behind_se "
        f"behind the best may be as good\n"
        f"Best: {best}"
    )


def as_python(engine: str, setting: Mapping[str, Any]) -> str:
    """The call of `MetaCaDI` with these options."""
    weights, arguments = [], [] if engine == "evidence" else [f"engine={engine!r}"]
    for name, value in setting.items():
        value = None if value != value else getattr(value, "item", lambda v=value: v)()
        if name.endswith("_weight"):
            weights.append(f"{name}={value!r}")
        elif name == "representation":
            arguments.append(f"sampling=Sampling(representation={value!r})")
        elif value is not None:
            arguments.append(f"{name}={value!r}")
    if weights:
        arguments.append(f"objective=partial(PaperObjective, {', '.join(weights)})")
    return f"MetaCaDI({', '.join(arguments)})"


def _option(text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    if not equals or not name or not all(values.split(",")):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE,VALUE,..., got {text!r}")
    return name, [_value(value) for value in values.split(",")]


def _value(text: str) -> Any:
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _file(text: str) -> Path:
    if not text.strip() or "\0" in text or not Path(text).name:
        raise argparse.ArgumentTypeError(f"expected the path of a file, got {text!r}")
    return Path(text)

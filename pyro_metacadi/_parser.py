"""The grammar of the ``metacadi`` command: what its sub-commands are told, and what they say."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from pyro_metacadi import __version__
from pyro_metacadi._simulate import SIMULATE, add_simulators, positive
from pyro_metacadi._tune import TUNE, add_tune_options
from pyro_metacadi.errors import ConfigError

__all__ = ["build_parser"]

Command = Callable[[argparse.Namespace], None]

ABOUT = """\
Learn who causes whom from several experiments, and what each experiment hit.

A file of experiments is a table with a header: one row per sample, one column that names the
experiment (the "task") the row was measured in, every other column a variable."""

DEMO = """\
Fit seven conditions of the Sachs et al. (2005) single-cell data, which come with the package, and
find what hit ten unseen cells at a time; print how that compares with what is known. Takes
a few minutes.

example:
  metacadi demo --out out/sachs"""

FIT = """\
Learn one causal graph from all experiments of a file, not told which variables they hit, and save
the model and, in edge_probs.csv, every edge's probability. --log-scale takes the natural log of
every value first; `adapt` remembers it. --chains sets how many Markov chains sample graphs.
How many variables an experiment hits is learned, and expected of new ones too; with --target-prior
every variable is judged on its own instead, with that probability before its rows are seen.
--covariate names a column that is no variable but that every variable may depend on, such as dose
or cell type: numbers are quantities, text names groups. --group is for groups that may be written
as numbers, such as batch 1. Give them once for each column. `adapt` remembers and needs them too.
--ignore leaves a column out, such as an identifier of samples; give it to `adapt` as well.
--stream leaves the rows of a file that is larger than memory on disk; it needs --engine svi, and
room beside the file for 8 bytes a value, for each of several processes.
--observational names an experiment that is known to hit nothing, --known-targets a table with the
columns task, variable and hit: 1 for targets that are known, 0 for what was not hit. The rest is
inferred, and a warning says where the rows speak against what was declared.
Several processes, of one machine or more, share the work where torchrun starts them.

example:
  metacadi fit data.csv --task condition --group batch --out model
  torchrun --nproc-per-node 2 -m pyro_metacadi fit data.csv --task condition --out model"""

ADAPT = """\
Find what new experiments hit, from a few rows each, with a saved model. Prints the most suspicious
variables of every experiment with their probabilities; writes all of them to target_probs.csv, and
posterior.nc for ArviZ.

example:
  metacadi adapt model new.csv --task run --top 5"""

REPORT = """\
Write one HTML page about a saved model, which needs no network: verdicts on how far to believe it,
the graph, the targets of each experiment with search and sort, the course of the fit, the data, and
how all of it came about. With --tasks it reports the targets of new experiments, which --task tells
apart; without, those of the experiments that were trained on.

example:
  metacadi report model -o report.html
  metacadi report model --tasks new.csv --task run -o new.html"""


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line as one line, like every other mistake."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}. Try `{self.prog} --help`.")


def build_parser(run: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser, whose result has, as ``run``, the function of the sub-command by that name."""
    style: dict[str, Any] = {
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }
    parser = _Parser(prog="metacadi", description=ABOUT, **style)
    parser.add_argument("--version", action="version", version=f"metacadi {__version__}")
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )
    said = {
        "demo": ("a tour on real data", DEMO),
        "simulate": ("write experiments with a known truth", SIMULATE),
        "fit": ("learn a model", FIT),
        "adapt": ("find what new experiments hit", ADAPT),
        "tune": ("choose options", TUNE),
        "report": ("show a model on one page", REPORT),
    }
    demo, simulate, fit, adapt, tune, report = (
        commands.add_parser(name, help=short, description=text, **style)
        for name, (short, text) in said.items()
    )
    _add_fitting(demo)
    _add_fit(fit)
    _add_adapt(adapt)
    _add_report(report)
    _add_data(tune)
    add_tune_options(tune)
    worlds = add_simulators(simulate)
    for command in (demo, *worlds, fit, adapt):
        _add_output(command, required=command is not adapt)
    for command in (fit, tune):
        _add_covariates(command)
    for command in (fit, tune, adapt, report):
        command.add_argument(
            "--ignore", action="append", default=[], metavar="COLUMN",
            help="to be left out, such as an identifier of samples; may be given again",
        )  # fmt: skip
    for command in (fit, adapt, report):
        _add_known_targets(command)
    for command in (fit, adapt, tune, report):
        command.add_argument("--device", default="auto", help="auto, cpu or cuda; default: auto")
    for world in worlds:
        world.set_defaults(run=run["simulate"])
    named = {"demo": demo, "fit": fit, "adapt": adapt, "tune": tune, "report": report}
    for name, command in named.items():
        command.set_defaults(run=run[name])
    return parser


def _add_fit(fit: argparse.ArgumentParser) -> None:
    _add_data(fit)
    _add_fitting(fit)
    fit.add_argument(
        "--engine", choices=("evidence", "svi"), default="evidence",
        help="svi is the paper's, of which --steps are gradient steps; default: evidence",
    )  # fmt: skip
    fit.add_argument(
        "--memory", metavar="BYTES",
        help="to compute with, such as 4GB; default: half of the machine's, or of the GPU's",
    )  # fmt: skip
    fit.add_argument("--chains", type=positive, help="Markov chains over graphs; default: 4")
    fit.add_argument("--target-prior", type=float, metavar="P", help="of each variable; see above")
    fit.add_argument("--log-scale", action="store_true", help="take the natural log of all values")
    fit.add_argument("--stream", action="store_true", help="leave rows on disk; see above")


def _add_adapt(adapt: argparse.ArgumentParser) -> None:
    adapt.add_argument("model", type=_path, help="folder that `metacadi fit` wrote")
    _add_data(adapt)
    adapt.add_argument("--top", type=positive, default=3, help="variables to print; default: 3")


def _add_report(report: argparse.ArgumentParser) -> None:
    report.add_argument("model", type=_path, help="folder that `metacadi fit` wrote")
    report.add_argument("-o", "--out", type=_path, required=True, help="file to write: .html")
    report.add_argument("--overwrite", action="store_true", help="replace an earlier report")
    report.add_argument("--tasks", type=_path, metavar="FILE", help="table of new experiments")
    report.add_argument("--task", metavar="COLUMN", help="column that names the new experiment")
    report.add_argument("--title", help="of the page; default: the model's name")
    report.add_argument("--seed", type=int, default=0, help="as for adapt; default: 0")


def _add_covariates(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--covariate", action="append", default=[], metavar="COLUMN",
        help="no variable, but what all may depend on; may be given again",
    )  # fmt: skip
    command.add_argument(
        "--group", action="append", default=[], metavar="COLUMN",
        help="the same, of groups that may be written as numbers",
    )  # fmt: skip


def _add_known_targets(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--observational", action="append", default=[], metavar="TASK",
        help="experiment known to hit nothing; may be given again",
    )  # fmt: skip
    command.add_argument(
        "--known-targets", type=_path, metavar="FILE",
        help="table with columns task, variable, hit (1 or 0) of what is known",
    )  # fmt: skip


def _path(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}")
    return Path(text)


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "data", type=_path, help="table of experiments: .csv, .tsv (.gz), .parquet"
    )
    command.add_argument("--task", required=True, help="column that names the experiment")


def _add_fitting(command: argparse.ArgumentParser) -> None:
    command.add_argument("--steps", type=positive, help="graphs kept of each chain; default: 500")
    command.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_output(command: argparse.ArgumentParser, *, required: bool) -> None:
    default = "" if required else "; default: the data's name + '-targets'"
    command.add_argument(
        "-o", "--out", type=_path, required=required, help=f"folder to write{default}"
    )
    command.add_argument(
        "--overwrite", action="store_true", help="replace the folder of an earlier run"
    )
    command.add_argument("--seed", type=int, default=0, help="fixes all chance; default: 0")

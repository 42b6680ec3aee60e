"""The ``metacadi`` command: one public call per sub-command.

Exit code 0, or 2 with one line on stderr for whatever the user can mend, or 130 after Ctrl-C.
Everything heavy is imported inside the sub-commands, so that help comes at once.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pyro_metacadi import __version__
from pyro_metacadi._input import read_tasks, with_declared
from pyro_metacadi._output import Output, read_record, write_posterior
from pyro_metacadi._simulate import SIMULATE, add_simulators, positive, simulated_world
from pyro_metacadi._tune import TUNE, add_tune_options, check_table, tuned
from pyro_metacadi.errors import ConfigError, MetaCaDIError, MetaCaDIWarning

__all__ = ["main"]

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
--stream leaves the rows of a file that is larger than memory on disk; it needs --engine svi, and
room beside the file for 8 bytes a value.
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (by default the process's) and return its exit code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", MetaCaDIWarning)
            warnings.showwarning = _show_warning
            args = _parser().parse_args(argv)
            args.run(args)
    except (MetaCaDIError, OSError) as error:
        told = _system_error(error) if isinstance(error, OSError) else error
        print(f"metacadi: error: {_one_line(told)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmetacadi: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


def _demo(args: argparse.Namespace) -> None:
    output = _output(args)
    output.check()
    from pyro_metacadi.demo import run_demo

    with output.staged() as folder:
        run_demo(folder, num_steps=args.steps, seed=args.seed, progress=not args.quiet)
    print(f"Tables, pictures and the posterior are in {args.out}")


def _simulate(args: argparse.Namespace) -> None:
    output = _output(args)
    output.check()
    world = simulated_world(args)
    with output.staged() as folder:
        world.save(folder)
    size = f"{len(world.tasks)} tasks of {len(world.tasks.variables)} variables"
    print(
        f"{size} are in {args.out}\n"
        f"Next: metacadi fit {args.out / 'tasks.csv'} --task task --out MODEL"
    )


def _fit(args: argparse.Namespace) -> None:
    output = _output(args, inputs=_inputs(args.data, args.known_targets))
    output.check()
    from pyro_metacadi._ranks import joined

    with joined():
        _fit_together(args, output)


def _fit_together(args: argparse.Namespace, output: Output) -> None:
    """In one process, or in several of which the first writes."""
    from pyro_metacadi import MetaCaDI
    from pyro_metacadi._ranks import rank

    if args.stream and args.engine != "svi":
        raise ConfigError(
            f"--stream: expected --engine svi, got --engine {args.engine}, which holds all rows in "
            "memory. Leave --stream out, or choose the other engine."
        )
    tasks = read_tasks(
        args.data,
        task=args.task,
        covariates=args.covariate,
        groups=args.group,
        log_scale=args.log_scale,
        stream=args.stream,
    )
    tasks = _declared(tasks, args)
    model = MetaCaDI(engine=args.engine, target_prior=args.target_prior).fit(
        tasks,
        num_steps=args.steps,
        num_chains=args.chains,
        seed=args.seed,
        device=args.device,
        memory_budget=args.memory,
        progress=not args.quiet,
    )
    if rank() > 0:
        return
    edges = model.posterior.edge_probs.to_series().rename("probability")
    edges = edges.sort_values(ascending=False, kind="stable").reset_index()
    edges = edges[edges["parent"] != edges["child"]]
    with output.staged() as folder:
        model.save(folder)
        edges.to_csv(folder / "edge_probs.csv", index=False)
    print(edges.head(10).to_string(index=False, formatters={"probability": "{:.3f}".format}))
    print(
        f"The model of {len(tasks)} tasks and {len(tasks.variables)} variables is in {args.out}, "
        f"all edges in edge_probs.csv there\n"
        f"Next: metacadi adapt {args.out} NEW.csv --task COLUMN"
    )


def _adapt(args: argparse.Namespace) -> None:
    args.out = args.out or Path(f"{args.data.name.split('.')[0]}-targets")
    output = _output(args, inputs=_inputs(args.model, args.data, args.known_targets))
    output.check()
    from pyro_metacadi import MetaCaDI

    log_scale = read_record(args.model).get("log_scale", False)
    model = MetaCaDI.load(args.model, device=args.device)
    groups = [name for name, known in model.covariates.items() if known is not None]
    tasks = read_tasks(
        args.data,
        task=args.task,
        covariates=[name for name in model.covariates if name not in groups],
        groups=groups,
        log_scale=log_scale,
    )
    posterior = model.adapt(_declared(tasks, args), seed=args.seed)
    ranked = posterior.rank_targets()[["task", "variable", "probability", "rank"]]
    with output.staged() as folder:
        ranked.to_csv(folder / "target_probs.csv", index=False)
        write_posterior(posterior, folder / "posterior.nc")
    best = ranked.loc[ranked["rank"] <= args.top, ["task", "rank", "variable", "probability"]]
    print(best.to_string(index=False, formatters={"probability": "{:.3f}".format}))
    print(f"All probabilities and the posterior are in {args.out}")


def _inputs(*paths: Path | None) -> tuple[Path, ...]:
    return tuple(path for path in paths if path is not None)


def _declared(tasks: Any, args: argparse.Namespace) -> Any:
    return with_declared(tasks, observational=args.observational, known_targets=args.known_targets)


def _tune(args: argparse.Namespace) -> None:
    check_table(args)
    tasks = read_tasks(args.data, task=args.task, covariates=args.covariate, groups=args.group)
    print(tuned(tasks, args))


def _output(args: argparse.Namespace, *, inputs: tuple[Path, ...] = ()) -> Output:
    options = {name: value for name, value in vars(args).items() if name != "run"}
    plain = {name: str(v) if isinstance(v, Path) else v for name, v in options.items()}
    return Output(args.out, {"version": __version__, **plain}, inputs, args.overwrite)


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line as one line, like every other mistake."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}. Try `{self.prog} --help`.")


def _parser() -> argparse.ArgumentParser:
    style: dict[str, Any] = {
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }
    parser = _Parser(prog="metacadi", description=ABOUT, **style)
    parser.add_argument("--version", action="version", version=f"metacadi {__version__}")
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )

    demo = commands.add_parser("demo", help="a tour on real data", description=DEMO, **style)
    _add_fitting(demo)
    simulate = commands.add_parser(
        "simulate", help="write experiments with a known truth", description=SIMULATE, **style
    )
    fit = commands.add_parser("fit", help="learn a model", description=FIT, **style)
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
    adapt = commands.add_parser(
        "adapt", help="find what new experiments hit", description=ADAPT, **style
    )
    adapt.add_argument("model", type=_path, help="folder that `metacadi fit` wrote")
    _add_data(adapt)
    adapt.add_argument("--top", type=positive, default=3, help="variables to print; default: 3")
    tune = commands.add_parser("tune", help="choose options", description=TUNE, **style)
    _add_data(tune)
    add_tune_options(tune)
    tune.set_defaults(run=_tune)
    worlds = [(simulator, _simulate) for simulator in add_simulators(simulate)]
    for command, run in ((demo, _demo), *worlds, (fit, _fit), (adapt, _adapt)):
        _add_output(command, required=command is not adapt)
        command.set_defaults(run=run)
    for command in (fit, tune):
        command.add_argument(
            "--covariate",
            action="append",
            default=[],
            metavar="COLUMN",
            help="no variable, but what all may depend on; may be given again",
        )
        command.add_argument(
            "--group",
            action="append",
            default=[],
            metavar="COLUMN",
            help="the same, of groups that may be written as numbers",
        )
    for command in (fit, adapt):
        command.add_argument(
            "--observational",
            action="append",
            default=[],
            metavar="TASK",
            help="experiment known to hit nothing; may be given again",
        )
        command.add_argument(
            "--known-targets",
            type=_path,
            metavar="FILE",
            help="table with columns task, variable, hit (1 or 0) of what is known",
        )
    for command in (fit, adapt, tune):
        command.add_argument("--device", default="auto", help="auto, cpu or cuda; default: auto")
    return parser


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
    command.add_argument("--out", type=_path, required=required, help=f"folder to write{default}")
    command.add_argument(
        "--overwrite", action="store_true", help="replace the folder of an earlier run"
    )
    command.add_argument("--seed", type=int, default=0, help="fixes all chance; default: 0")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"metacadi: warning: {_one_line(message)}", file=sys.stderr)


def _system_error(error: OSError) -> str:
    place = f"file '{error.filename}'" if error.filename else "system"
    return (
        f"{place}: expected one that can be read and written, got {error.strerror or error}. "
        "Choose another place or name, or free some space."
    )


def _one_line(message: object) -> str:
    return " ".join(str(message).split())

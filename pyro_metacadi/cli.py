"""The ``metacadi`` command: one public call per sub-command.

Exit code 0, or 2 with one line on stderr for whatever the user can mend, or 130 after Ctrl-C.
Everything heavy is imported inside the sub-commands, so that help comes at once.
"""

import argparse
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyro_metacadi import __version__
from pyro_metacadi._input import read_tasks, with_declared
from pyro_metacadi._output import Output, read_record, write_posterior
from pyro_metacadi._parser import build_parser
from pyro_metacadi._simulate import simulated_world
from pyro_metacadi._tune import check_table, tuned
from pyro_metacadi.errors import ConfigError, MetaCaDIError, MetaCaDIWarning

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (by default the process's) and return its exit code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", MetaCaDIWarning)
            warnings.showwarning = _show_warning
            run = {
                "demo": _demo,
                "simulate": _simulate,
                "fit": _fit,
                "adapt": _adapt,
                "tune": _tune,
                "report": _report,
            }
            args = build_parser(run).parse_args(argv)
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
        **_named_columns(args),
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

    record, model = read_record(args.model), MetaCaDI.load(args.model, device=args.device)
    posterior = model.adapt(_new_tasks(args.data, model, args, record=record), seed=args.seed)
    ranked = posterior.rank_targets()[["task", "variable", "probability", "rank"]]
    with output.staged() as folder:
        ranked.to_csv(folder / "target_probs.csv", index=False)
        write_posterior(posterior, folder / "posterior.nc")
    best = ranked.loc[ranked["rank"] <= args.top, ["task", "rank", "variable", "probability"]]
    print(best.to_string(index=False, formatters={"probability": "{:.3f}".format}))
    print(f"All probabilities and the posterior are in {args.out}")


def _report(args: argparse.Namespace) -> None:
    from pyro_metacadi.report.writing import check_report_path

    if (args.tasks is None) != (args.task is None):
        raise ConfigError(
            "--tasks and --task: expected both or neither, got one. Give the file of new "
            "experiments, and its column that names them."
        )
    if args.tasks is None and (args.observational or args.known_targets or args.ignore):
        raise ConfigError(
            "--observational, --known-targets and --ignore: expected new experiments that they "
            "tell of, got no --tasks. Those of training experiments are options of `metacadi fit`."
        )
    inputs = _inputs(args.model, args.tasks, args.known_targets)
    check_report_path(args.out, overwrite=args.overwrite, inputs=inputs)
    from pyro_metacadi import MetaCaDI
    from pyro_metacadi.report import write_report

    record, model = read_record(args.model), MetaCaDI.load(args.model, device=args.device)
    new = None if args.tasks is None else _new_tasks(args.tasks, model, args, record=record)
    write_report(
        model,
        args.out,
        overwrite=args.overwrite,
        tasks=new,
        title=args.title or f"Causal discovery report: {args.model.resolve().name}",
        record=record,
        seed=args.seed,
    )
    print(f"The report is in {args.out}")


def _new_tasks(
    path: Path, model: Any, args: argparse.Namespace, *, record: Mapping[str, Any]
) -> Any:
    """Tasks of a file as the model of the folder ``args.model`` reads them, with what is known."""
    groups = [name for name, known in model.covariates.items() if known is not None]
    tasks = read_tasks(
        path,
        task=args.task,
        covariates=[name for name in model.covariates if name not in groups],
        groups=groups,
        ignore=args.ignore,
        log_scale=record.get("log_scale", False),
    )
    return _declared(tasks, args)


def _inputs(*paths: Path | None) -> tuple[Path, ...]:
    return tuple(path for path in paths if path is not None)


def _declared(tasks: Any, args: argparse.Namespace) -> Any:
    return with_declared(tasks, observational=args.observational, known_targets=args.known_targets)


def _tune(args: argparse.Namespace) -> None:
    check_table(args)
    tasks = read_tasks(args.data, task=args.task, **_named_columns(args))
    print(tuned(tasks, args))


def _named_columns(args: argparse.Namespace) -> dict[str, Any]:
    """Columns of a training table that are no variables, by what they are."""
    return {"covariates": args.covariate, "groups": args.group, "ignore": args.ignore}


def _output(args: argparse.Namespace, *, inputs: tuple[Path, ...] = ()) -> Output:
    options = {name: value for name, value in vars(args).items() if name != "run"}
    plain = {name: str(v) if isinstance(v, Path) else v for name, v in options.items()}
    return Output(args.out, {"version": __version__, **plain}, inputs, args.overwrite)


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

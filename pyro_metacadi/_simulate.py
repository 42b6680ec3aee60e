"""The simulators as sub-commands of ``metacadi simulate``: options become their arguments."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["SIMULATE", "add_simulators", "positive", "simulated_world"]

SIMULATE = """\
Draw experiments from a random causal graph, so that the truth is known: data to try `fit` on.
Writes tasks.csv (column task, then the variables), adjacency.csv (rows are causes),
intervention_targets.csv and world.json, from which Python makes it again: World.load(DIR).

example:
  metacadi simulate gp-anm --out world --variables 10 --tasks 20 --rows 100 --seed 1"""

GP_ANM = """\
Every variable is a smooth random function (a Gaussian-process draw) of its causes plus noise,
Gaussian unless --noise-law says otherwise. An intervention makes its target N(mean, scale^2)
(hard), holds it at the mean (do), adds a constant (shift) or draws another function (mechanism).

example:
  metacadi simulate gp-anm --out world --intervention shift --shift 2 --targets 2"""

NN_ANM = """\
Every variable is a small random neural network of its causes plus noise, Gaussian unless
--noise-law says otherwise; an intervention moves its target at least 5 away from 0. Without
--tasks: one observational experiment of 100 rows, and one of 10 rows for each variable.

example:
  metacadi simulate nn-anm --out world --variables 20 --seed 1"""

SERGIO = """\
Expression of genes that regulate one another, in single cells of several types: the steady state of
SERGIO's chemical Langevin equations. An intervention knocks its target out, down or over-expresses
it. --technical adds a platform's noise and gives UMI counts.

example:
  metacadi simulate sergio --out world --intervention knock_down --technical 10x_chromium"""


def positive(text: str) -> int:
    """Read a whole number from 1 to a thousand million, for argparse."""
    if not text.isdecimal() or len(text) > 10 or not 1 <= int(text) <= 10**9:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 1 to 10^9, got {text!r:.40}"
        )
    return int(text)


@dataclass(frozen=True)
class _Option:
    flag: str
    argument: str
    read: Callable[[str], Any]
    help: str
    default: Any = None  # None leaves the default to the simulator; the help says which

    @property
    def dest(self) -> str:
        return self.flag.lstrip("-").replace("-", "_")


@dataclass(frozen=True)
class _Simulator:
    function: str
    summary: str
    description: str
    options: tuple[_Option, ...]


def _sizes(*, variables: int, tasks: int | None, rows: int) -> tuple[_Option, ...]:
    plan = "an observational one and one per variable" if tasks is None else tasks
    return (
        _Option("--variables", "num_variables", positive, f"default: {variables}", variables),
        _Option("--tasks", "num_tasks", positive, f"experiments; default: {plan}", tasks),
        _Option("--rows", "num_samples", positive, f"per experiment; default: {rows}", rows),
        _Option("--targets", "targets_per_task", int, "per experiment; default: 1"),
    )


_NOISE_LAW = _Option(
    "--noise-law",
    "noise",
    str,
    "gaussian, heteroscedastic, post-nonlinear or student_t; default: gaussian",
)


def _graph(default: str) -> tuple[_Option, ...]:
    kinds = f"erdos_renyi or scale_free; default: {default}"
    return (
        _Option("--graph", "graph", str, kinds),
        _Option("--edges", "expected_edges", float, "expected number; default: 2 per variable"),
    )


SIMULATORS = {
    "gp-anm": _Simulator(
        "gp_anm",
        "smooth random functions, additive noise",
        GP_ANM,
        (
            *_sizes(variables=10, tasks=20, rows=100),
            *_graph("erdos_renyi"),
            _NOISE_LAW,
            _Option("--noise", "noise_scale", float, "scale of the noise; default: 0.4"),
            _Option(
                "--intervention", "intervention", str, "hard, do, shift or mechanism; default: hard"
            ),
            _Option("--mean", "intervention_mean", float, "for hard and do; default: 0"),
            _Option("--scale", "intervention_scale", float, "for hard; default: 1"),
            _Option("--shift", "intervention_shift", float, "for shift; default: 1"),
        ),
    ),
    "nn-anm": _Simulator(
        "nn_anm",
        "small neural networks, additive noise",
        NN_ANM,
        (*_sizes(variables=20, tasks=None, rows=10), *_graph("erdos_renyi"), _NOISE_LAW),
    ),
    "sergio": _Simulator(
        "sergio",
        "gene expression in single cells",
        SERGIO,
        (
            *_sizes(variables=20, tasks=20, rows=110),
            *_graph("scale_free"),
            _Option(
                "--intervention",
                "intervention",
                str,
                "knock_out, knock_down or over_expression; default: knock_out",
            ),
            _Option(
                "--factor",
                "factor",
                float,
                "of the target's production under knock_down, over_expression; default: 0.5, 2",
            ),
            _Option("--cell-types", "num_cell_types", positive, "default: 10"),
            _Option(
                "--snapshots", "snapshots", str, "independent or trajectory; default: independent"
            ),
            _Option(
                "--technical",
                "technical",
                str,
                "10x_chromium, illumina, drop_seq or smart_seq; default: none",
            ),
        ),
    ),
}


def add_simulators(command: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Give ``metacadi simulate`` a sub-command for every simulator, and return these."""
    names = command.add_subparsers(
        title="simulators", dest="simulator", metavar="SIMULATOR", required=True
    )
    parsers = []
    for name, simulator in SIMULATORS.items():
        parser = names.add_parser(
            name,
            help=simulator.summary,
            description=simulator.description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        for option in simulator.options:
            parser.add_argument(
                option.flag, type=option.read, default=option.default, help=option.help
            )
        parsers.append(parser)
    return parsers


def simulated_world(args: argparse.Namespace) -> Any:
    """Return the `World` that the command line asks for."""
    from pyro_metacadi import simulators

    simulator = SIMULATORS[args.simulator]
    chosen = {option.argument: getattr(args, option.dest) for option in simulator.options}
    given = {argument: value for argument, value in chosen.items() if value is not None}
    return getattr(simulators, simulator.function)(seed=args.seed, **given)

"""Pictures of the worlds with known truth: ``python -m benchmarks.gallery --out docs/gallery``.

One picture for each world: its graph, two pairs of a cause and its effect under and without
interventions on either, and what one intervention does to its target and to an effect of it.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_metacadi import TaskDataset, simulators
from pyro_metacadi.data import log_normalise
from pyro_metacadi.simulators import World
from pyro_metacadi.typing import Array

FREE, CAUSE_HIT, EFFECT_HIT = "0.6", "#0072B2", "#D55E00"  # told apart also by the colour-blind
MARKERS = {FREE: "o", CAUSE_HIT: "^", EFFECT_HIT: "x"}
ROWS = 200
SIZE: Mapping[str, Any] = {
    "num_variables": 8,
    "num_tasks": 1,
    "num_samples": 1,
    "expected_edges": 12,
}


@dataclass(frozen=True)
class Exhibit:
    """A world to draw.

    Attributes:
        title: Over the picture.
        draw: Makes the world of a seed.
        unit: Of the axes.
        show: What to draw of the rows.
        seed: One whose graph has effects worth seeing.
    """

    title: str
    draw: Callable[..., World]
    unit: str = "value"
    show: Callable[[TaskDataset], TaskDataset] = lambda tasks: tasks
    seed: int = 1


def _gp(seed: int, **options: Any) -> World:
    return simulators.gp_anm(**SIZE, intervention_mean=2, seed=seed, **options)


EXHIBITS = {
    "gp_anm": Exhibit(
        "gp_anm: Gaussian-process mechanisms, hard N(2, 1)",
        lambda seed: _gp(seed),
    ),
    "gp_heteroscedastic": Exhibit(
        "gp_anm with noise whose scale depends on the causes, hard N(2, 1)",
        lambda seed: _gp(seed, noise="heteroscedastic"),
    ),
    "gp_post_nonlinear": Exhibit(
        "gp_anm distorted after the noise, hard N(2, 1)",
        lambda seed: _gp(seed, noise="post-nonlinear"),
    ),
    "gp_student_t": Exhibit(
        "gp_anm with heavy-tailed noise, hard N(2, 1)",
        lambda seed: _gp(seed, noise="student_t"),
    ),
    "nn_anm": Exhibit(
        "nn_anm: neural-network mechanisms, hard, at least 5 away from 0",
        lambda seed: simulators.nn_anm(**SIZE, seed=seed),
    ),
    "linear_anm": Exhibit(
        "linear_anm: linear mechanisms, hard, at least 5 away from 0",
        lambda seed: simulators.linear_anm(**SIZE, seed=seed),
    ),
    "sergio": Exhibit(
        "sergio: knock-outs, no technical noise",
        lambda seed: simulators.sergio(**SIZE, seed=seed),
        unit="expression",
    ),
    "sergio_10x": Exhibit(
        "sergio: knock-outs, 10x chromium counts, log-normalised",
        lambda seed: simulators.sergio(**SIZE, technical="10x_chromium", seed=seed),
        unit="log expression",
        show=log_normalise,
    ),
}


@dataclass(frozen=True)
class Rows:
    """Rows ``[sample, variable]`` without targets, and with each variable as the only target."""

    free: Array
    hit: Mapping[int, Array]

    @classmethod
    def draw(cls, exhibit: Exhibit, world: World) -> "Rows":
        """Draw tasks until nearly every variable has been a target."""
        num_tasks = 5 * len(world.tasks.variables)
        counts = [0] + [1] * (num_tasks - 1)
        new = world.sample_tasks(num_tasks, ROWS, seed=0, targets_per_task=counts)
        first, *others = exhibit.show(new.tasks).arrays
        targets = new.intervention_targets[1:].argmax(axis=1)
        return cls(first, dict(zip(targets.tolist(), others, strict=True)))

    def pairs(self, adjacency: Array) -> list[tuple[int, int]]:
        """Two edges with different effects, those of largest covariance."""
        covariance = np.abs(np.cov(self.free.T))
        edges = [
            (cause, effect)
            for cause, effect in np.argwhere(adjacency).tolist()
            if cause in self.hit and effect in self.hit
        ]
        edges.sort(key=lambda edge: -covariance[edge])
        best = edges[0]
        return [best, next((edge for edge in edges if edge[1] != best[1]), best)]


def draw_exhibit(exhibit: Exhibit) -> Figure:
    """Draw one world."""
    world = exhibit.draw(exhibit.seed)
    names = world.tasks.variables
    rows = Rows.draw(exhibit, world)
    figure = Figure(figsize=(13, 3.6), layout="constrained", dpi=80)
    panels = figure.subplot_mosaic(
        [["graph", "one", "two", "target"], ["graph", "one", "two", "effect"]],
        width_ratios=[1.4, 1, 1, 1],
    )
    pairs = rows.pairs(world.adjacency)
    draw_graph(panels["graph"], world.adjacency, names=names)
    for panel, pair in zip(("one", "two"), pairs, strict=True):
        draw_pair(panels[panel], rows, pair, names=names, unit=exhibit.unit)
    handles, labels = panels["two"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    cause, effect = pairs[0]
    for panel, variable in (("target", cause), ("effect", effect)):
        draw_change(panels[panel], rows, variable, target=cause)
        panels[panel].set_xlabel(f"{names[variable]} ({exhibit.unit})")
    panels["target"].set_title(f"{names[cause]} is hit: itself, and its effect", fontsize=10)
    figure.suptitle(exhibit.title)
    return figure


def draw_graph(ax: Axes, adjacency: Array, *, names: Sequence[str]) -> None:
    """Draw causes above their effects; ``adjacency[i, j] = 1`` means X_i -> X_j."""
    place = layered(adjacency)
    for cause, effect in np.argwhere(adjacency):
        style = {"arrowstyle": "-|>", "color": "0.35", "shrinkA": 11, "shrinkB": 11}
        ax.annotate("", place[effect], place[cause], arrowprops=style)
    for name, (x, y) in zip(names, place, strict=True):
        circle = {"boxstyle": "circle,pad=0.25", "fc": "white", "ec": "0.35"}
        ax.text(x, y, name, ha="center", va="center", fontsize=9, bbox=circle)
    ax.set_xlim(-0.6, 0.6)
    ax.set_ylim(place[:, 1].min() - 0.12, 0.12)
    ax.set_axis_off()
    ax.set_title("graph", fontsize=10)


def layered(adjacency: Array) -> Array:
    """Place every variable below its causes, such that edges stay clear of other variables."""
    graph = nx.from_numpy_array(adjacency, create_using=nx.DiGraph)
    layers = list(nx.topological_generations(graph))
    generator = np.random.default_rng(0)
    places = [_random_place(layers, generator=generator) for _ in range(2000)]
    return max(places, key=lambda place: _clearance(place, np.argwhere(adjacency)))


def _random_place(layers: Sequence[Sequence[int]], *, generator: np.random.Generator) -> Array:
    place = np.zeros((sum(map(len, layers)), 2))
    for depth, layer in enumerate(layers):
        spots = (np.arange(len(layer)) + generator.uniform(0.2, 0.8, len(layer))) / len(layer)
        place[generator.permutation(layer), 0] = spots - 0.5
        place[layer, 1] = -depth / max(len(layers) - 1, 1)
    return place


def _clearance(place: Array, edges: Array) -> float:
    """Smallest distance of a variable from an edge or a variable that is not its own."""
    start, end = place[edges[:, 0]], place[edges[:, 1]]
    along = end - start
    offset = place[:, None] - start
    share = ((offset * along).sum(-1) / (along**2).sum(-1)).clip(0, 1)
    distance = np.linalg.norm(offset - share[..., None] * along, axis=-1)
    own = (np.arange(len(place))[:, None, None] == edges).any(-1)
    apart = np.linalg.norm(place[:, None] - place, axis=-1) + 9 * np.eye(len(place))
    return float(min(distance[~own].min(initial=9.0), apart.min() / 2))


def draw_pair(
    ax: Axes, rows: Rows, pair: tuple[int, int], *, names: Sequence[str], unit: str
) -> None:
    """Scatter an effect against its cause, without interventions and with one on either."""
    cause, effect = pair
    groups = {
        "no intervention": (rows.free, FREE),
        "cause intervened on": (rows.hit[cause], CAUSE_HIT),
        "effect intervened on": (rows.hit[effect], EFFECT_HIT),
    }
    for label, (values, colour) in groups.items():
        marker = MARKERS[colour]
        ax.scatter(
            values[:, cause], values[:, effect], s=10, c=colour, marker=marker, lw=0.8,
            alpha=0.7, label=label,
        )  # fmt: skip
    ax.set_xlabel(f"{names[cause]} ({unit})")
    ax.set_ylabel(f"{names[effect]} ({unit})")
    ax.set_title(f"{names[cause]} causes {names[effect]}", fontsize=10)


def draw_change(ax: Axes, rows: Rows, variable: int, *, target: int) -> None:
    """Draw the distribution of `variable` without and with an intervention on `target`.

    Cumulative, for a knocked-out gene is 0 in every cell.
    """
    for values, colour in ((rows.free, FREE), (rows.hit[target], CAUSE_HIT)):
        ax.ecdf(values[:, variable], color=colour, lw=2)
    ax.set_ylabel("share below")


def main(argv: Sequence[str] | None = None) -> None:
    """Write one picture for each world."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--only", nargs="+", choices=EXHIBITS, default=list(EXHIBITS))
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        path = arguments.out / f"{name}.png"
        draw_exhibit(EXHIBITS[name]).savefig(path)
        print(path)


if __name__ == "__main__":
    main()

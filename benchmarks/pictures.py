"""Pictures of docs/plots.md: ``python -m benchmarks.pictures --out docs/plots``.

Every kind of plot, of one world with known truth, of simulated probabilities of 50 and 500
variables, and the report as a browser shows it (which needs playwright and Chromium).
"""

import argparse
import io
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from PIL import Image

from pyro_metacadi import MetaCaDI, Posterior, plots, simulators
from pyro_metacadi.errors import MetaCaDIWarning
from pyro_metacadi.inference import Training
from pyro_metacadi.report import write_report
from pyro_metacadi.simulators import World
from pyro_metacadi.typing import Array

DPI, COLOURS = 72, 64
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
STEPS, FEW = 150, 5
CAUSE = "X9"  # of most variables
SCREENS: dict[str, dict[str, Any]] = {
    "report_desktop": {"viewport": {"width": 1080, "height": 1400}, "color_scheme": "light"},
    "report_phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
}


@dataclass(frozen=True)
class Study:
    """A world of few rows, so that not everything is certain, and fits to it."""

    seed: int = 4

    @cached_property
    def world(self) -> World:
        """Ten variables, fifteen experiments that hit one each, at N(0, 1)."""
        sizes = {"num_variables": 10, "num_tasks": 15, "num_samples": 12, "expected_edges": 16}
        return simulators.gp_anm(**sizes, seed=self.seed)

    @cached_property
    def new(self) -> World:
        """Eight further experiments, of four rows."""
        return self.world.sample_tasks(8, 4, seed=self.seed)

    @cached_property
    def model(self) -> MetaCaDI:
        """The evidence engine's."""
        return MetaCaDI().fit(self.world.tasks, seed=self.seed, progress=False)

    @cached_property
    def found(self) -> Posterior:
        """What the new experiments hit."""
        return self.model.adapt(self.new.tasks)

    @cached_property
    def paper(self) -> MetaCaDI:
        """The svi engine's, after a few steps on a few experiments."""
        training = Training(num_steps=STEPS)
        return MetaCaDI.paper(training=training).fit(self.world.tasks[:FEW], progress=False)

    def ranked(self) -> Axes:
        """The experiment whose main suspect depends most on the graph."""
        by_graph = self.found.target_probs_by_graph()
        at = int(by_graph.std(("chain", "draw")).max("variable").values.argmax())
        tasks, hit = self.new.tasks, np.flatnonzero(self.new.intervention_targets[at])
        truth = [tasks.variables[one] for one in hit]
        return plots.ranked_targets(by_graph, tasks.tasks[at], truth=truth)


def simulated(num_variables: int, num_edges: int) -> tuple[xr.DataArray, Array]:
    """Probabilities of edges as a posterior might have them, and the graph they are about."""
    rng = np.random.default_rng(0)
    order, truth = rng.permutation(num_variables), np.zeros((num_variables, num_variables))
    while truth.sum() < num_edges:
        i, j = sorted(rng.choice(num_variables, 2, replace=False))
        if rng.random() < np.exp(-4 * (j - i) / num_variables):
            truth[order[i], order[j]] = 1
    low, high = rng.beta(0.03, 3, truth.shape), rng.beta(2, 0.6, truth.shape)
    probs = np.where(truth == 1, high, low) * (1 - np.eye(num_variables))
    names = [f"gene{at + 1}" for at in range(num_variables)]
    coords = {"parent": names, "child": names}
    return xr.DataArray(probs, dims=("parent", "child"), coords=coords), truth


def pictures(study: Study) -> dict[str, Callable[[], Axes]]:
    """What to draw, by the file's name."""
    fifty, five_hundred = simulated(50, 60), simulated(500, 700)
    return {
        "graph": lambda: plots.graph(
            study.model.posterior.edge_probs, truth=study.world.adjacency, threshold=0.3
        ),
        "graph_50": lambda: plots.graph(fifty[0], truth=fifty[1]),
        "graph_500": lambda: plots.graph(five_hundred[0]),
        "edge_heatmap": lambda: plots.edge_heatmap(
            study.model.posterior.edge_probs, truth=study.world.adjacency
        ),
        "edge_heatmap_50": lambda: plots.edge_heatmap(fifty[0], truth=fifty[1]),
        "target_heatmap": lambda: plots.target_heatmap(
            study.found.target_probs, truth=study.new.intervention_targets
        ),
        "ranked_targets": study.ranked,
        "mechanism_curves": lambda: plots.mechanism_curves(study.model.posterior, CAUSE, "X4"),
        "intervention_effect": lambda: plots.intervention_effect(
            study.model.posterior.causal_effects([CAUSE]), CAUSE
        ),
        "loss_terms_evidence": lambda: plots.loss_terms(study.model.history),
        "loss_terms_svi": lambda: plots.loss_terms(study.paper.history),
        "reliability": lambda: plots.reliability(*fifty),
    }


def screenshots(study: Study) -> Iterator[tuple[str, bytes]]:
    """The top of the report on a desktop and on a phone; nothing where there is no browser."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("no browser, hence no pictures of the report")
        return
    from playwright.sync_api import sync_playwright

    with TemporaryDirectory() as folder, sync_playwright() as running:
        path = Path(folder) / "report.html"
        write_report(study.model, path, title="Eight new experiments", tasks=study.new.tasks)
        started = running.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name, options in SCREENS.items():
            page = started.new_page(**options)
            page.goto(path.as_uri())
            yield name, page.screenshot()
        started.close()


def write_small(image: bytes, path: Path) -> None:
    """Write a PNG with as many colours as our pictures need."""
    with Image.open(io.BytesIO(image)) as full:
        full.convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Write all pictures, or some."""
    study = Study()
    drawn = pictures(study)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    every = [*drawn, "report"]
    parser.add_argument("--only", nargs="+", choices=every, default=every, metavar="NAME")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", MetaCaDIWarning)  # few steps, few rows
    for name in [name for name in drawn if name in arguments.only]:
        buffer = io.BytesIO()
        drawn[name]().figure.figure.savefig(buffer, dpi=DPI)
        write_small(buffer.getvalue(), arguments.out / f"{name}.png")
    if "report" in arguments.only:
        for name, image in screenshots(study):
            write_small(image, arguments.out / f"{name}.png")


if __name__ == "__main__":
    main()

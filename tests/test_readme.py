"""The README keeps its word: its example runs as shown, its commands exist, its links resolve."""

import re
import warnings
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from pyro_metacadi import MetaCaDI, testing
from tests.helpers import tiny_estimator, tiny_tasks

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_examples_run_as_shown_and_find_more_than_chance(capsys, tmp_path, monkeypatch):
    code, *others = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    edge_probs, targets = names["mc"].posterior.edge_probs, names["found"].target_probs
    assert edge_probs.shape == (6, 6)
    assert targets.shape == (5, 6)
    scores = names["metrics"].evaluate(names["found"], **names["truth"])
    assert scores["edge_ap"] > names["world"].adjacency.sum() / 30
    assert scores["intv_ap"] > 0.5
    assert "rank" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    for further in others:  # they go on where the first ended
        exec(compile(further, "README.md", "exec"), names)
    assert (names["held"]["x"].sel(variable="X1") == 1).all()
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_the_guide_to_diagnostics_runs_as_shown(tmp_path, monkeypatch, capsys):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    guide = (ROOT / "docs/diagnostics.md").read_text(encoding="utf-8")
    names: dict = {}
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Estimated shape parameter of Pareto")
        for block in re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL):
            exec(compile(block, "docs/diagnostics.md", "exec"), names)
    plt.close("all")
    assert (tmp_path / "posterior.nc").exists()
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("convergence", "Pareto k", "p_value", "constant"))


def test_nothing_is_left_to_fill_in():
    assert "@@" not in README


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make (\w+)", README, flags=re.M))))
def test_make_targets_named_in_the_readme_exist(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_the_noise_model_of_the_contributing_guide_trains_saves_and_loads(tmp_path):
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)
    names: dict = {"__name__": "users_own"}
    exec(compile(code, "CONTRIBUTING.md", "exec"), names)
    noise = names["LearnedScaleNoise"]
    testing.check_noise(noise)
    mc = tiny_estimator(noise=noise).fit(tiny_tasks(), progress=False)
    mc.save(tmp_path / "model")
    loaded = MetaCaDI.load(tmp_path / "model", noise=noise)
    assert np.array_equal(mc.posterior.target_probs, loaded.posterior.target_probs)
    assert "log_scale" in dict(mc.posterior._chains[0].model.noise.named_parameters())

"""The example of extending the model keeps its word: short classes that conform, train and last."""

import ast
import os
import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import pyro
import pytest
import torch

from pyro_metacadi import MetaCaDI, testing
from pyro_metacadi.inference import Training
from pyro_metacadi.inference.seeds import isolated
from tests.documents import blocks

ROOT = Path(__file__).parents[1]
SOURCE = (ROOT / "notebooks" / "03_priors_and_noise_models.py").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
OWN = ("OutlierNoise", "PathwayPrior")


@cache
def names():
    """What the script leaves behind at smoke size; what it prints is under ``printed``."""
    found: dict = {"__name__": "users_own", "printed": []}
    found["print"] = lambda text: found["printed"].append(" ".join(text.split()))
    small = {"METACADI_SMOKE": "1", "MPLBACKEND": "agg"}
    with isolated(0), mock.patch.dict(os.environ, small):
        exec(compile(SOURCE, "03_priors_and_noise_models.py", "exec"), found)
    return found


@pytest.mark.parametrize("name", OWN)
def test_a_class_of_ones_own_takes_at_most_fifteen_lines(name):
    (own,) = [n for n in ast.parse(SOURCE).body if getattr(n, "name", None) == name]
    assert own.end_lineno - own.lineno + 1 <= 15


def test_every_text_cell_is_a_comment():
    cells = re.split(r"^# %%", SOURCE, flags=re.MULTILINE)[1:]
    texts = [cell for cell in cells if cell.startswith(" [markdown]")]
    assert len(texts) > 5
    assert all(line.startswith("#") for cell in texts for line in cell.split("\n")[1:] if line)


def test_the_guide_shows_the_classes_as_they_are():
    for name in OWN:
        (own,) = [n for n in ast.parse(SOURCE).body if getattr(n, "name", None) == name]
        assert ast.get_source_segment(SOURCE, own) in GUIDE


@pytest.mark.slow
def test_the_checks_pass_and_tell_of_the_broken_one():
    testing.check_noise(names()["OutlierNoise"], num_variables=2, seed=1)
    testing.check_graph_prior(names()["prior"])  # of whose names the pathways know none
    assert any("expected variance 1" in line for line in names()["printed"])
    assert any("Pass engine='svi' with it" in line for line in names()["printed"])


@pytest.mark.slow
def test_the_guides_code_runs_with_what_the_script_has(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    defaults = {field.name: field.default for field in fields(Training)}
    few = {**defaults, "num_steps": 4, "query_size": 8, "patience": None}
    monkeypatch.setattr(Training.__init__, "__defaults__", tuple(few.values()))
    known = dict(names())
    with pyro.settings.context(module_local_params=True):
        for block in blocks(ROOT / "docs" / "extending.md"):
            if block.language == "python":
                exec(compile("\n" * block.line + block.code, "extending.md", "exec"), known)
        assert torch.isfinite(known["elbo"](known["batch"]))


@pytest.mark.slow
def test_training_improves_the_loss_and_the_prediction_of_tasks_left_out():
    for model in names()["models"].values():
        loss = model.history["loss"]
        assert loss[-20:].mean() < loss[:20].mean() - 0.3
    noise = names()["models"]["mine"].posterior._chains[0].model.noise
    assert noise.log_scale.max() < 0
    table = names()["table"]
    assert list(table.index) == ["mine", "learned scale", "gaussian"]
    assert table.loc["gaussian", "elpd_diff"] > 2 * table.loc["gaussian", "dse"]


@pytest.mark.slow
def test_both_engines_find_edges_and_targets_with_the_prior():
    share = names()["adjacency"].sum() / 30
    assert names()["scores"]["mine"]["edge_ap"] > share + 0.1
    assert names()["scores"]["mine"]["intv_ap"] > 0.5
    assert names()["exact"]["edge_ap"] > 0.9
    assert names()["exact"]["intv_ap"] > 0.9


@pytest.mark.slow
def test_the_latent_probability_is_learned_beside_the_graph():
    guide, batch = names()["guide"], names()["batch"]
    with isolated(0), torch.no_grad():
        values = guide(batch)
    assert set(values) == {"within", "order_score", "edge", "intervention_target", "readout"}
    assert 0.4 < guide.median(batch)["within"] < 0.95


@pytest.mark.slow
def test_models_with_parts_of_ones_own_are_saved_and_loaded(tmp_path):
    parts = {"noise": names()["OutlierNoise"], "graph_prior": names()["prior"]}
    for name, model in {"svi": names()["models"]["mine"], "evidence": names()["evidence"]}.items():
        model.save(tmp_path / name)
        own = parts if name == "svi" else {"graph_prior": parts["graph_prior"]}
        loaded = MetaCaDI.load(tmp_path / name, **own)
        assert np.array_equal(model.posterior.edge_probs, loaded.posterior.edge_probs)

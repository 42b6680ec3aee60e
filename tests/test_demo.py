import math

import numpy as np
import pandas as pd
import pytest

from pyro_metacadi import load_sachs
from pyro_metacadi.demo import CONDITIONS, _split, run_demo


def test_new_tasks_are_cells_that_were_not_trained_on():
    sachs = load_sachs().tasks
    training, new = _split(sachs, seed=0)
    assert training.num_rows.tolist() == [110] * 21
    assert new.num_rows.tolist() == [10] * 70
    assert [name.split("/")[0] for name in new.tasks] == list(np.repeat(CONDITIONS, 10))
    for condition in CONDITIONS:
        used = [
            rows
            for part in (training, new)
            for name, rows in zip(part.tasks, part.arrays, strict=True)
            if name.split("/")[0] == condition
        ]
        cells, counts = np.unique(np.concatenate(used), axis=0, return_counts=True)
        logs = np.log(sachs[condition].values)
        available = [(logs == cell).all(axis=1).sum() for cell in cells]
        assert (counts <= available).all()


@pytest.mark.filterwarnings("ignore::pyro_metacadi.errors.MetaCaDIWarning")
def test_the_demo_prints_and_writes_what_it_found(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pyro_metacadi.demo.NEW_TASKS", 2)  # fewer, to be quick
    scores = run_demo(tmp_path / "sachs", num_steps=5, progress=False)
    names = ["edge_probs.csv", "edges.png", "posterior.nc", "target_probs.csv", "targets.png"]
    assert sorted(path.name for path in (tmp_path / "sachs").iterdir()) == names
    edges = pd.read_csv(tmp_path / "sachs" / "edge_probs.csv")
    assert len(edges) == 11 * 10
    assert edges["probability"].is_monotonic_decreasing
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 60
    assert max(map(len, text.splitlines())) <= 100
    for condition in CONDITIONS:
        assert condition in text
    assert f"{scores['intv_ap']:.2f}" in text
    assert f"{scores['e_shd']:.1f}" in text
    assert all(math.isfinite(score) for score in scores.values())

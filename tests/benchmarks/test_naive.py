"""The table of scores without a model says what was measured, before and now."""

import re

import numpy as np
import pandas as pd
import pytest

from benchmarks import naive
from pyro_metacadi import TaskDataset


def example(seed):
    """Eight tasks whose target is far off, except in one."""
    rows = np.random.default_rng(seed).normal(size=(9, 10, 4))
    targets = np.eye(4, dtype=int)[np.arange(8) % 4]
    rows[1:-1] += 9 * targets[:-1, None]
    tasks = TaskDataset.from_arrays(rows)
    return naive.Case(tasks[1:], tasks[:1], targets)


def setting(before, **options):
    return naive.Setting("example", example, {("best", "intv_ap"): before}, **options)


def test_scores_are_means_over_worlds_beside_the_earlier_figure_of_the_better_rule():
    table = naive.measure(setting(0.5), range(3)).set_index(["rule", "score"])
    shift = table.loc[("mean shift", "intv_ap")]
    each = [naive.measure(setting(0.5), [seed, seed])["mean"][1] for seed in range(3)]
    assert shift["mean"] == pytest.approx(np.mean(each))
    assert shift["s.e."] == pytest.approx(np.std(each, ddof=1) / np.sqrt(3))
    assert shift["difference"] == shift["mean"] - 0.5 > 0.2
    assert table["before"].notna().sum() == 1


def test_without_a_reference_a_task_is_compared_with_the_other_tasks():
    case = example(0)
    alone = naive.guess(naive.mean_shift, case.tasks, reference=None)
    for number in (0, 5):
        others = [one for one in range(8) if one != number]
        expected = naive.mean_shift(case.tasks[[number]], reference=case.tasks[others])
        assert (alone[number] == expected[0]).all()


def test_a_difference_is_marked(capsys, monkeypatch):
    far, near = setting(0.5, note="the example is easy"), setting(0.95, note="unused")
    monkeypatch.setattr(naive, "SECTIONS", {"Examples": (far,)})
    naive.main(["--worlds", "2"])
    text = capsys.readouterr().out
    assert "0.500*" in text
    assert text.endswith("* example: the example is easy\n")
    monkeypatch.setattr(naive, "SECTIONS", {"Examples": (near,)})
    naive.main(["--worlds", "2"])
    assert "*" not in capsys.readouterr().out


def test_columns_line_up():
    table = pd.concat([naive.measure(setting(0.5), range(2))])
    header, *lines = naive.printed(table).splitlines()
    assert len(lines) == 2
    for line in lines:
        assert re.match(r"[\d.]+", line[header.index("AUROC") :])
        assert re.match(r"[\d.]+", line[header.index("AP") :])


@pytest.mark.parametrize("one", naive.BACADI + naive.ACCURACY, ids=lambda setting: setting.name)
def test_settings_are_twenty_tasks_of_ten_rows_with_one_target(one, monkeypatch):
    monkeypatch.setattr(naive, "SIZES", {"num_variables": 4, "num_tasks": 2, "num_samples": 12})
    case = one.draw(0)
    assert case.tasks.num_rows.tolist() == [10] * 20
    assert case.targets.shape == (20, len(case.tasks.variables))
    assert (case.targets.sum(axis=1) == 1).all()
    if case.reference is not None:
        assert case.reference.variables == case.tasks.variables

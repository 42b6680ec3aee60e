"""The sweep resumes and says what failed; the report tests and draws what is in its rows."""

import json
import socket
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import baselines, processes
from benchmarks.accuracy.worlds import draw_problem as draw_accuracy_problem
from benchmarks.baselines import bacadi, dcdi_g
from benchmarks.paper import runs
from benchmarks.paper.__main__ import main
from benchmarks.paper.brief import beside_published, brief, groups
from benchmarks.paper.figure import STROKE, draw_figure
from benchmarks.paper.methods import METHODS
from benchmarks.paper.report import KEYS, joined, printed, read_table, summary, welch, write_table
from benchmarks.paper.runs import COLUMNS, EDGES, Cell, measure, missing, plan, run, write
from benchmarks.paper.sweep import on_cluster, on_this_machine
from benchmarks.paper.worlds import KINDS, draw_problem
from pyro_metacadi import simulators
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.draws import SVIChain

QUICK = ["--smoke", "--worlds", "gp", "--methods", "mean_shift,random", "--sims", "1"]


def row(method, seed, world="gp", error="", **scores):
    empty = dict.fromkeys(COLUMNS, "")
    values = {"e_shd": 1.0, "e_sid": 2.0, "edge_ap": 0.5, "intv_auroc": 0.5, "intv_ap": 0.5}
    values = {} if error else {**values, **scores}
    return {
        **empty, **dict.fromkeys(runs.SCORES), **values,
        "world": world, "seed": seed, "method": method, "error": error,
    }  # fmt: skip


def table(*rows):
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    return frame.replace({"": np.nan}).fillna({"error": ""})


# Worlds


@pytest.mark.parametrize("seed", [0, 1])
def test_data_are_those_of_the_accuracy_benchmark(seed):
    ours, theirs = draw_problem("gp", seed), draw_accuracy_problem("gp", seed)
    assert ours.training == theirs.world.tasks
    assert ours.new == theirs.few_rows(10)
    assert (ours.intervention_targets == theirs.new.intervention_targets).all()
    assert len(ours.together) == 40
    assert ours.all_targets.shape == (40, 20)


def test_controls_are_declared_and_not_judged():
    problem = draw_problem("nn-bacadi", 0, smoke=True)
    assert (problem.training.known_targets == np.vstack([[[0] * 5], [[-1] * 5] * 5])).all()
    assert sorted(problem.judged.tasks) == ["task2", "task3", "task4", "task5", "task6"]


def test_positions_of_tasks_do_not_give_their_targets_away():
    """BaCaDI's tasks hit each variable in turn; here in another order, with targets that follow."""
    problem, world = draw_problem("nn-bacadi", 0), simulators.nn_anm(num_variables=20, seed=0)
    assert problem.training.tasks[0] == "task1"
    assert 0 < np.trace(problem.intervention_targets) + 1 < 8
    for task, targets in zip(problem.judged.tasks, problem.intervention_targets, strict=True):
        at = world.tasks.tasks.index(task)
        assert (targets == world.intervention_targets[at]).all()
        assert (problem.judged[task].values == world.tasks[task].values).all()
    assert (problem.all_targets[1:] == problem.intervention_targets).all()


def test_a_world_with_a_control_has_one_more_task_that_hits_nothing():
    plain, problem = (draw_problem(name, 0, smoke=True) for name in ("gp", "gp-control"))
    assert problem.training[1:].with_known_targets(None) == plain.training
    assert (problem.new.arrays[0] == plain.new.arrays[0]).all()
    assert problem.training.tasks[0] == "control"
    assert (problem.together.known_targets == [[0] * 5, *[[-1] * 5] * 10]).all()
    assert not problem.all_targets[0].any()
    assert (problem.all_targets[1:] == plain.all_targets).all()
    assert problem.judged == plain.judged


def test_half_of_the_imbalanced_tasks_have_many_rows():
    problem = draw_problem("gp-imbalanced", 0)
    assert problem.judged.num_rows.tolist() == [200] * 10 + [10] * 10
    large, small = (problem.groups[name] for name in ("large", "small"))
    assert (problem.judged.num_rows[large] == 200).all()
    assert (problem.judged.num_rows[small] == 10).all()


# Runs


@pytest.mark.parametrize("name", [name for name, facts in METHODS.items() if facts.kind != "ours"])
def test_a_row_has_the_scores_that_are_the_methods_own(name, monkeypatch):
    monkeypatch.setattr(bacadi, "NUM_STEPS", 10)
    monkeypatch.setattr(dcdi_g, "NUM_ROUNDS", 2)
    monkeypatch.setattr(dcdi_g, "FINAL_STEPS", 5)
    if name == "utigsp":
        pytest.importorskip("graphical_model_learning", reason="needs pip install -e '.[utigsp]'")
    scores, facts = measure(Cell("gp-imbalanced", 0, name, smoke=True)), METHODS[name]
    assert ("e_shd" in scores) == facts.edges
    assert ("intv_ap" in scores) == ("intv_ap_small" in scores) == facts.targets
    assert set(scores) <= set(COLUMNS)


def test_groups_are_scored_for_themselves():
    scores = measure(Cell("gp-imbalanced", 3, "ceiling", smoke=True))
    together = (3 * scores["intv_auroc_large"] + 2 * scores["intv_auroc_small"]) / 5
    assert scores["intv_auroc"] == pytest.approx(together, abs=0.25)  # not its mean, but near it
    assert scores["intv_ap_large"] > 0.8


@pytest.mark.filterwarnings("ignore::pyro_metacadi.errors.MetaCaDIWarning")  # after few steps
def test_ours_judge_new_tasks_and_say_how_long_it_took():
    scores = measure(Cell("gp", 0, "paper", smoke=True))
    assert scores["adapt_seconds"] < scores["fit_seconds"]
    assert 0 <= scores["intv_ap"] <= 1
    assert 0 <= scores["e_shd"] <= 10


@pytest.mark.filterwarnings("ignore::pyro_metacadi.errors.MetaCaDIWarning")
def test_of_training_tasks_graphs_are_drawn_alone(monkeypatch):
    monkeypatch.delattr(SVIChain, "draw_jointly")  # of targets as well: many minutes with MAML
    assert set(measure(Cell("gp-imbalanced", 0, "paper", smoke=True))) >= set(EDGES)


def test_only_who_is_told_sees_targets(monkeypatch):
    seen = []
    fit = baselines.fit

    def spy(name, tasks, **options):
        seen.append(tasks.known_targets)
        return fit(name, tasks, **options)

    monkeypatch.setattr(baselines, "fit", spy)
    for name in ("linear_gaussian", "gies"):
        measure(Cell("gp", 0, name, smoke=True))
    assert seen[0] is None
    assert (seen[1] == draw_problem("gp", 0, smoke=True).all_targets).all()


def test_where_a_run_takes_minutes_there_are_fewer_seeds():
    cells = plan(["gp", "sergio"], ["metacadi", "full_maml", "ceiling"], range(100, 120))
    count = pd.DataFrame(cells).groupby(["world", "method"]).size()
    assert count["gp"].to_dict() == {"ceiling": 20, "full_maml": 5, "metacadi": 20}
    assert count["sergio"].to_dict() == {"full_maml": 5, "metacadi": 20}  # its law has no density
    assert [cell.seed for cell in cells[:4]] == [100, 100, 100, 101]
    assert len(plan(["gp"], ["metacadi", "bacadi"], range(40))) == 45
    assert len(plan(["sergio", "nn"], ["jci_pc"], range(20))) == 25


def test_a_sweep_goes_on_where_it_stopped(tmp_path, capsys):
    options = [*QUICK, "--files", str(tmp_path), "--jobs", "1"]
    assert main(options) == 0
    assert "2/2 gp 100" in capsys.readouterr().out
    folder = tmp_path / "smoke" / "gp"  # never to be taken for a run of full size
    (folder / "random-100.json").unlink()
    kept = (folder / "mean_shift-100.json").read_bytes()
    assert main(options) == 0
    out = capsys.readouterr().out
    assert "1/1 gp 100 random" in out
    assert "mean_shift" in out  # in the table
    assert (folder / "mean_shift-100.json").read_bytes() == kept
    assert joined(None, tmp_path).empty
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    "text",
    [
        "", '{"world": "gp"', "[1, 2]", '{"world": "gp", "what": 1}', '{"world": "gp"}',
        json.dumps(row("empty", 100)), json.dumps(row("random", 101)),
        *(
            json.dumps(row("random", 100) | fault)
            for fault in (
                {"seed": "100"}, {"seed": 100.0}, {"seed": True}, {"error": None}, {"error": ["x"]},
                {"date": 5}, {"world": 3}, {"method": None}, {"e_shd": "abc"}, {"e_shd": [1]},
                {"e_shd": True}, {"e_shd": float("inf")}, {"intv_ap": float("nan")},
                dict.fromkeys(runs.SCORES),
            )
        ),
    ],
)  # fmt: skip
def test_a_damaged_file_is_reported_and_computed_again(text, tmp_path, capsys):
    cell = Cell("gp", 100, "random")
    file = cell.file(tmp_path)
    file.parent.mkdir()
    file.write_text(text)
    assert missing([cell], tmp_path, retry=False) == [cell]
    assert f"{file}: expected a run's outcome, got " in capsys.readouterr().out
    write(file, row("random", 100))
    assert missing([cell], tmp_path, retry=False) == []


def test_what_failed_is_a_row_and_is_run_again_if_asked(tmp_path):
    cells = [Cell("gp", 100, name) for name in ("random", "empty")]
    write(cells[0].file(tmp_path), row("random", 100, error="more than 1800 s"))
    write(cells[1].file(tmp_path), row("empty", 100))
    assert missing(cells, tmp_path, retry=False) == []
    assert missing(cells, tmp_path, retry=True) == cells[:1]


def test_a_sweep_says_what_failed_before(tmp_path, capsys):
    write(Cell("gp", 0, "empty").file(tmp_path / "smoke"), row("empty", 0, error="broke"))
    options = ["--smoke", "--worlds", "gp", "--methods", "empty", "--sims", "1", "--first", "0"]
    options += ["--files", str(tmp_path), "--jobs", "1"]
    assert main(options) == 0
    assert capsys.readouterr().err == "1 failed before. --retry runs them again.\n"
    assert main([*options, "--retry"]) == 0
    assert capsys.readouterr().err == ""


def test_a_committed_table_is_extended_if_asked(tmp_path, capsys):
    rows = table(row("random", 100), row("mean_shift", 100, error="broke"))
    write_table(rows, tmp_path / "paper.csv")
    options = ["--worlds", "gp", "--methods", "random,empty,mean_shift", "--sims", "1"]
    options += ["--files", str(tmp_path), "--table", str(tmp_path / "paper.csv"), "--extend"]
    assert main([*options, "--jobs", "1"]) == 0
    assert {file.name for file in tmp_path.rglob("*.json")} == {"empty-100.json"}
    assert "1/1 gp 100 empty" in capsys.readouterr().out
    assert main([*options, "--retry"]) == 0
    assert "1/1 gp 100 mean_shift" in capsys.readouterr().out
    found = joined(tmp_path / "paper.csv", tmp_path)
    assert len(found) == 3
    assert (found["error"] == "").all()


def test_smoke_tests_extend_no_table(capsys):
    with pytest.raises(SystemExit):
        main([*QUICK, "--extend"])
    assert "--extend: the table has no smoke tests." in capsys.readouterr().err


def test_a_run_that_fails_or_takes_too_long_says_so(monkeypatch):
    cell = Cell("gp", 0, "full_maml")
    too_long = run(cell, limit=0.5)
    assert too_long["error"] == "more than 0.5 s"
    assert too_long["machine"]
    assert too_long["commit"]

    def apart(*arguments, **options):
        raise processes.Failed("failed: DataError: too few")

    monkeypatch.setattr(runs, "apart", apart)
    monkeypatch.setenv("PATH", "")  # and there is no git
    assert run(cell, limit=5)["error"] == "failed: DataError: too few"
    assert run(cell, limit=5)["commit"] == "unknown"


def test_runs_are_processes_side_by_side():
    cells = [Cell("gp", seed, "random", smoke=True) for seed in (0, 1)]
    found = dict(on_this_machine(cells, jobs=2, limit=120))
    assert set(found) == set(cells)
    assert all(found[cell]["seed"] == cell.seed and not found[cell]["error"] for cell in cells)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_runs_spread_over_a_cluster():
    distributed = pytest.importorskip("distributed", reason="needs pip install -e '.[cluster]'")
    cells = [Cell("gp", seed, "random", smoke=True) for seed in (0, 1)]
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        found = dict(on_cluster(cells, scheduler=cluster.scheduler_address, limit=120))
    assert set(found) == set(cells)
    for cell in cells:
        assert not found[cell]["error"]
        assert found[cell]["e_shd"] == measure(cell)["e_shd"]


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--worlds", "gp,mars"], "expected all or names from gp, gp-control, sergio, nn"),
        (["--methods", "best"], "expected all or names from metacadi, paper"),
        (["--sims", "0"], "expected a whole number from 1 on, got '0'"),
        (["--sims", "x"], "expected a whole number from 1 on, got 'x'"),
        (["--first", "x"], "expected a whole number from 0 on, got 'x'"),
        (["mend"], "invalid choice: 'mend'"),
        (["--limit", "nan"], "expected seconds, above 0 and up to a week, got nan"),
        (["--limit", "-1"], "expected seconds, above 0 and up to a week, got -1"),
        (["--first", "-1"], "expected a whole number from 0 on, got '-1'"),
        (["--scheduler", ""], "expected an address such as tcp://host:8786, got none"),
    ],
)
def test_an_unknown_name_is_refused_in_a_line(options, message, capsys):
    with pytest.raises(SystemExit):
        main(options)
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "world\n"])
def test_a_table_that_is_none_is_named_before_anything_runs(text, tmp_path, capsys):
    table = tmp_path / "table.csv"
    table.write_text(text)
    assert main([*QUICK, "--files", str(tmp_path / "files"), "--table", str(table)]) == 2
    assert f"{table}: expected " in capsys.readouterr().err
    assert table.read_text() == text
    assert main([*QUICK, "--files", str(table)]) == 2
    assert "files: expected a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "fault", [{"e_shd": "abc"}, {"e_shd": np.inf}, {"seed": "s1"}, dict.fromkeys(runs.SCORES)]
)
def test_a_table_with_rows_that_no_run_has_is_named(fault, tmp_path, capsys):
    path = tmp_path / "table.csv"
    write_table(table(row("random", 100), row("empty", 100) | fault), path)
    for action in (["run", "--extend"], ["report"], ["brief"]):
        assert main([*action, "--files", str(tmp_path / "files"), "--table", str(path)]) == 2
        assert f"{path}: expected a table of runs, got: " in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))


def test_nothing_to_show_or_to_extend_is_said(tmp_path, capsys):
    place = ["--files", str(tmp_path / "files"), "--table", str(tmp_path / "typo" / "table.csv")]
    assert main(["--extend", *place]) == 2
    assert "table: expected one to extend, got " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    for action in ("report", "brief"):
        assert main([action, *place]) == 2
        assert "runs: expected some, got none in " in capsys.readouterr().err
    place[-1] = str(tmp_path)
    assert main(["report", *place]) == 2
    assert f"{tmp_path}: expected a table of runs, got: " in capsys.readouterr().err


def test_a_sweep_that_is_stopped_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.paper.__main__.on_this_machine", stop)
    assert main([*QUICK, "--files", str(tmp_path)]) == 130
    assert capsys.readouterr().err == (
        "Stopped; what has ended is kept. The same command goes on.\n"
    )


def test_a_name_given_twice_is_run_once(tmp_path, capsys):
    options = ["--smoke", "--worlds", "gp,gp", "--methods", "random,random", "--sims", "1"]
    assert main([*options, "--files", str(tmp_path)]) == 0
    assert "1/1 gp 100 random" in capsys.readouterr().out


def test_a_scheduler_that_does_not_answer_is_named(tmp_path, monkeypatch, capsys):
    pytest.importorskip("distributed", reason="needs pip install -e '.[cluster]'")
    monkeypatch.setattr("benchmarks.paper.sweep.PATIENCE", 1)
    with pytest.raises(ConfigError, match="scheduler: expected a Dask scheduler at 'nowhere'"):
        list(on_cluster([], scheduler="nowhere", limit=1))
    for scheme in ("tls", "ucx", "what"):
        with pytest.raises(ConfigError, match=f"Dask scheduler at '{scheme}://127.0.0.1:1', got"):
            list(on_cluster([], scheduler=f"{scheme}://127.0.0.1:1", limit=1))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls, and says nothing
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConfigError, match="expected a Dask scheduler at 'tcp:"):
            list(on_cluster([], scheduler=address, limit=1))
    assert main([*QUICK, "--files", str(tmp_path), "--scheduler", "tcp://127.0.0.1:1"]) == 2
    assert "scheduler: expected a Dask scheduler" in capsys.readouterr().err


def test_a_missing_extra_names_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main([*QUICK, "--files", str(tmp_path), "--scheduler", "tcp://localhost:8786"]) == 2
    assert "pip install -e '.[cluster]'" in capsys.readouterr().err


# Report


def test_welch_is_welch():
    ours, theirs = [1.0, 2.0, 3.0, 4.0], [2.0, 6.0, 7.0, 9.0]
    rows = [row("metacadi", seed, e_shd=value) for seed, value in enumerate([*ours, 999.0])]
    rows += [row("jci_pc", seed, e_shd=value) for seed, value in enumerate(theirs)]
    rows += [row("jci_pc", 99, e_shd=999.0)]  # of a seed that the default does not have
    found = welch(table(*rows), "gp").loc[("jci_pc", "e_shd")]
    va, vb = np.var(theirs, ddof=1) / 4, np.var(ours, ddof=1) / 4
    freedom = (va + vb) ** 2 / (va**2 / 3 + vb**2 / 3)
    assert found["difference"] == 3.5
    assert found["p"] == pytest.approx(2 * stats.t.sf(3.5 / np.sqrt(va + vb), freedom))
    assert found["q"] == pytest.approx(found["p"])  # all other scores are constant


def test_values_that_never_vary_are_tested_against_what_does_and_not_against_each_other():
    rows = [row("metacadi", s, e_shd=2.0, intv_ap=1.0) for s in range(4)]
    rows += [row("jci_pc", s, e_shd=3.0, intv_ap=0.1 * s) for s in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = welch(table(*rows), "gp").loc["jci_pc"]
    assert found["difference"]["e_shd"] == 1
    assert np.isnan(found["p"]["e_shd"])
    spread = np.std([0, 0.1, 0.2, 0.3], ddof=1) / 2  # of the mean, with three degrees of freedom
    assert found["p"]["intv_ap"] == pytest.approx(2 * stats.t.sf(0.85 / spread, 3))
    line = next(x for x in printed(table(*rows)).splitlines() if x.startswith("jci_pc"))
    assert "3.0 ± 0.0   " in line


def test_false_discoveries_are_controlled_among_the_tests_of_a_world():
    rng = np.random.default_rng(0)
    rows = [
        row(method, seed, **{score: rng.normal(loc) for score in ("e_shd", "e_sid", "edge_ap")})
        for method, loc in (("metacadi", 0), ("jci_pc", 1), ("gies", 2))
        for seed in range(8)
    ]
    found = welch(table(*rows), "gp").dropna()
    assert len(found) == 6
    p = found["p"].sort_values()
    adjusted = np.minimum.accumulate((p * 6 / np.arange(1, 7))[::-1])[::-1]
    np.testing.assert_allclose(found["q"][p.index], adjusted.clip(upper=1))


def test_marks_say_who_is_better():
    rows = [row("metacadi", s, e_shd=5 + s / 99, intv_ap=0.5 + s / 99) for s in range(5)]
    rows += [row("jci_pc", s, e_shd=9 + s / 99, intv_ap=0.9 + s / 99) for s in range(5)]
    rows += [row("gies", 0, error="more than 1800 s")]
    text = printed(table(*rows))
    line = next(line for line in text.splitlines() if line.startswith("jci_pc"))
    assert "9.0 ± 0.0 -" in line
    assert "0.920 ± 0.016 +" in line
    assert "0 + 1 failed\n" in text
    assert "other data, other machines" in text
    assert not next(x for x in text.splitlines() if x.startswith("metacadi")).count("+")


def test_the_short_table_has_means_marks_and_numbers_of_seeds():
    empty = {"empty_shd": 40.0}
    rows = [row("metacadi", s, e_shd=1 + s / 10, intv_ap=0.9 + s / 100, **empty) for s in range(4)]
    rows += [row("metacadi", 0, world="nn", e_shd=8, intv_ap=1.0, **empty)]
    rows += [row("paper", s, e_shd=52 + s / 10, intv_ap=0.25 + s / 100, **empty) for s in range(3)]
    rows += [row("paper", s, world="nn", error="more than 1800 s") for s in range(3)]
    rows += [row("empty", 0, e_shd=40.0, intv_ap=None, **empty)]
    rows += [row("mean_shift", 0, world="nn", e_shd=None, intv_ap=1.0, **empty)]
    assert brief(table(*rows)).splitlines() == [
        "| | `gp` | `nn` | seeds |",
        "|---|---|---|---|",
        "| `MetaCaDI()` | .03, .92 | .20, 1.00 | 4 (`nn` 1) |",
        "| `MetaCaDI.paper()` | 1.30\N{MINUS SIGN}, .26\N{MINUS SIGN} |  | 3 |",
        "| mean shift |  | ·, 1.00 | 1 |",
        "| empty graph | 1.00, · |  | 1 |",
    ]


def test_tasks_of_unequal_size_are_shown_apart():
    rows = [
        row("metacadi", s, world="gp-imbalanced", intv_ap_large=0.9, intv_ap_small=s / 2)
        for s in range(2)
    ]
    rows += [row("gies", 0, world="gp-imbalanced"), row("paper", 0, intv_ap_large=0.5)]
    assert groups(table(*rows)).splitlines()[2:] == ["| `MetaCaDI()` | .90 | .25 | 2 |"]


def test_published_rows_are_compared_by_shares_of_the_empty_graphs_of_the_same_seeds():
    rows = [row("bacadi", s, world="nn-bacadi", e_shd=20 + 4 * s, e_sid=100.0) for s in range(2)]
    rows += [row("empty", s, world="nn-bacadi", e_shd=44.0, e_sid=200.0) for s in range(2)]
    rows += [row("empty", 2, world="nn-bacadi", e_shd=999.0, e_sid=999.0)]
    rows += [row("bacadi", 3, world="nn-bacadi", e_shd=999.0, e_sid=999.0)]
    (line,) = beside_published(table(*rows)).splitlines()[2:]
    assert line == (
        "| BaCaDI | 28.1 (.72) | 22.0 (.50) | 179.0 (.80) | 100.0 (.50) | .98 | .50 | .58 | .50 "
        "| 30 | 2 |"
    )


@pytest.mark.parametrize(
    ("page", "make"),
    [
        ("README.md", brief),
        *(("docs/paper.md", make) for make in (brief, groups, beside_published)),
    ],
)
def test_pages_show_the_tables_that_are_committed(page, make):
    root = Path(__file__).parents[2]
    shown = make(read_table(root / "benchmarks/results/paper.csv"))
    assert shown in (root / page).read_text()


def test_reasons_of_failures_are_told_in_full_and_once():
    why = "DataError: " + "x" * 150 + " pip install -e '.[utigsp]'"
    rows = [row("metacadi", 0)]
    rows += [row("utigsp", s, error=f"failed: {why}") for s in range(2)]
    rows += [row("utigsp", 2, error="more than 1800 s")]
    text = printed(table(*rows))
    assert f"\nutigsp failed, 2 x: {why}\nutigsp failed, 1 x: more than 1800 s\n" in text
    assert "0 + 3 failed\n" in text


def test_no_figure_is_drawn_where_nothing_ended_well(tmp_path, capsys):
    cell = Cell("gp", 100, "random")
    write(cell.file(tmp_path / "files"), row("random", 100, error="more than 1 s"))
    place = ["--files", str(tmp_path / "files"), "--table", str(tmp_path / "table.csv")]
    assert main(["report", *place]) == 0
    assert "random failed, 1 x: more than 1 s" in capsys.readouterr().out
    assert (tmp_path / "table.csv").exists()
    assert not (tmp_path / "table.png").exists()


def test_two_seeds_are_no_test():
    rows = [row(name, s, e_shd=at + s / 9) for name, at in (("metacadi", 1), ("bacadi", 8))
            for s in range(3)]  # fmt: skip
    assert welch(table(*rows), "gp")["p"]["bacadi", "e_shd"] < 1e-3
    assert welch(table(*rows[:-1]), "gp")["p"].isna().all()
    assert welch(table(*rows[1:]), "gp")["p"].isna().all()


def test_one_seed_has_no_spread_and_no_test():
    rows = table(row("metacadi", 0), row("jci_pc", 0, e_shd=3.0))
    assert welch(rows, "gp")["p"].isna().all()
    assert "nan" not in printed(rows).split("made by")[0]


def test_of_a_run_the_latest_that_did_not_fail_counts(tmp_path):
    old = tmp_path / "table.csv"
    dated = [
        {**row("random", 100, e_shd=1.0), "date": "2026-01-02 00:00:00", "commit": "0612345678"},
        {**row("metacadi", 100, e_shd=2.0), "date": "2026-01-02 00:00:00"},
        {**row("metacadi", 101, error="more than 1 s"), "date": "2026-01-03 00:00:00"},
        {**row("gone", 100), "date": "2026-01-03 00:00:00"},  # a method that was
    ]
    write_table(table(*dated), old)
    for seed, outcome in (
        (100, {**row("random", 100, e_shd=7.0), "date": "2026-01-01 00:00:00"}),
        (101, {**row("metacadi", 101, e_shd=3.0), "date": "2026-01-01 00:00:00"}),
        (100, {**row("metacadi", 100, error="no"), "date": "2026-01-05 00:00:00"}),
    ):
        write(Cell("gp", seed, outcome["method"]).file(tmp_path), outcome)
    found = joined(old, tmp_path)
    assert found["method"].tolist() == ["metacadi", "metacadi", "random"]
    assert found["e_shd"].tolist() == [2.0, 3.0, 1.0]
    assert found["commit"].iloc[-1] == "0612345678"
    assert joined(None, tmp_path / "none").empty
    write_table(found, old)
    again = joined(old, tmp_path / "none")
    pd.testing.assert_frame_equal(again[[*KEYS, "e_shd", "date"]], found[[*KEYS, "e_shd", "date"]])


def test_floors_and_ceilings_are_no_hypotheses():
    rows = [row(name, s, e_shd=s % 7) for name in ("metacadi", "jci_pc") for s in range(5)]
    alone = welch(table(*rows), "gp")
    rows += [
        row(name, s, e_shd=50 + s) for name in ("random", "empty", "ceiling") for s in range(5)
    ]
    pd.testing.assert_frame_equal(welch(table(*rows), "gp"), alone)


def test_seconds_are_those_of_one_machine():
    rows = [{**row("metacadi", s, fit_seconds=3.0), "machine": "slow"} for s in range(3)]
    rows += [{**row("metacadi", 9, fit_seconds=1.0), "machine": "fast"}]
    found = summary(table(*rows)).loc[("gp", "metacadi")]
    assert found.loc["fit_seconds"].tolist()[::2] == [3.0, 3]
    assert found.loc["e_shd", "n"] == 4


def test_seconds_of_another_machine_are_said_to_be():
    rows = [{**row("metacadi", s, fit_seconds=3.0), "machine": "usual"} for s in range(3)]
    rows += [{**row("bacadi", s, fit_seconds=9.0), "machine": "other"} for s in range(2)]
    frame = table(*rows)
    assert summary(frame)["mean"]["gp", "bacadi", "fit_seconds"] == 9
    text = printed(frame)
    assert "\nseconds are of other: bacadi\n" in text
    assert "seconds are of usual" not in text


def test_the_figure_shows_means_and_deviations():
    rows = [row("metacadi", s, e_shd=value) for s, value in enumerate((2.0, 4.0))]
    rows += [row("empty", s, e_shd=8.0, intv_ap=None) for s in range(2)]
    rows += [row("metacadi", 0, world="nn", e_shd=6.0)]
    figure = draw_figure(table(*rows))
    panels = figure.axes
    assert panels[0].get_title() == "gp: E-SHD ↓"
    assert len(panels) == 8
    first = panels[0]
    assert [bar.get_width() for bar in first.patches] == [3.0, 8.0]
    assert [label.get_text() for label in first.get_yticklabels()] == ["metacadi", "empty"]
    (line, *_) = first.collections[0].get_segments()
    assert line[:, 0] == pytest.approx([3 - 2**0.5, 3 + 2**0.5])
    assert len(panels[3].patches) == 1
    assert panels[1].get_xscale() == "symlog"
    assert not any(panel.texts for panel in panels)
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["ours", "floor", "the empty graph, on the same seeds"]


def test_a_stroke_says_what_the_empty_graph_gets_on_the_seeds_of_a_bar():
    rows = [row("metacadi", s, e_shd=1.0, e_sid=3.0) for s in range(2)]
    rows += [row("bacadi", 0), row("empty", 0, e_shd=8.0, e_sid=80.0), row("mean_shift", 0)]
    rows[-1]["e_shd"] = None
    rows += [row("empty", 1, e_shd=4.0, e_sid=40.0), row("empty", 2, e_shd=99.0)]
    panels = draw_figure(table(*rows)).axes
    strokes = [[line for line in panel.lines if line.get_markersize() == STROKE["markersize"]]
               for panel in panels]  # fmt: skip
    at = [[tuple(line.get_xydata()[0]) for line in lines] for lines in strokes]
    assert at == [[(6.0, 0), (8.0, 1)], [(60.0, 0), (80.0, 1), (80.0, 2)], [], []]


def test_the_figure_says_what_failed():
    rows = [row("metacadi", 0), row("gies", 0, error="no"), row("gies", 0, world="nn")]
    rows += [row("empty", 0), row("empty", 1, error="no"), row("metacadi", 0, "sergio", error="no")]
    figure = draw_figure(table(*rows))
    said = {
        panel.get_title().split(":")[0]: [(text.get_text(), text.xy[1]) for text in panel.texts]
        for panel in figure.axes[::4]
    }
    assert said == {"gp": [("failed", 1)], "nn": [], "sergio": [("failed", 0)]}
    figure.draw_without_rendering()


def test_the_summary_leaves_failures_out():
    rows = table(row("empty", 0), row("empty", 1, e_shd=3.0), row("empty", 2, error="no"))
    found = summary(rows).loc[("gp", "empty", "e_shd")]
    assert found.tolist() == [2.0, pytest.approx(2**0.5), 2]


def test_every_method_and_world_is_named_in_the_help(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in (*METHODS, *KINDS))


def test_a_cell_survives_the_command_line():
    cell = Cell("gp", 100, "random", smoke=True)
    assert Cell(*json.loads(json.dumps(cell))) == cell

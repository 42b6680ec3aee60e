import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pyro_metacadi import MetaCaDI, __version__, cli, simulators
from pyro_metacadi._tune import as_python
from pyro_metacadi.errors import MetaCaDIWarning

SIMULATE = ["simulate", "gp-anm", "--variables", "3", "--tasks", "4", "--rows", "12"]
FIT = ["--task", "task", "--steps", "5", "--quiet", "--device", "cpu"]


def run(*argv):
    return cli.main([str(arg) for arg in argv])


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with a world, a model of it and a model of its logarithms."""
    folder = tmp_path_factory.mktemp("fitted")
    assert run(*SIMULATE, "--out", folder / "world") == 0
    table = pd.read_csv(folder / "world" / "tasks.csv")
    table[["X1", "X2", "X3"]] = np.exp(table[["X1", "X2", "X3"]])
    table.to_csv(folder / "positive.csv", index=False)
    assert run("fit", folder / "world" / "tasks.csv", *FIT, "--out", folder / "model") == 0
    arguments = ("fit", folder / "positive.csv", *FIT, "--log-scale", "--out", folder / "logs")
    assert run(*arguments) == 0
    return folder


def error_line(capsys):
    """The one line that a failed command prints, without its prefix."""
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("metacadi: error: ")
    assert ".py" not in line
    return line.removeprefix("metacadi: error: ")


SIMULATORS = ("gp-anm", "nn-anm", "sergio")


@pytest.mark.parametrize(
    "command",
    [
        *([], ["demo"], ["simulate"], *(["simulate", name] for name in SIMULATORS)),
        *(["fit"], ["adapt"], ["tune"], ["report"]),
    ],
    ids=" ".join,
)
def test_help_teaches_by_example(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main([*command, "--help"])
    text = capsys.readouterr().out
    assert f"metacadi {' '.join(command)}".strip() in text
    assert not command or f"example:\n  metacadi {' '.join(command)} " in text
    assert max(map(len, text.splitlines())) <= 100


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"metacadi {__version__}\n"


def test_the_module_is_the_command_and_help_imports_nothing_heavy():
    code = "import sys; sys.argv = ['metacadi', 'fit']; import runpy\n" + (
        "try:\n    runpy.run_module('pyro_metacadi', run_name='__main__')\n"
        "except SystemExit as end:\n    assert end.code == 2, end.code\n"
        "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stderr.startswith("metacadi: error: the following arguments are required")


def test_simulate_writes_the_data_and_the_truth(tmp_path, capsys):
    assert run(*SIMULATE, "--out", tmp_path / "deep" / "world", "--seed", "3") == 0
    world = tmp_path / "deep" / "world"
    assert "4 tasks of 3 variables" in capsys.readouterr().out
    tasks = pd.read_csv(world / "tasks.csv")
    assert list(tasks.columns) == ["task", "X1", "X2", "X3"]
    assert tasks.groupby("task", sort=False).size().tolist() == [12] * 4
    adjacency = pd.read_csv(world / "adjacency.csv", index_col="parent")
    assert list(adjacency.index) == list(adjacency.columns) == ["X1", "X2", "X3"]
    targets = pd.read_csv(world / "intervention_targets.csv", index_col="task")
    assert list(targets.index) == list(tasks["task"].unique())
    assert targets.sum(axis=1).tolist() == [1] * 4
    record = json.loads((world / "run.json").read_text())
    assert (record["command"], record["seed"]) == ("simulate", 3)


@pytest.mark.parametrize(
    ("options", "simulate", "arguments"),
    [
        (
            "gp-anm --variables 4 --tasks 3 --rows 7 --targets 2 --graph scale_free --edges 4 "
            "--noise 0.1 --intervention shift --mean 1 --scale 2 --shift -3 --seed 5",
            simulators.gp_anm,
            {
                **{"num_variables": 4, "num_tasks": 3, "num_samples": 7, "targets_per_task": 2},
                **{"graph": "scale_free", "expected_edges": 4.0, "noise_scale": 0.1, "seed": 5},
                **{"intervention": "shift", "intervention_mean": 1.0},
                **{"intervention_scale": 2.0, "intervention_shift": -3.0},
            },
        ),
        ("nn-anm --variables 4", simulators.nn_anm, {"num_variables": 4, "seed": 0}),
        (
            "nn-anm --variables 4 --noise-law student_t",
            simulators.nn_anm,
            {"num_variables": 4, "noise": "student_t", "seed": 0},
        ),
        (
            "gp-anm --variables 4 --tasks 2 --rows 3 --noise-law post-nonlinear",
            simulators.gp_anm,
            {
                **{"num_variables": 4, "num_tasks": 2, "num_samples": 3, "seed": 0},
                "noise": "post-nonlinear",
            },
        ),
        (
            "nn-anm --variables 4 --tasks 2 --targets 0 --rows 3",
            simulators.nn_anm,
            {
                **{"num_variables": 4, "num_tasks": 2, "targets_per_task": 0},
                **{"num_samples": 3, "seed": 0},
            },
        ),
        (
            "sergio --variables 4 --tasks 2 --rows 6 --graph erdos_renyi --edges 3 --cell-types 2 "
            "--intervention knock_down --factor 0.25 --technical 10x_chromium",
            simulators.sergio,
            {
                **{"num_variables": 4, "num_tasks": 2, "num_samples": 6, "seed": 0},
                **{"graph": "erdos_renyi", "expected_edges": 3.0, "num_cell_types": 2},
                **{"intervention": "knock_down", "factor": 0.25, "technical": "10x_chromium"},
            },
        ),
    ],
    ids=["gp-anm", "nn-anm", "nn-anm noise", "gp-anm noise", "nn-anm free", "sergio"],
)
def test_simulate_is_the_python_call_and_loads_again(tmp_path, options, simulate, arguments):
    assert run("simulate", *options.split(), "--out", tmp_path / "world") == 0
    loaded, expected = simulators.World.load(tmp_path / "world"), simulate(**arguments)
    np.testing.assert_allclose(loaded.tasks.values, expected.tasks.values, rtol=1e-12)
    assert (loaded.adjacency == expected.adjacency).all()
    assert (loaded.intervention_targets == expected.intervention_targets).all()
    assert loaded.origin == expected.origin


def test_adapt_ranks_the_targets_of_each_new_task(fitted, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ("adapt", fitted / "model", fitted / "world" / "tasks.csv", "--task", "task")
    assert run(*arguments, "--device", "cpu", "--top", "2") == 0
    out = tmp_path / "tasks-targets"
    assert listing(out) == ["posterior.nc", "run.json", "target_probs.csv"]
    table = pd.read_csv(out / "target_probs.csv")
    assert list(table.columns) == ["task", "variable", "probability", "rank"]
    assert len(table) == 4 * 3
    for _, task in table.groupby("task"):
        assert sorted(task["rank"]) == [1, 2, 3]
        assert task.sort_values("rank")["probability"].is_monotonic_decreasing
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["task", "rank", "variable", "probability"]
    assert len(printed) == 1 + 4 * 2 + 1
    assert len({len(line) for line in printed[:-1]}) == 1


def test_report_is_one_page_about_the_model_or_about_new_experiments(fitted, tmp_path, capsys):
    page = tmp_path / "report.html"
    assert run("report", fitted / "model", "-o", page, "--device", "cpu") == 0
    assert capsys.readouterr().out == f"The report is in {page}\n"
    text = page.read_text("utf-8")
    assert "<title>Causal discovery report: model</title>" in text
    assert str(fitted / "world" / "tasks.csv") in text  # how it was fitted
    new = ("--tasks", fitted / "positive.csv", "--task", "task", "--title", "<New>")
    assert run("report", fitted / "logs", "-o", page, "--overwrite", *new) == 0
    text = page.read_text("utf-8")
    assert "<title>&lt;New&gt;</title>" in text
    assert "new experiments" in text
    assert listing(tmp_path) == ["report.html"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("model -o nowhere/r.html", "report: expected an existing folder"),
        ("model -o /proc/r.html", "report: expected a (file|folder) that can be written"),
        ("model -o taken.html", "report: expected a new file, got 'taken.html', which exists"),
        ("model -o taken.html --overwrite", "report: expected an earlier report to replace"),
        ("model -o model/r.html", "report: expected a file apart from the inputs"),
        ("model -o .", "report: expected a file, got the folder"),
        ("model -o r.txt", "report: expected a name that ends in .html, got 'r.txt'"),
        ("nothing -o r.html", "model .*nothing"),
        ("model -o r.html --tasks new.csv", "--tasks and --task: expected both or neither"),
        ("model -o r.html --task run", "--tasks and --task: expected both or neither"),
        ("model -o r.html --observational a", "expected new experiments that they tell of"),
        ("model -o r.html --ignore a", "--ignore: expected new experiments that they tell of"),
        ("model", "the following arguments are required: -o/--out"),
    ],
)
def test_a_report_that_cannot_be_is_one_line(
    fitted, tmp_path, monkeypatch, capsys, options, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(fitted / "model")
    (tmp_path / "taken.html").write_text("mine")
    assert run("report", *options.split()) == 2
    assert re.search(message, error_line(capsys))
    assert listing(tmp_path) == ["model", "taken.html"]
    assert (tmp_path / "taken.html").read_text() == "mine"


def test_a_target_prior_makes_targets_independent(fitted, tmp_path):
    arguments = ("fit", fitted / "world" / "tasks.csv", *FIT, "--target-prior", "0.3", "--out")
    assert run(*arguments, tmp_path / "model") == 0
    hyperparameters = MetaCaDI.load(tmp_path / "model")._fit.scaling.evidence.hyperparameters
    assert (hyperparameters.target_prior, hyperparameters.num_targets) == (0.3, None)


def test_columns_are_left_out_if_asked(fitted, tmp_path, capsys):
    frame = pd.read_csv(fitted / "world" / "tasks.csv")
    frame.insert(0, "sample", [f"s{number}" for number in range(len(frame))])
    frame.to_csv(tmp_path / "data.csv", index=False)
    table, ignore = (tmp_path / "data.csv", *FIT[:2]), ("--ignore", "sample")
    assert run("fit", *table, *FIT[2:], *ignore, "-o", tmp_path / "model") == 0
    assert "sample" not in MetaCaDI.load(tmp_path / "model").posterior.edge_probs["child"]
    assert run("adapt", tmp_path / "model", *table, *ignore, "-o", tmp_path / "found") == 0
    capsys.readouterr()
    assert run("adapt", tmp_path / "model", *table, "-o", tmp_path / "other") == 2
    assert "column 'sample'" in (message := error_line(capsys))
    assert "Ignore the column when reading" in message
    assert run("fit", *table, "--ignore", "sampel", "-o", tmp_path / "other") == 2
    assert "ignored column: expected a known name, got 'sampel'" in error_line(capsys)


def test_a_file_that_stays_on_disk_gives_the_same_model(fitted, tmp_path):
    data = fitted / "world" / "tasks.csv"
    for name, options in (("memory", ()), ("disk", ("--stream",))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MetaCaDIWarning)
            out = tmp_path / name
            assert run("fit", data, *FIT, "--engine", "svi", *options, "--out", out) == 0
    first, second = (tmp_path / name / "edge_probs.csv" for name in ("memory", "disk"))
    assert first.read_bytes() == second.read_bytes()
    assert "rows.npy" in listing(tmp_path / "disk")
    assert run("adapt", tmp_path / "disk", data, "--task", "task", "--out", tmp_path / "new") == 0


def test_adapt_remembers_the_log_scale(fitted, tmp_path):
    arguments = ("--task", "task", "--device", "cpu", "--out")
    assert run("adapt", fitted / "logs", fitted / "positive.csv", *arguments, tmp_path / "a") == 0
    plain = fitted / "world" / "tasks.csv"
    assert run("adapt", fitted / "model", plain, *arguments, tmp_path / "b") == 0
    first, second = (pd.read_csv(tmp_path / name / "target_probs.csv") for name in "ab")
    merged = first.merge(second, on=["task", "variable"])
    np.testing.assert_allclose(merged["probability_x"], merged["probability_y"], atol=1e-4)


def test_tune_prints_the_scores_and_the_python_that_uses_the_best(fitted, tmp_path, capsys):
    data, out = fitted / "world" / "tasks.csv", tmp_path / "scores.csv"
    options = ["--set", "graph_prior=0.05,0.5", "--set", "target_prior=none", "--folds", "2"]
    arguments = ["tune", data, *FIT, *options, "--support", "3", "--out", out]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MetaCaDIWarning)
        assert run(*arguments) == 0
    table = pd.read_csv(out)
    assert sorted(table["graph_prior"]) == [0.05, 0.5]
    assert listing(tmp_path) == ["scores.csv"]
    printed = capsys.readouterr().out.splitlines()
    names = ["graph_prior", "target_prior", "score", "se", "behind", "behind_se"]
    assert printed[0].split() == names == list(table)
    assert printed[-1] == f"Best: MetaCaDI(graph_prior={table['graph_prior'][0]})"
    assert run(*arguments) == 2
    assert "which exists" in error_line(capsys)


def test_the_python_of_a_setting_makes_its_model():
    setting = {"target_weight": np.float64(0.5), "graph_weight": 0.1, "target_prior": np.nan}
    assert as_python("svi", setting) == (
        "MetaCaDI(engine='svi', objective=partial(PaperObjective, target_weight=0.5, "
        "graph_weight=0.1))"
    )
    setting = {"representation": "log", "graph_prior": 0.1, "target_prior": None}
    assert as_python("evidence", setting) == (
        "MetaCaDI(sampling=Sampling(representation='log'), graph_prior=0.1)"
    )


def test_an_output_is_replaced_only_if_asked_and_only_if_ours(tmp_path, capsys):
    out = tmp_path / "world"
    assert run(*SIMULATE, "--out", out) == 0
    before = (out / "tasks.csv").read_text()
    capsys.readouterr()
    assert run(*SIMULATE, "--out", out, "--seed", "1") == 2
    assert "which exists" in error_line(capsys)
    assert (out / "tasks.csv").read_text() == before
    assert run(*SIMULATE, "--out", out, "--seed", "1", "--overwrite") == 0
    assert (out / "tasks.csv").read_text() != before
    (out / "run.json").unlink()
    capsys.readouterr()
    assert run(*SIMULATE, "--out", out, "--overwrite") == 2
    assert "which has no run.json" in error_line(capsys)
    assert os.listdir(tmp_path) == ["world"]


@pytest.mark.parametrize("name", ["notes.txt", "figures/draft.png", "empty/"])
def test_an_output_with_something_of_the_users_is_not_replaced(tmp_path, capsys, name):
    out = tmp_path / "world"
    assert run(*SIMULATE, "--out", out) == 0
    assert json.loads((out / "run.json").read_text())["files"] == listing(out)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).mkdir() if name.endswith("/") else (out / name).touch()
    before = listing(out)
    capsys.readouterr()
    assert run(*SIMULATE, "--out", out, "--overwrite") == 2
    assert f"does not list '{name.split('/')[0]}'" in error_line(capsys)
    assert listing(out) == before


def test_what_appears_during_the_work_is_not_replaced(monkeypatch, tmp_path, capsys):
    def meanwhile(folder, **_):
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "thesis.tex").touch()

    monkeypatch.setattr("pyro_metacadi.demo.run_demo", meanwhile)
    assert run("demo", "--out", tmp_path / "new") == 2
    assert "which exists" in error_line(capsys)
    assert listing(tmp_path) == ["new", "new/thesis.tex"]


@pytest.mark.parametrize("out", ["", "a\0b"])
def test_a_path_that_no_folder_can_have_is_refused(capsys, out):
    assert run("demo", "--out", out) == 2
    assert "--out: expected a path" in error_line(capsys)


def test_an_empty_folder_may_be_the_output(tmp_path):
    (tmp_path / "world").mkdir()
    assert run(*SIMULATE, "--out", tmp_path / "world") == 0
    assert (tmp_path / "world" / "tasks.csv").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("", r"required: COMMAND\. Try `metacadi --help`"),
        ("fit", r"required: data, --task, -o/--out\. Try `metacadi fit --help`"),
        ("fti data.csv", r"invalid choice: 'fti'"),
        ("fit {data} --task task --out new --steps 0", r"--steps: expected a whole number from 1"),
        ("fit {data} --task task --out new --seed x", r"--seed: invalid int value: 'x'"),
        ("fit nowhere.csv --task task --out new", r"nowhere\.csv"),
        ("fit {data} --task condition --out new", r"'condition'"),
        ("fit {data} --task task --out new --log-scale", r"positive values .* at task 'task1'"),
        ("fit {data} --task task --out new --target-prior 2", r"target_prior: .* got 2"),
        ("fit {data} --task task --out new --target-prior x", r"--target-prior: invalid float"),
        ("fit {data} --task task --out new --stream", r"--stream: expected --engine svi, got"),
        (
            "fit {data} --task task --out new --engine svi --stream --log-scale",
            r"--stream: .* --log-scale as well",
        ),
        ("fit {data} --task task --out {other}", r"got the file"),
        ("fit {data} --task task --out {data}", r"apart from the inputs"),
        ("fit {data} --task task --out {world} --overwrite", r"apart from the inputs"),
        ("fit {data} --task task --out {data}/..", r"apart from the inputs"),
        ("fit {other} --task task --out . --overwrite", r"apart from the inputs"),
        ("adapt {model} {data} --task task --out {model} --overwrite", r"apart from the inputs"),
        ("adapt {model} {data} --task task --out {model}/new", r"apart from the inputs"),
        ("adapt {model} {data} --task task --out link --overwrite", r"apart from the inputs"),
        ("fit {other} --task task --out {world} --overwrite", r"`metacadi simulate` wrote"),
        ("adapt {model} {other} --task task --out {logs} --overwrite", r"`metacadi fit` wrote"),
        ("simulate nn-anm --out .", r"another than the current one"),
        ("simulate nn-anm --out {long}", r"got File name too long\. Choose another"),
        ("adapt {deep} {data} --task task --out new", r"run\.json': expected JSON"),
        ("fit {data} --task task --out new --steps 99999999999999999999", r"from 1 to 10\^9"),
        ("fit {data} --task task --out {model}", r"which exists"),
        ("adapt nowhere {data} --task task --out new", r"nowhere"),
        ("adapt {truncated} {data} --task task --out new", r"truncated"),
        ("adapt {damaged} {data} --task task --out new", r"run\.json': expected JSON"),
        ("adapt {model} {other} --task task --out new", r"X3"),
        ("adapt {model} {data} --task task --out new --top 0", r"--top: expected"),
        ("simulate", r"required: SIMULATOR\. Try `metacadi simulate --help`"),
        ("simulate dream --out new", r"invalid choice: 'dream'"),
        ("simulate gp-anm", r"required: -o/--out\. Try `metacadi simulate gp-anm --help`"),
        ("simulate nn-anm --out new --mean 2", r"unrecognized arguments: --mean"),
        ("simulate nn-anm --out new --rows 0", r"--rows: expected a whole number from 1"),
        ("simulate nn-anm --out new --targets 2", r"expected a value only with num_tasks"),
        ("simulate nn-anm --out new --graph tree", r"'tree'"),
        ("simulate sergio --out new --technical nanopore", r"'nanopore'"),
        ("simulate gp-anm --out new --intervention magic", r"magic"),
        ("simulate nn-anm --out new --noise-law laplace", r"noise: expected one of .* 'laplace'"),
        ("demo --out {model}", r"which exists"),
        ("tune {data}", r"required: --task. Try `metacadi tune --help`"),
        ("tune nowhere.csv --task task", r"nowhere\.csv"),
        ("tune {data} --task task --set graph_prior", r"--set: expected NAME=VALUE,VALUE,..., got"),
        ("tune {data} --task task --set graph_prior=0.1,", r"--set: expected NAME=VALUE"),
        (
            "tune {data} --task task --set depth=3",
            r"grid: expected some of graph_prior, .* 'depth'",
        ),
        ("tune {data} --task task --set graph_prior=2", r"graph_prior: expected probabilities"),
        (
            "tune {data} --task task --set graph_prior=0.1 --set graph_prior=0.2",
            r"--set: expected each option once, got graph_prior, graph_prior",
        ),
        ("tune {data} --task task --engine magic", r"engine: expected 'evidence' or 'svi'"),
        ("tune {data} --task task --folds 1", r"folds: expected at least 2, got 1"),
        ("tune {data} --task task --out {data}", r"output file: expected one apart from the data"),
        ("tune {data} --task task --out {other}", r"output file: .*, which exists"),
        ("tune {data} --task task --out {model} --overwrite", r"output file: .* a folder"),
        ("tune {data} --task task --out nowhere/scores.csv", r"output file: expected a folder"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    fitted, tmp_path, capsys, monkeypatch, argv, message
):
    monkeypatch.chdir(tmp_path)
    truncated, damaged, deep = (tmp_path / name for name in ("truncated", "damaged", "deep"))
    for folder in (truncated, damaged):
        shutil.copytree(fitted / "model", folder)
        for path in folder.iterdir():
            if (path.name == "run.json") == (folder is damaged):
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    table = pd.read_csv(fitted / "world" / "tasks.csv")
    table.drop(columns="X3").to_csv(tmp_path / "other.csv", index=False)
    places = {
        "data": fitted / "world" / "tasks.csv",
        "model": fitted / "model",
        "truncated": truncated,
        "damaged": damaged,
        "other": tmp_path / "other.csv",
        "world": fitted / "world",
        "logs": fitted / "logs",
        "deep": deep,
        "long": "x" * 5000,
    }
    (tmp_path / "link").symlink_to(fitted / "model")
    deep.mkdir()
    (deep / "run.json").write_text("[" * 100_000)
    before = listing(tmp_path), listing(fitted)
    assert run(*argv.format(**places).split()) == 2
    assert (listing(tmp_path), listing(fitted)) == before
    assert re.search(message, error_line(capsys))


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run("demo", "--out", tmp_path / "file" / "demo") == 2
    assert "a place that can be written" in error_line(capsys)


def test_warnings_are_one_line_without_paths(monkeypatch, tmp_path, capsys):
    def warn(args):
        warnings.warn("fit: expected a plateau,\ngot none.", MetaCaDIWarning, stacklevel=1)

    monkeypatch.setattr(cli, "_demo", warn)
    assert run("demo", "--out", tmp_path / "new") == 0
    assert capsys.readouterr().err == "metacadi: warning: fit: expected a plateau, got none.\n"


def test_ctrl_c_leaves_nothing_behind(monkeypatch, tmp_path, capsys):
    def interrupted(folder, **_):
        (folder / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("pyro_metacadi.demo.run_demo", interrupted)
    assert run("demo", "--out", tmp_path / "deep" / "new") == 130
    assert "interrupted" in capsys.readouterr().err
    assert listing(tmp_path) == []


def test_a_full_disk_is_an_error_of_one_line(monkeypatch, tmp_path, capsys):
    def full(folder, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyro_metacadi.demo.run_demo", full)
    assert run("demo", "--out", tmp_path / "new") == 2
    assert "No space left" in error_line(capsys)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("seen", ["before", "by HDF5"])
def test_a_disk_too_full_for_the_posterior_is_an_error_of_one_line(
    fitted, monkeypatch, tmp_path, capsys, seen
):
    def full(*_, **__):
        raise RuntimeError("Can't decrement id ref count\n(unable to extend file properly)")

    if seen == "before":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    else:
        monkeypatch.setattr("arviz.InferenceData.to_netcdf", full)
    arguments = ("adapt", fitted / "model", fitted / "world" / "tasks.csv", "--task", "task")
    assert run(*arguments, "--device", "cpu", "--out", tmp_path / "new") == 2
    got = "No space left on device" if seen == "before" else "a failed write"
    assert f"posterior.nc': expected one that can be read and written, got {got}." in error_line(
        capsys
    )
    assert listing(tmp_path) == []


# What is known of targets


def known_file(folder, text):
    path = folder / "known.csv"
    path.write_text(text)
    return path


def test_declared_targets_are_honoured_by_fit_and_adapt(fitted, tmp_path):
    known = known_file(tmp_path, "task,variable,hit\ntask2,X1,1\ntask2,X3,0\n")
    data = fitted / "world" / "tasks.csv"
    told = ["--observational", "task1", "--known-targets", known]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MetaCaDIWarning)
        assert run("fit", data, *FIT, *told, "--out", tmp_path / "model") == 0
        adapted = ["adapt", fitted / "model", data, "--task", "task", *told]
        assert run(*adapted, "--out", tmp_path / "found") == 0
    tasks = MetaCaDI.load(tmp_path / "model").posterior.tasks
    assert tasks.known_targets.tolist() == [[0, 0, 0], [1, -1, 0], *[[-1] * 3] * 2]
    found = pd.read_csv(tmp_path / "found" / "target_probs.csv").set_index(["task", "variable"])
    assert (found.loc["task1", "probability"] == 0).all()
    assert found.loc[("task2", "X1"), "probability"] == 1
    assert found.loc[("task2", "X3"), "probability"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task,variable\ntask1,X1\n", "expected the columns task, variable and hit, got no 'hit'"),
        (
            "task,variable,hit\ntask1,X1,2\n",
            "expected 1 or 0 in column 'hit', got 2 at task 'task1'",
        ),
        ("task,variable,hit\ntask1,X1,\ntask1,X2,1\n", "column 'hit', got nan at task 'task1'"),
        ("task,variable,hit\ntask9,X1,1\n", "task: expected a known name, got 'task9'"),
        ("task,variable,hit\ntask1,X9,1\n", "hit: expected names of variables, got 'X9'"),
        ("task,variable,hit\ntask2,X1,1\ntask2,X1,0\n", "got 'X1' declared as both"),
        ("task,variable,hit\ntask1,X1,1\n", "got 'X1' declared as both at task 'task1'"),
    ],
)
def test_bad_tables_of_known_targets_are_named(text, message, fitted, tmp_path, capsys):
    known = known_file(tmp_path, text)
    capsys.readouterr()
    arguments = ("--observational", "task1", "--known-targets", known, "--out", tmp_path / "model")
    assert run("fit", fitted / "world" / "tasks.csv", *FIT, *arguments) == 2
    assert message in error_line(capsys)
    assert not (tmp_path / "model").exists()

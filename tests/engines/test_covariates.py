"""Covariates from data to saved models: what batches confound, and what is asked of new tasks."""

import json

import numpy as np
import pytest
import safetensors.torch

from pyro_metacadi import MetaCaDI, TaskDataset, metrics, simulators
from pyro_metacadi.cli import main
from pyro_metacadi.data.checks import warn_about
from pyro_metacadi.errors import DataError, MetaCaDIWarning, ModelFileError
from pyro_metacadi.inference.evidence import Sampling
from pyro_metacadi.tuning import tune
from tests.helpers import evidence_estimator, tiny_estimator, tiny_tasks


def in_batches(tasks, *, seed, shift):
    """The tasks, each row measured in one of the batches, which shift all variables."""
    batch = np.random.default_rng(seed).integers(len(shift), size=len(tasks.values))
    rows = np.split(tasks.values + shift[batch], np.cumsum(tasks.num_rows)[:-1])
    names = {"variables": tasks.variables, "tasks": tasks.tasks}
    return TaskDataset.from_arrays(
        rows, **names, covariates={"batch": [f"b{number}" for number in batch], "batch_no": batch}
    )


def without(tasks):
    return TaskDataset.from_arrays(tasks.arrays, variables=tasks.variables, tasks=tasks.tasks)


def small_tasks(**options):
    return in_batches(tiny_tasks(**options), seed=1, shift=np.ones((2, 3)))


@pytest.fixture(scope="module")
def model():
    return evidence_estimator(num_draws=30, warmup=10).fit(small_tasks(), progress=False)


@pytest.mark.parametrize("seed", [0, 1])
def test_batches_that_confound_all_variables_are_told_from_edges(seed):
    world = simulators.gp_anm(
        num_variables=6, num_tasks=12, num_samples=60, seed=seed, intervention_mean=2.0
    )
    new = world.sample_tasks(6, 10, seed=seed)
    shift = 2 * np.random.default_rng(seed).normal(size=(3, 6))
    tasks, asked = (in_batches(w.tasks, seed=seed, shift=shift) for w in (world, new))
    scores = {}
    for known in (True, False):
        show = (lambda data: data) if known else without
        sampling = Sampling(num_draws=100, warmup=50, num_chains=2)
        fit = MetaCaDI(sampling=sampling).fit(show(tasks), seed=seed, progress=False)
        scores[known] = metrics.evaluate(
            fit.adapt(show(asked)),
            adjacency=world.adjacency,
            intervention_targets=new.intervention_targets,
        )
    assert scores[True]["e_shd"] <= 3
    assert scores[False]["e_shd"] >= scores[True]["e_shd"] + 4
    assert scores[True]["intv_ap"] >= 0.95


def test_a_saved_model_knows_its_covariates(model, tmp_path):
    model.save(tmp_path / "model")
    again = MetaCaDI.load(tmp_path / "model")
    assert again.covariates == model.covariates == {"batch": ("b0", "b1"), "batch_no": None}
    assert again.posterior.tasks == model.posterior.tasks
    new = small_tasks(rows=(3, 2), seed=5)
    assert again.adapt(new).target_probs.identical(model.adapt(new).target_probs)
    assert again.posterior.target_probs.identical(model.posterior.target_probs)


def test_new_tasks_need_the_covariates(model):
    with pytest.raises(DataError, match="'batch', 'batch_no' missing"):
        model.adapt(without(small_tasks()))
    new = in_batches(tiny_tasks(), seed=1, shift=np.ones((9, 3)))
    with pytest.raises(DataError, match=r"expected groups of the training tasks .*'b0', 'b1'"):
        model.adapt(new)


def test_a_model_without_covariates_refuses_them():
    plain = evidence_estimator(num_draws=30, warmup=10).fit(tiny_tasks(), progress=False)
    with pytest.raises(DataError, match="none missing and 'batch', 'batch_no' unknown"):
        plain.adapt(small_tasks())


def test_the_svi_engine_says_that_it_reads_none():
    with pytest.raises(DataError, match=r"none with engine='svi'.* got 'batch', 'batch_no'"):
        tiny_estimator().fit(small_tasks(), progress=False)


def test_a_covariate_that_tells_tasks_apart_is_warned_of():
    tasks = tiny_tasks()
    beside = {"day": np.repeat(np.arange(len(tasks)), tasks.num_rows)}
    named = TaskDataset.from_arrays(tasks.arrays, covariates=beside)
    with pytest.warns(MetaCaDIWarning, match="tells them apart, 'day'"):
        evidence_estimator(num_draws=30, warmup=10).fit(named, progress=False)


@pytest.mark.parametrize(
    ("covariates", "message"),
    [
        (lambda tasks: {"dose": np.full(40, 5.0)}, "got a constant at 'dose'"),
        (lambda tasks: {"copy": tasks.values[:, 0]}, r"got a copy, 'copy' \(of 'X1'\)"),
        (
            lambda tasks: {
                "first": np.repeat(list("aabb"), tasks.num_rows),
                "second": np.repeat(list("xyxy"), tasks.num_rows),
            },
            "tells them apart, 'first with second'",
        ),
    ],
)
def test_covariates_that_settle_or_say_nothing_are_warned_of(covariates, message):
    tasks = tiny_tasks()
    named = TaskDataset.from_arrays(tasks.arrays, covariates=covariates(tasks))
    with pytest.warns(MetaCaDIWarning, match=message):
        warn_about(named)


def test_a_quantity_far_from_training_is_cut_with_a_warning(model):
    new = small_tasks(rows=(3, 2), seed=5)
    far = {**new.covariates, "batch_no": np.full(5, 1e9)}
    moved = TaskDataset.from_arrays(new.arrays, covariates=far)
    with pytest.warns(MetaCaDIWarning, match="others at task 'task1', a covariate"):
        assert np.isfinite(model.adapt(moved).target_probs).all()


def test_huge_quantities_are_saved_and_read_without_a_warning(tmp_path):
    tasks = tiny_tasks()
    beside = {"dose": np.random.default_rng(0).choice([1e20, 2e20], 40)}
    named = TaskDataset.from_arrays(tasks.arrays, covariates=beside)
    evidence_estimator(num_draws=10, warmup=5).fit(named, progress=False).save(tmp_path / "m")
    assert MetaCaDI.load(tmp_path / "m").posterior.tasks == named


def test_tuning_names_a_group_that_only_left_out_tasks_have():
    tasks = tiny_tasks()
    beside = {"batch": ["b1"] * 39 + ["rare"]}
    named = TaskDataset.from_arrays(tasks.arrays, covariates=beside)
    with pytest.raises(DataError, match=r"got 'rare' of 'batch' in .*'task4'.* Join it"):
        tune(named, {"graph_prior": [0.1, 0.2]}, folds=2, progress=False)


@pytest.mark.parametrize(
    ("groups", "change"),
    [
        ({"batch": ["b0"], "batch_no": None}, None),
        ({"batch": ["b0", "b1"]}, None),
        ({"batch": 3, "batch_no": None}, None),
        (None, None),
        ({"batch": ["b0", "b1"], "batch_no": None}, np.nan),
        ({"batch": ["b0", "b1"], "batch_no": None}, 0.5),
    ],
)
def test_damaged_covariates_are_one_clear_error(model, tmp_path, groups, change):
    folder = tmp_path / "model"
    model.save(folder)
    header = json.loads((folder / "model.json").read_text())
    if change is None:
        (folder / "model.json").write_text(json.dumps({**header, "covariates": groups}))
    else:
        tensors = safetensors.torch.load_file(folder / "tensors.safetensors")
        tensors["data.covariates"][0] = change
        safetensors.torch.save_file(tensors, folder / "tensors.safetensors")
    with pytest.raises(ModelFileError, match="expected") as caught:
        MetaCaDI.load(folder)
    assert "\n" not in str(caught.value)


def test_the_commands_remember_covariates(tmp_path, capsys):
    data, out = tmp_path / "data.csv", tmp_path / "model"
    small_tasks().to_dataframe(task="run").to_csv(data, index=False)
    table = [str(data), "--task", "run"]
    named = ["--covariate", "batch", "--covariate", "batch_no"]
    assert main(["fit", *table, *named, "--out", str(out), "--steps", "30", "--quiet"]) == 0
    assert "and 3 variables" in capsys.readouterr().out
    assert main(["adapt", str(out), *table, "--out", str(tmp_path / "found")]) == 0
    assert (
        main(
            [
                "fit",
                *table,
                "--covariate",
                "batch",
                "--group",
                "batch_no",
                "--out",
                str(tmp_path / "grouped"),
                "--steps",
                "30",
                "--quiet",
            ]
        )
        == 0
    )
    assert MetaCaDI.load(tmp_path / "grouped").covariates["batch_no"] == ("0.0", "1.0")
    few = tmp_path / "few.csv"
    few.write_text("\n".join(data.read_text().splitlines()[:4]) + "\n")
    found = ["adapt", str(tmp_path / "grouped"), str(few), "--task", "run"]
    assert main([*found, "--out", str(tmp_path / "few")]) == 0
    assert main(["fit", *table, "--covariate", "btach", "--out", str(tmp_path / "other")]) == 2
    assert "covariate: expected a known name, got 'btach'" in capsys.readouterr().err

import json
import os
from functools import partial

import numpy as np
import pytest
import safetensors.torch
import torch

from pyro_metacadi import MetaCaDI
from pyro_metacadi.errors import ConfigError, MetaCaDIError, MetaCaDIWarning, ModelFileError
from pyro_metacadi.guides import SharedDeepSets
from pyro_metacadi.inference.objective import ELBOObjective
from pyro_metacadi.inference.training import Training
from pyro_metacadi.models import GaussianNoise
from tests.helpers import fitted, state, tiny_estimator, tiny_tasks


class MyNoise(GaussianNoise):
    """A class that is not the package's."""


@pytest.fixture
def folder(tmp_path):
    fitted().save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("num_chains", [1, 2])
def test_a_loaded_model_is_the_saved_one_bit_for_bit(tmp_path, num_chains):
    model, tasks = fitted(num_chains), tiny_tasks(rows=(3, 2, 1), seed=9)
    model.save(tmp_path / "model")
    again = MetaCaDI.load(tmp_path / "model")
    assert [state(c) for c in again._fit.chains] == [state(c) for c in model._fit.chains]
    for first, second in (
        (model.posterior, again.posterior),
        (model.adapt(tasks), again.adapt(tasks)),
        (model.adapt(tasks, num_graphs=5, seed=3), again.adapt(tasks, num_graphs=5, seed=3)),
    ):
        assert first.tasks == second.tasks
        assert first.edge_probs.identical(second.edge_probs)
        assert first.target_probs.identical(second.target_probs)
        assert first.sample(5).identical(second.sample(5))
    assert model.history.keys() == again.history.keys()
    for name, values in model.history.items():
        np.testing.assert_array_equal(values, again.history[name])
    assert again.components.to_json() == model.components.to_json()


@pytest.mark.parametrize("num_chains", [1, 3])
def test_a_loaded_model_knows_when_training_stopped_and_whether_it_converged(tmp_path, num_chains):
    options = Training(num_steps=80, support_size=3, patience=1, check_every=1, tolerance=1e-9)
    model = tiny_estimator(training=options)
    model.fit(tiny_tasks(), num_chains=num_chains, seed=1, progress=False)
    model.save(tmp_path / "model")
    again = MetaCaDI.load(tmp_path / "model")
    assert model.converged is again.converged is True
    for name, values in model.history.items():
        np.testing.assert_array_equal(again.history[name], values)
    assert again.components.training == options


def test_a_model_that_was_saved_before_models_knew_has_not_told(folder):
    without("converged")(folder)
    assert MetaCaDI.load(folder).converged is None


def test_a_saved_model_is_two_files_without_a_pickle(folder):
    assert sorted(os.listdir(folder)) == ["model.json", "tensors.safetensors"]


def test_saving_again_what_was_loaded_gives_the_same_bytes(folder, tmp_path):
    MetaCaDI.load(folder).save(tmp_path / "copy")
    for name in os.listdir(folder):
        assert (folder / name).read_bytes() == (tmp_path / "copy" / name).read_bytes()


def test_a_loaded_model_can_be_fitted_further_afield(folder):
    model = MetaCaDI.load(folder).fit(tiny_tasks(seed=2), num_steps=2, progress=False)
    assert len(model.history["loss"]) == 2


def test_options_of_components_are_kept(tmp_path):
    choices = {"noise": partial(GaussianNoise, scale=0.5), "target_prior": 0.25, "graph_prior": 0.3}
    model = tiny_estimator(**choices).fit(tiny_tasks(), progress=False)
    model.save(tmp_path / "model")
    chain = MetaCaDI.load(tmp_path / "model")._fit.chains[0]
    assert chain.model.noise.scale.item() == 0.5
    assert chain.model.target_prior == 0.25
    assert chain.model.graph_prior.probability[0, 1].item() == pytest.approx(0.3)


def test_a_shared_predictor_trains_and_is_found_again_by_name(tmp_path):
    predictor = partial(SharedDeepSets, embedding=4, hidden=8)
    model = tiny_estimator(predictor=predictor).fit(tiny_tasks(), progress=False)
    model.save(tmp_path / "model")
    again = MetaCaDI.load(tmp_path / "model")
    assert again.components.predictor.func is SharedDeepSets
    assert again.posterior.target_probs.identical(model.posterior.target_probs)


def test_a_users_noise_is_asked_for_again(tmp_path):
    model = tiny_estimator(noise=MyNoise).fit(tiny_tasks(), progress=False)
    model.save(tmp_path / "model")
    with pytest.raises(ModelFileError, match=r"the noise is '.*MyNoise', which is not part of"):
        MetaCaDI.load(tmp_path / "model")
    again = MetaCaDI.load(tmp_path / "model", noise=MyNoise)
    assert again.posterior.target_probs.identical(model.posterior.target_probs)


def edited_header(**entries):
    def edit(folder):
        path = folder / "model.json"
        header = json.loads(path.read_text())
        for name, value in entries.items():
            at, *rest = name.split("__")
            inner = header if not rest else header[at]
            inner[rest[0] if rest else at] = value
        path.write_text(json.dumps(header))

    return edit


def edited_tensors(**entries):
    def edit(folder):
        path = folder / "tensors.safetensors"
        tensors = safetensors.torch.load_file(path)
        for name, value in entries.items():
            name = name.replace("__", ".")
            tensors.pop(name)
            if value is not None:
                tensors[name] = value
        safetensors.torch.save_file(tensors, path)

    return edit


def without(*names):
    def edit(folder):
        path = folder / "model.json"
        header = json.loads(path.read_text())
        for name in names:
            del header[name]
        path.write_text(json.dumps(header))

    return edit


def added_tensor(name):
    def edit(folder):
        path = folder / "tensors.safetensors"
        tensors = safetensors.torch.load_file(path)
        safetensors.torch.save_file({**tensors, name: torch.ones(1)}, path)

    return edit


def part(name, *, options=None):
    return {"class": f"pyro_metacadi.{name}", "options": options or {}}


NOISE = "components__noise"
OBJECTIVE = "components__objective"
LOSS = "chain0__history__loss"
LOGITS = "chain0__guide__dag__edge_logits"
ROWS = "data__num_rows"
BAD_MODELS = {
    "another schema": (edited_header(schema=1), r"expected schema version 5, got 1"),
    "no engine": (without("engine"), r"a damaged one \('engine'\)"),
    "an unknown engine": (
        edited_header(engine="magic"),
        r"engine: expected 'evidence' or 'svi', got 'magic'",
    ),
    "an engine that is a list": (
        edited_header(engine=[]),
        r"engine: expected 'evidence' or 'svi', got \[\]",
    ),
    "no variables": (without("variables"), r"a damaged one \('variables'\)"),
    "no components": (without("components"), r"a damaged one \('components'\)"),
    "a variable too many": (
        edited_header(variables=["a", "b", "c", "d"]),
        r"expected 3 names, got 4",
    ),
    "a variable twice": (edited_header(variables=["a", "a", "c"]), r"damaged one \(.*'a'"),
    "variables a number": (edited_header(variables=3), r"variables: expected .*, got 3"),
    "a task too few": (edited_header(tasks=["a", "b", "c"]), r"a damaged one \(tasks: expected 4"),
    "tasks null": (edited_header(tasks=None), r"tasks: expected .*, got None"),
    "tasks a string": (edited_header(tasks="abcd"), r"tasks: expected .*, got 'abcd'"),
    "a seed below zero": (edited_header(seed=-1), r"seed: expected .*, got -1"),
    "a seed too large": (edited_header(seed=2**64), r"seed: expected .*, got 18446744073709551616"),
    "chains without end": (edited_header(num_chains=10**30), r"'chain1.model.* got None"),
    "an exception for a noise": (
        edited_header(**{NOISE: part("errors.DataError")}),
        r"known noise",
    ),
    "no objective": (
        edited_header(**{OBJECTIVE: part("models.noise.GaussianNoise")}),
        r"objective: expected .* got .*GaussianNoise",
    ),
    "another part for an objective": (
        edited_header(**{OBJECTIVE: part("inference.training.Training")}),
        r"objective: expected a factory of MetaCaDIObjective parts, got .*Training",
    ),
    "an objective's unknown option": (
        edited_header(
            **{OBJECTIVE: part("inference.objective.PaperObjective", options={"bogus": 1})}
        ),
        r"objective: .*'bogus'",
    ),
    "a target prior below zero": (
        edited_header(components__target_prior=-1),
        r"target_prior: expected a probability between 0 and 1, got -1",
    ),
    "a target prior above one": (edited_header(components__target_prior=1.5), r"target_prior: exp"),
    "a target prior in words": (
        edited_header(components__target_prior="5"),
        r"target_prior: .*'5'",
    ),
    "no chains": (edited_header(num_chains=0), r"num_chains: expected .*, got 0"),
    "a chain too many": (edited_header(num_chains=2), r"'chain1.model.* got None"),
    "chains a string": (
        edited_header(num_chains="1"),
        r"num_chains: expected a whole number, got '1'",
    ),
    "converged a number": (edited_header(converged=1), r"converged: expected .*, got 1"),
    "converged a string": (edited_header(converged="yes"), r"converged: expected .*, got 'yes'"),
    "seed a string": (edited_header(seed="0"), r"seed: expected .*, got '0'"),
    "components a list": (edited_header(components=[]), r"damaged"),
    "components null": (edited_header(components=None), r"damaged"),
    "an unknown class": (
        edited_header(**{NOISE: {"class": "pyro_metacadi.models.noise.Lost", "options": {}}}),
        r"expected a known noise, got 'pyro_metacadi.models.noise.Lost'",
    ),
    "a class of another part": (
        edited_header(**{NOISE: {"class": "pyro_metacadi.models.Mechanisms", "options": {}}}),
        r"damaged",
    ),
    "a class that is a number": (edited_header(**{NOISE: {"class": 3, "options": {}}}), r"damaged"),
    "an unknown option": (
        edited_header(
            **{NOISE: {"class": "pyro_metacadi.models.noise.GaussianNoise", "options": {"z": 1}}}
        ),
        r"damaged one \(.*'z'",
    ),
    "no noise": (edited_header(**{NOISE: None}), r"damaged"),
    "a bad training option": (edited_header(components__training={"num_steps": 0}), r"num_steps"),
    "a target prior of the wrong type": (
        edited_header(components__target_prior=[]),
        r"damaged entry",
    ),
    "a tensor missing": (edited_tensors(**{LOGITS: None}), r"edge_logits': expected .*got None"),
    "a tensor of another shape": (
        edited_tensors(**{LOGITS: torch.zeros(4, 4)}),
        r"edge_logits': expected shape \[3, 3\], got \[4, 4\]",
    ),
    "a tensor with NaN": (
        edited_tensors(**{LOGITS: torch.full((3, 3), torch.nan)}),
        r"edge_logits': expected finite numbers",
    ),
    "a tensor of whole numbers": (
        edited_tensors(**{LOGITS: torch.ones(3, 3, dtype=torch.int64)}),
        r"edge_logits': expected torch.float32, got torch.int64",
    ),
    "complex scaling": (
        edited_tensors(scaling__mean=torch.zeros(3, dtype=torch.complex64)),
        r"scaling.mean: expected .* got torch.complex64",
    ),
    "a tensor too many": (added_tensor("extra"), r"tensor 'extra': expected .*, got \[1\]"),
    "a chain's tensor too many": (added_tensor("chain1.model.x"), r"tensor 'chain1.model.x'"),
    "a chain's part too many": (added_tensor("chain0.sampler.x"), r"tensor 'chain0.sampler.x'"),
    "no history": (edited_tensors(**{LOSS: None}), r"history: expected"),
    "a history with NaN": (
        edited_tensors(**{LOSS: torch.full((4,), torch.nan)}),
        r"history of loss: expected .* got 'NaN'",
    ),
    "a history of unequal length": (edited_tensors(**{LOSS: torch.ones(3)}), r"history: expected"),
    "no data": (edited_tensors(data__values=None), r"a damaged one \('data.values'\)"),
    "data with NaN": (edited_tensors(data__values=torch.full((40, 3), torch.nan).double()), r"NaN"),
    "data of one axis": (edited_tensors(data__values=torch.zeros(40).double()), r"damaged"),
    "fewer rows than data": (
        edited_tensors(**{ROWS: torch.tensor([12, 9, 12, 6])}),
        r"data.num_rows: expected .* fits",
    ),
    "more rows than data": (
        edited_tensors(**{ROWS: torch.tensor([12, 9, 12, 8])}),
        r"data.num_rows: expected .* fits",
    ),
    "negative rows": (edited_tensors(**{ROWS: torch.tensor([50, -29, 12, 7])}), r"data.num_rows"),
    "rows not whole": (
        edited_tensors(**{ROWS: torch.tensor([12.5, 8.5, 12, 7])}),
        r"data.num_rows",
    ),
    "scale zero": (
        edited_tensors(scaling__scale=torch.tensor([1.0, 0.0, 1.0]).double()),
        r"scaling.scale: expected .* fits",
    ),
    "mean of another width": (
        edited_tensors(scaling__mean=torch.zeros(2).double()),
        r"scaling.mean: expected .* fits",
    ),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_a_damaged_model_is_one_clear_error(folder, case):
    damage, message = BAD_MODELS[case]
    damage(folder)
    with pytest.raises(ModelFileError, match=message) as caught:
        MetaCaDI.load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"bogus": 1}, r"components: expected some of objective, .* got 'bogus'"),
        ({"training": 1}, r"components: expected some of .* got 'training'"),
        ({"objective": "lasso"}, r"objective: expected one of 'paper', 'elbo'"),
        ({"noise": 5}, r"noise: expected a class or a functools.partial of one, got 5"),
    ],
)
def test_parts_that_no_model_has_are_refused_when_loading(folder, parts, message):
    with pytest.raises(ConfigError, match=message):
        MetaCaDI.load(folder, **parts)


def test_short_forms_of_parts_are_resolved_when_loading(folder):
    model = MetaCaDI.load(folder, objective="elbo", noise=None)
    assert model.components.objective is ELBOObjective
    assert model.components.noise is GaussianNoise


def test_extreme_scaling_gives_finite_probabilities_and_a_warning(folder):
    edited_tensors(scaling__mean=torch.full((3,), 1e300, dtype=torch.float64))(folder)
    with pytest.warns(MetaCaDIWarning, match=r"rows: expected values within 1e\+06 standard dev"):
        assert np.isfinite(MetaCaDI.load(folder).posterior.target_probs).all()


def test_weights_that_give_no_probabilities_are_an_error(folder):
    name = "chain0__guide__predictor__embed__0__weight"
    edited_tensors(**{name: torch.full((8, 27), -3e38)})(folder)
    with pytest.raises(MetaCaDIError, match=r"finite probabilities, got NaN at task 'task1'"):
        _ = MetaCaDI.load(folder).posterior.target_probs


def test_a_missing_folder_is_one_clear_error(tmp_path):
    with pytest.raises(ModelFileError, match=r"expected a folder with model.json and"):
        MetaCaDI.load(tmp_path / "nowhere")


def test_a_failed_save_keeps_the_old_model(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(ModelFileError, match=r"No space left"):
        fitted(2).save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert os.listdir(folder.parent) == ["model"]

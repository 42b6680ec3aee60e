import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from pyro_metacadi.errors import ModelFileError
from pyro_metacadi.inference.storage import SCHEMA, fill_module, read_model, write_model

HEADER = {"variables": ["a", "b"], "seed": 3}
TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor([1, 2])}


@pytest.fixture
def folder(tmp_path):
    write_model(tmp_path / "model", HEADER, TENSORS)
    return tmp_path / "model"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_written_is_read(folder):
    header, tensors, _ = read_model(folder)
    assert header == {"schema": SCHEMA, **HEADER}
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_a_model_is_two_files_without_a_pickle(folder):
    assert set(contents(folder)) == {"model.json", "tensors.safetensors"}
    assert json.loads((folder / "model.json").read_text())["schema"] == SCHEMA


def test_parents_are_made_and_views_are_written(tmp_path):
    target = tmp_path / "a" / "b"
    write_model(str(target), HEADER, {"t": TENSORS["weight"].T})
    assert torch.equal(read_model(target)[1]["t"], TENSORS["weight"].T)


def test_an_older_model_is_replaced(folder):
    write_model(folder, {"seed": 4}, {"other": torch.ones(1)})
    header, tensors, _ = read_model(folder)
    assert header["seed"] == 4
    assert set(tensors) == {"other"}
    assert os.listdir(folder.parent) == ["model"]


@pytest.mark.parametrize("model_inside", [False, True])
def test_a_folder_with_other_files_is_refused_and_kept(tmp_path, model_inside):
    target = tmp_path / "model"
    if model_inside:
        write_model(target, HEADER, TENSORS)
    target.mkdir(exist_ok=True)
    (target / "thesis.tex").write_text("precious")
    before = contents(target)
    with pytest.raises(ModelFileError, match=r"a saved model to replace, got the file 'thesis.tex"):
        write_model(target, HEADER, TENSORS)
    assert contents(target) == before


def foreign_header(target):
    (target / "model.json").write_text('{"somebody": "else"}')


def foreign_pair(target):
    foreign_header(target)
    (target / "tensors.safetensors").write_text("theirs")


def only_tensors(target):
    (target / "tensors.safetensors").write_text("theirs")


def folder_for_a_header(target):
    (target / "model.json").mkdir()
    (target / "tensors.safetensors").write_text("theirs")


def folder_for_tensors(target):
    (target / "model.json").write_text(json.dumps({"schema": SCHEMA}))
    (target / "tensors.safetensors").mkdir()


@pytest.mark.parametrize(
    "fill",
    [foreign_header, foreign_pair, only_tensors, folder_for_a_header, folder_for_tensors],
)
def test_files_of_the_same_names_that_are_no_model_are_refused_and_kept(tmp_path, fill):
    target = tmp_path / "model"
    target.mkdir()
    fill(target)
    before = sorted(path.name for path in target.iterdir())
    with pytest.raises(ModelFileError, match=r"a saved model to replace, got the file"):
        write_model(target, HEADER, TENSORS)
    assert sorted(path.name for path in target.iterdir()) == before


@pytest.mark.parametrize("path", [None, 5, ["a"], b"model", "a\0b", "x" * 5000])
@pytest.mark.parametrize("use", [read_model, lambda path: write_model(path, HEADER, TENSORS)])
def test_what_is_no_path_is_refused_briefly(use, path):
    with pytest.raises(ModelFileError, match=r"folder: expected a path") as caught:
        use(path)
    assert len(str(caught.value)) < 300


def test_a_folder_without_permission_is_one_clear_error(folder, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_file", refuse)
        with pytest.raises(ModelFileError, match=r"a folder that can be read, got .*denied"):
            read_model(folder)
        with pytest.raises(ModelFileError, match=r"a place to write to, got .*denied"):
            write_model(folder, HEADER, TENSORS)


def test_the_current_folder_is_refused_and_one_in_it_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match=r"expected another than the current one"):
        write_model(".", HEADER, TENSORS)
    write_model("./model", HEADER, TENSORS)
    assert read_model("model")[0]["seed"] == 3


def test_links_are_kept_and_what_they_point_to_is_written(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("model")
    for seed in (4, 5):
        write_model(link, {"seed": seed}, TENSORS)
        assert read_model(tmp_path / "model")[0]["seed"] == seed
    assert link.is_symlink()
    link.unlink()
    link.symlink_to("link")
    with pytest.raises(ModelFileError, match=r"folder: expected a path"):
        write_model(link, HEADER, TENSORS)


def test_a_file_in_the_way_is_refused_and_kept(tmp_path):
    (tmp_path / "model").write_text("precious")
    with pytest.raises(ModelFileError, match=r"new or empty folder.* got the file 'model'"):
        write_model(tmp_path / "model", HEADER, TENSORS)
    with pytest.raises(ModelFileError, match=r"expected a place to write to"):
        write_model(tmp_path / "model" / "below", HEADER, TENSORS)
    assert (tmp_path / "model").read_text() == "precious"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O")])
@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_while_writing_leaves_the_old_model_and_nothing_else(
    tmp_path, monkeypatch, error, exists
):
    target = tmp_path / "model"
    if exists:
        write_model(target, HEADER, TENSORS)
        before = contents(target)

    def fail(tensors, path):
        path.write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(ModelFileError, match=r"expected a place to write to, got .*(space|I/O)"):
        write_model(target, {"seed": 4}, TENSORS)
    assert os.listdir(tmp_path) == (["model"] if exists else [])
    if exists:
        assert contents(target) == before


def test_a_failure_while_exchanging_leaves_the_old_model(folder, monkeypatch):
    before, replace = contents(folder), os.replace

    def fail(source, destination):
        if os.path.basename(source) == "new":
            raise OSError(5, "Input/output error")
        replace(source, destination)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ModelFileError, match=r"Input/output error"):
        write_model(folder, {"seed": 4}, TENSORS)
    assert contents(folder) == before
    assert os.listdir(folder.parent) == ["model"]


def truncate(folder, name, *, keep):
    path = folder / name
    path.write_bytes(path.read_bytes()[:keep])


def missing(folder):
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


BAD_FOLDERS = {
    "missing": (missing, r"expected a folder with model.json and .*, found no model.json"),
    "empty": (empty, r"found no model.json"),
    "no header": (lambda f: (f / "model.json").unlink(), r"found no model.json"),
    "no tensors": (lambda f: (f / "tensors.safetensors").unlink(), r"found no tensors.safetens"),
    "truncated header": (lambda f: truncate(f, "model.json", keep=20), r"expected JSON, got"),
    "header without end": (
        lambda f: (f / "model.json").write_text("[" * 100_000),
        r"expected JSON, got .*recursion",
    ),
    "empty header": (lambda f: truncate(f, "model.json", keep=0), r"expected JSON, got"),
    "binary header": (lambda f: (f / "model.json").write_bytes(b"\xff\x00"), r"expected JSON"),
    "header a list": (lambda f: (f / "model.json").write_text("[1]"), r"schema version 5, got N"),
    "no schema": (lambda f: (f / "model.json").write_text("{}"), r"schema version 5, got None"),
    "newer schema": (
        lambda f: (f / "model.json").write_text('{"schema": 99}'),
        r"expected schema version 5, got 99. Load it with the version",
    ),
    "truncated tensors": (
        lambda f: truncate(f, "tensors.safetensors", keep=-3),
        r"expected a complete safetensors file, got .*truncated",
    ),
    "empty tensors": (
        lambda f: truncate(f, "tensors.safetensors", keep=0),
        r"expected a complete safetensors file",
    ),
    "foreign tensors": (
        lambda f: (f / "tensors.safetensors").write_bytes(b"\x80\x04pickle" * 9),
        r"expected a complete safetensors file",
    ),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_bad_folder_is_one_clear_error(folder, case):
    damage, message = BAD_FOLDERS[case]
    damage(folder)
    with pytest.raises(ModelFileError, match=message):
        read_model(folder)


def test_a_file_is_not_a_model(tmp_path):
    (tmp_path / "model").write_text("x")
    with pytest.raises(ModelFileError, match=r"expected a folder with model.json"):
        read_model(tmp_path / "model")


def test_a_module_is_filled_from_the_tensors_under_its_prefix():
    module, stored = nn.Linear(3, 2), nn.Linear(3, 2)
    tensors = {f"m.{name}": value for name, value in stored.state_dict().items()}
    fill_module(module, {**tensors, "other.weight": torch.ones(1)}, prefix="m.")
    assert torch.equal(module.weight, stored.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"m.weight": torch.ones(2, 4)}, r"'m.weight': expected shape \[2, 3\], got \[2, 4\]"),
        ({"m.bias": None}, r"'m.bias': expected shape \[2\], got None"),
        ({"m.extra": torch.ones(1)}, r"'m.extra': expected shape None, got \[1\]"),
        ({"m.bias": torch.ones(2).double()}, r"expected torch.float32, got torch.float64"),
        ({"m.bias": torch.tensor([True, False])}, r"expected torch.float32, got torch.bool"),
        ({"m.bias": torch.tensor([0.0, torch.nan])}, r"'m.bias': expected finite numbers, got NaN"),
        ({"m.bias": torch.tensor([0.0, torch.inf])}, r"'m.bias': expected finite numbers, got NaN"),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_none_is_loaded(change, message):
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    tensors = {"m.weight": torch.ones(2, 3), "m.bias": torch.ones(2), **change}
    tensors = {name: value for name, value in tensors.items() if value is not None}
    with pytest.raises(ModelFileError, match=message):
        fill_module(module, tensors, prefix="m.")
    assert torch.equal(module.weight, before)

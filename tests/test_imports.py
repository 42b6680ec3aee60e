"""`import pyro_metacadi` is light, and every public name is there when asked for."""

import importlib
import json
import pkgutil
import subprocess
import sys

import pytest

import pyro_metacadi

HEAVY = {"matplotlib", "arviz", "gadjid", "sklearn", "torch", "pyro", "pandas"}
PACKAGES = ["pyro_metacadi"] + [
    module.name
    for module in pkgutil.walk_packages(pyro_metacadi.__path__, "pyro_metacadi.")
    if module.ispkg
]
each_package = pytest.mark.parametrize("name", PACKAGES)


def loaded_after(statements):
    """Top-level modules in a fresh interpreter in which the `statements` ran."""
    program = f"import json, sys\n{statements}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in json.loads(done.stdout)}


def test_importing_the_package_imports_nothing_heavy():
    loaded = loaded_after("import pyro_metacadi; dir(pyro_metacadi)")
    assert "pyro_metacadi" in loaded
    assert not loaded & HEAVY


def test_using_the_estimator_imports_no_drawing_or_scoring():
    loaded = loaded_after("from pyro_metacadi import MetaCaDI, Posterior, TaskDataset, simulators")
    assert "torch" in loaded
    assert not loaded & {"matplotlib", "arviz", "gadjid", "sklearn"}


@each_package
def test_every_public_name_resolves(name):
    package = importlib.import_module(name)
    for public in getattr(package, "__all__", []):
        assert getattr(package, public) is not None


@each_package
def test_dir_lists_every_public_name(name):
    package = importlib.import_module(name)
    assert set(getattr(package, "__all__", [])) <= set(dir(package))


@each_package
def test_a_star_import_gives_the_public_names(name):
    namespace = {}
    exec(f"from {name} import *", namespace)
    assert set(getattr(importlib.import_module(name), "__all__", [])) <= set(namespace)


@pytest.mark.parametrize("name", [name for name in PACKAGES if name != "pyro_metacadi.ops"])
def test_an_unknown_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'Missing'"):
        _ = importlib.import_module(name).Missing


def test_every_module_imports_and_its_public_names_exist():
    for module in pkgutil.walk_packages(pyro_metacadi.__path__, "pyro_metacadi."):
        if not module.name.endswith("__main__"):
            loaded = importlib.import_module(module.name)
            for public in getattr(loaded, "__all__", []):
                assert hasattr(loaded, public), f"{module.name}.{public}"

import json
from functools import partial

import numpy as np
import pytest
import torch

from pyro_metacadi.components import Components
from pyro_metacadi.errors import ConfigError, DataError, ModelFileError
from pyro_metacadi.inference.objective import ELBOObjective, PaperObjective
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.inference.training import Training
from pyro_metacadi.models import GaussianNoise, Mechanisms, SparseGraphPrior
from tests.helpers import TINY


class MyNoise(GaussianNoise):
    """A class that is not the package's."""


def round_trip(components, **replacements):
    data = json.loads(json.dumps(components.to_json(), allow_nan=False))
    return Components.from_json(data, **replacements)


def test_short_forms_are_resolved():
    assert Components.resolve(objective="elbo").objective is ELBOObjective
    assert Components.resolve(objective="paper").objective is PaperObjective
    assert Components.resolve(graph_prior=0.3).graph_prior(3).probability[0, 1] == pytest.approx(
        0.3
    )
    matrix = np.full((3, 3), 0.2)
    probability = Components.resolve(graph_prior=matrix).graph_prior(3).probability
    assert probability[0, 1] == pytest.approx(0.2)
    assert Components.resolve(noise=None, objective=None) == Components()


def test_building_gives_fresh_parts_wired_together():
    components = Components.resolve(**TINY, target_prior=0.3)
    with isolated(0):
        first, second = components.build(3), components.build(3)
    assert first.guide.model is first.model
    assert first.model.target_prior == 0.3
    assert first.model.mechanisms.num_features == 5
    assert not {id(p) for p in first.model.parameters()} & {
        id(p) for p in second.model.parameters()
    }
    assert components.build_objective() is not components.build_objective()


@pytest.mark.parametrize(
    "choices",
    [
        {},
        TINY,
        {"objective": partial(PaperObjective, residual_rows=None, target_weight=0.5)},
        {"objective": "elbo", "target_prior": 0.25, "training": Training(num_steps=7)},
        {"graph_prior": [[0.5, 0.25], [0.125, 0.5]]},
        {"graph_prior": np.float32(0.25), "mechanisms": partial(Mechanisms, width=np.int64(3))},
    ],
)
def test_choices_come_back_from_plain_data(choices):
    components = Components.resolve(**choices)
    again = round_trip(components)
    assert again.to_json() == components.to_json()
    assert again.training == components.training
    with isolated(0):
        first, second = components.build(2), again.build(2)
    assert torch.equal(first.model.graph_prior.probability, second.model.graph_prior.probability)
    assert [p.shape for p in first.model.parameters()] == [
        p.shape for p in second.model.parameters()
    ]


def test_an_option_may_be_a_dict():
    choice = partial(MyNoise, of={"immune": ["tnf", "il6"], "growth": ("myc",)})
    described = json.loads(json.dumps(Components.resolve(noise=choice).to_json()))["noise"]
    assert described["options"] == {"of": {"immune": ["tnf", "il6"], "growth": ["myc"]}}


def test_a_users_class_is_asked_for_again():
    components = Components.resolve(noise=MyNoise)
    with pytest.raises(ModelFileError, match=r"noise is '.*MyNoise'.*load\(..., noise=MyNoise"):
        round_trip(components)
    assert round_trip(components, noise=MyNoise).noise is MyNoise


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"objective": "lasso"}, r"objective: expected one of 'paper', 'elbo' or .* got 'lasso'"),
        ({"noise": GaussianNoise(3, 5)}, r"noise: .* Pass the class, not an instance"),
        ({"graph_prior": SparseGraphPrior(3)}, r"graph_prior: .* Pass the class, not an inst"),
        ({"objective": PaperObjective()}, r"objective: .* Pass the class, not an instance"),
        ({"graph_prior": "sparse"}, r"graph_prior: expected a probability, .* got 'sparse'"),
        ({"graph_prior": [[0.1], [0.1, 0.2]]}, r"graph_prior: expected a probability, .* got"),
        ({"predictor": 3}, r"predictor: expected a class or a functools.partial of one, got 3"),
        ({"adaptation": "ridge"}, r"adaptation: expected a class .* got 'ridge'"),
        ({"target_prior": 0}, r"target_prior: expected a probability between 0 and 1, got 0"),
        ({"target_prior": 2}, r"target_prior: expected a probability between 0 and 1, got 2"),
        ({"target_prior": float("nan")}, r"target_prior: .* got nan"),
        ({"target_prior": "0.1"}, r"target_prior: .* got '0.1'"),
        ({"target_prior": [0.1]}, r"target_prior: .* got \[0.1\]"),
        ({"target_prior": torch.tensor(0.1)}, r"target_prior: .* got tensor"),
        ({"training": 5}, r"training: expected a Training, got 5"),
        ({"graph_prior": torch.ones(2, 2, requires_grad=True)}, r"graph_prior: expected a prob"),
        ({"bogus": int}, r"components: expected some of .*, got 'bogus'"),
    ],
)
def test_bad_choices_are_named(choices, message):
    with pytest.raises(ConfigError, match=message):
        Components.resolve(**choices)


@pytest.mark.parametrize(
    ("name", "factory", "message"),
    [
        ("noise", int, r"noise: expected a class that is built from 2 sizes, got <class 'int'>"),
        ("noise", Mechanisms, r"noise: expected a class that is built from 2 sizes"),
        ("noise", DataError, r"noise: expected a factory of Noise parts, .* makes DataError"),
        ("graph_prior", dict, r"graph_prior: expected a class that is built from 1 sizes"),
        ("predictor", lambda d: None, r"predictor: expected a factory of TargetPredictor .*None"),
        ("adaptation", int, r"adaptation: expected a factory of Adaptation parts"),
        ("mechanisms", list, r"mechanisms: expected a class"),
    ],
)
def test_factories_of_something_else_are_named_when_building(name, factory, message):
    with pytest.raises(ConfigError, match=message), isolated(0):
        Components.resolve(**{name: factory}).build(3)


@pytest.mark.parametrize("factory", [dict, partial(PaperObjective, bogus=1)])
def test_an_objective_that_is_none_is_named_when_building(factory):
    with pytest.raises(ConfigError, match=r"objective: expected a (class|factory)"):
        Components.resolve(objective=factory).build_objective()


@pytest.mark.parametrize("value", [object(), float("nan"), torch.zeros(2), {1: "a"}])
def test_an_option_that_cannot_be_written_down_is_refused_before_writing(value):
    components = Components.resolve(noise=partial(GaussianNoise, scale=value))
    with pytest.raises(
        ConfigError, match=r"option 'scale': expected a number, a string, or a list or"
    ):
        components.to_json()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"class": "pyro_metacadi.models.noise.Lost", "options": {}}, r"a known noise, got '.*Los"),
        ({"class": "pyro_metacadi.nowhere.Lost", "options": {}}, r"expected a known noise, got"),
        ({"class": "pyro_metacadi.cli.main", "options": {}}, r"expected a known noise, got"),
        ({"class": "pyro_metacadi.errors.DataError", "options": {}}, r"expected a known noise"),
        ({"class": "os.system", "options": {}}, r"'os.system', which is not part of pyro_metacadi"),
        ({"class": "", "options": {}}, r"the noise is '', which is not part of"),
        ({"options": {}}, r"a damaged entry \('class'\)"),
        ("gaussian", r"a damaged entry"),
    ],
)
def test_damaged_entries_are_named(entry, message):
    data = {**Components().to_json(), "noise": entry}
    with pytest.raises(ModelFileError, match=message):
        Components.from_json(data)


@pytest.mark.parametrize("name", ["noise", "training", "target_prior"])
def test_missing_entries_are_named(name):
    data = Components().to_json()
    del data[name]
    with pytest.raises(ModelFileError, match=rf"a damaged entry \('{name}'\)"):
        Components.from_json(data)


def test_the_elbo_takes_all_query_rows_unless_told_otherwise():
    assert Components.resolve(objective="elbo").training.query_size is None
    chosen = Training(query_size=5)
    assert Components.resolve(objective="elbo", training=chosen).training is chosen
    assert Components.resolve(objective="paper").training.query_size == Training().query_size

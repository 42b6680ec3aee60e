"""`MetaCaDI(engine="evidence")` from data to saved models: what it takes, refuses and promises."""

import json
import re
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch

from pyro_metacadi import MetaCaDI, TaskDataset, simulators
from pyro_metacadi.errors import ConfigError, MetaCaDIError, MetaCaDIWarning, ModelFileError
from pyro_metacadi.inference.evidence import Sampling
from pyro_metacadi.models import GaussianNoise
from pyro_metacadi.ops.graphs import is_dag
from tests.helpers import evidence_estimator, evidence_fit, random_states, tiny_tasks, tiny_world


def fit(tasks=None, *, num_draws=30, seed=0, callbacks=(), **choices):
    estimator = evidence_estimator(num_draws=num_draws, warmup=10, **choices)
    tasks = tasks or tiny_tasks()
    return estimator.fit(tasks, progress=False, seed=seed, callbacks=callbacks)


def new_tasks():
    return tiny_world().sample_tasks(num_tasks=3, num_samples=(4, 1, 7), seed=3).tasks


def draws(model):
    return np.concatenate([chain.adjacency.numpy() for chain in model._fit.chains])


def assert_same(first, second):
    assert first.edge_probs.identical(second.edge_probs)
    assert first.target_probs.identical(second.target_probs)
    assert first.sample(7).identical(second.sample(7))
    assert first.log_likelihood(num_draws=3).identical(second.log_likelihood(num_draws=3))


# --- fitting ------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_and_leaves_the_callers_random_state():
    before = random_states()
    first, second, other = fit(seed=3), fit(seed=3), fit(seed=4)
    assert random_states() == before
    assert_same(first.posterior, second.posterior)
    np.testing.assert_array_equal(draws(first), draws(second))
    assert not np.array_equal(draws(first), draws(other))


def test_chains_differ_and_the_history_is_their_log_score():
    model = evidence_fit()
    assert model.history.keys() == {"loss"}
    assert model.history["loss"].shape == (2, 60)
    for chain, loss in zip(model._fit.chains, model.history["loss"], strict=True):
        np.testing.assert_array_equal(loss, -chain.log_score.numpy())
    assert not torch.equal(*(chain.adjacency for chain in model._fit.chains))


@pytest.mark.filterwarnings("ignore:fit. expected chains that agree")  # they are very short
def test_steps_are_draws_and_chains_may_be_chosen():
    model = evidence_estimator().fit(tiny_tasks(), num_steps=7, num_chains=3, progress=False)
    assert [len(chain.adjacency) for chain in model._fit.chains] == [7, 7, 7]


def test_nothing_is_printed_without_progress(capfd):
    fit(tiny_tasks(seed=3))
    assert capfd.readouterr() == ("", "")


def test_callbacks_see_every_draw_with_a_finite_loss():
    seen = []
    fit(callbacks=[lambda step, terms: seen.append((step, float(terms["loss"])))])
    assert [step for step, _ in seen] == list(range(40))
    assert np.isfinite([loss for _, loss in seen]).all()


def test_a_failing_callback_leaves_an_earlier_fit_intact():
    model = fit()
    before, probabilities = draws(model), model.posterior.target_probs

    def fail(step, terms):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        model.fit(tiny_tasks(seed=5), progress=False, callbacks=[fail])
    np.testing.assert_array_equal(draws(model), before)
    assert model.posterior.target_probs is probabilities


def test_targets_and_graph_of_an_easy_world_are_found():
    world = tiny_world()
    edges = evidence_fit().posterior.edge_probs.values
    assert edges[world.adjacency > 0].mean() > 0.7
    assert edges[world.adjacency == 0].mean() < 0.2
    new = world.sample_tasks(num_tasks=20, num_samples=10, seed=1)
    targets = evidence_fit().adapt(new.tasks).target_probs.values
    hit = np.asarray(new.intervention_targets) > 0
    assert targets[hit].mean() > 4 * targets[~hit].mean()


# --- adapting -----------------------------------------------------------------------------------


def test_a_training_task_given_again_has_the_training_posterior():
    model = evidence_fit()
    again = model.adapt(tiny_world().tasks[2:4], seed=0)
    np.testing.assert_allclose(again.target_probs, model.posterior.target_probs[2:4], atol=1e-6)


def test_twenty_tasks_together_equal_one_by_one():
    world = tiny_world().sample_tasks(num_tasks=20, num_samples=(10, 3, 1, 7, 2) * 4, seed=2)
    together = evidence_fit().adapt(world.tasks).target_probs
    for position, task in enumerate(world.tasks):
        alone = evidence_fit().adapt(task).target_probs
        np.testing.assert_allclose(together[position], alone[0], atol=1e-6, rtol=0)


def test_columns_in_another_order_give_the_same():
    shuffled = new_tasks().select(["X3", "X1", "X4", "X2"])
    assert_same(evidence_fit().adapt(new_tasks()), evidence_fit().adapt(shuffled))


def test_variables_of_another_name_are_refused():
    tasks = TaskDataset.from_arrays([np.zeros((2, 4))], variables=["X1", "X2", "X3", "Y"])
    with pytest.raises(MetaCaDIError, match=r"'X4' missing and 'Y' unknown"):
        evidence_fit().adapt(tasks)


# --- options ------------------------------------------------------------------------------------

CYCLE = np.array([[0, 1, 0.5], [0.5, 0, 1], [1, 0.5, 0]])
BAD_OPTIONS = [
    ({"objective": "paper"}, r"objective: expected none with engine='evidence'.*got 'paper'"),
    ({"noise": GaussianNoise}, r"noise: expected none with engine='evidence'"),
    ({"predictor": int}, r"predictor: expected none"),
    ({"mechanisms": int}, r"mechanisms: expected none"),
    ({"adaptation": int}, r"adaptation: expected none"),
    ({"training": 3}, r"training: expected none with engine='evidence'.*got 3. Pass engine='svi'"),
    ({"sampling": 3}, r"sampling: expected a Sampling, got 3"),
    ({"sampling": Sampling}, r"sampling: expected a Sampling, got <class"),
    ({"graph_prior": np.nan}, r"graph_prior: expected probabilities, got nan"),
    ({"graph_prior": np.full((3, 3), np.nan)}, r"graph_prior: expected probabilities"),
    ({"graph_prior": -0.1}, r"graph_prior: expected probabilities, got -0.1"),
    ({"graph_prior": 1.5 * np.eye(3)}, r"graph_prior: expected probabilities"),
    ({"graph_prior": 0}, r"graph_prior: expected probabilities, got 0"),
    ({"graph_prior": 1}, r"graph_prior: expected probabilities, got 1"),
    ({"graph_prior": CYCLE}, r"graph_prior: .* without a cycle, got X1 -> X2 -> X3 -> X1"),
    ({"graph_prior": np.eye(3)}, r"graph_prior: .* without a cycle, got X1 -> X1"),
    ({"graph_prior": "0.1"}, r"graph_prior: expected a probability or a matrix .*, got '0.1'"),
    ({"graph_prior": [None]}, r"graph_prior: expected a probability or a matrix"),
    ({"graph_prior": [[0], [0, 1]]}, r"graph_prior: expected a probability or a matrix"),
    ({"graph_prior": np.array([1j])}, r"graph_prior: expected a probability or a matrix"),
    ({"target_prior": np.nan}, r"target_prior: expected a probability between 0 and 1, got nan"),
    ({"target_prior": 0}, r"target_prior: expected a probability between 0 and 1, got 0"),
    ({"target_prior": True}, r"target_prior: expected a probability between 0 and 1, got True"),
    ({"target_prior": "x"}, r"target_prior: expected a probability between 0 and 1, got 'x'"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_bad_options_are_named_at_once(options, message):
    with pytest.raises(ConfigError, match=message):
        MetaCaDI(engine="evidence", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_draws": 0}, r"num_draws: expected a whole number of at least 1, got 0"),
        ({"num_draws": 1.5}, r"num_draws: expected a whole number of at least 1, got 1.5"),
        ({"num_draws": True}, r"num_draws: expected a whole number"),
        ({"warmup": -1}, r"warmup: expected a whole number of at least 0, got -1"),
        ({"num_chains": 0}, r"num_chains: expected a whole number of at least 1, got 0"),
        ({"num_chains": "2"}, r"num_chains: expected a whole number"),
        ({"representation": "x"}, r"representation: expected 'auto' or one of .* got 'x'"),
        ({"representation": None}, r"representation: expected 'auto'"),
        ({"representation": np.zeros(2)}, r"representation: expected 'auto'"),
    ],
)
def test_bad_sampling_is_named_at_once(options, message):
    with pytest.raises(ConfigError, match=message):
        Sampling(**options)


@pytest.mark.parametrize(
    ("choices", "options", "message"),
    [
        ({}, {"num_steps": 0}, r"num_steps: expected at least 1, got 0"),
        ({}, {"num_steps": 1.5}, r"num_steps: expected a whole number, got 1.5"),
        ({}, {"num_chains": 0}, r"num_chains: expected at least 1, got 0"),
        (
            {"graph_prior": np.full((2, 2), 0.5)},
            {},
            r"graph_prior: .* matrix \[3, 3\] .* shape \[2, 2\]",
        ),
        ({"graph_prior": [0.5, 0.5, 0.5]}, {}, r"graph_prior: .* shape \[3\]"),
        ({"graph_prior": []}, {}, r"graph_prior: .* shape \[0\]"),
        (
            {"sampling": Sampling(representation="log")},
            {},
            r"representation: expected values for 'log' of more than 0",
        ),
    ],
)
def test_what_does_not_fit_the_data_is_named(choices, options, message):
    model = MetaCaDI(engine="evidence", **choices)
    with pytest.raises(ConfigError, match=message):
        model.fit(tiny_tasks(), progress=False, **options)


def test_a_matrix_of_zeros_and_ones_is_a_known_graph():
    known = tiny_world().adjacency
    model = fit(tiny_world().tasks, graph_prior=known)
    assert (draws(model) == known).all()
    for prior in (known.astype(bool), known.tolist(), torch.tensor(known)):
        same = MetaCaDI(engine="evidence", graph_prior=prior).components.graph_prior
        assert same == model.components.graph_prior
    np.testing.assert_array_equal(model.posterior.edge_probs, known)


@pytest.mark.parametrize("against", [False, True])
def test_required_and_forbidden_edges_are_honoured(against):
    """Also where they contradict the data: some true edges turned round, others forbidden."""
    prior = np.full((4, 4), 0.4)
    prior[1, 0], prior[2, 1] = (1, 0) if against else (0, 1)
    model = fit(tiny_world().tasks, graph_prior=prior)
    assert (draws(model)[:, prior == 1] == 1).all()
    assert (draws(model)[:, prior == 0] == 0).all()
    assert all(is_dag(torch.tensor(graph)) for graph in draws(model))


def test_no_edge_is_a_known_graph_too():
    assert not draws(fit(graph_prior=np.zeros((3, 3)))).any()


def test_a_likely_edge_is_more_probable():
    found = [
        fit(tiny_tasks(), graph_prior=prior).posterior.edge_probs.values.sum()
        for prior in (0.01, 0.9)
    ]
    assert found[0] < found[1]


def test_a_target_prior_is_kept():
    model = fit(target_prior=0.07)
    hyperparameters = model._fit.scaling.evidence.hyperparameters
    assert hyperparameters.target_prior == 0.07
    assert hyperparameters.num_targets is None  # targets are independent
    assert (model._fit.scaling.evidence.prior_log_odds == hyperparameters.target_log_odds).all()


# --- saved models -------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    evidence_fit().save(tmp_path / "model")
    return tmp_path / "model"


def test_a_loaded_model_is_the_saved_one(folder):
    model, again = evidence_fit(), MetaCaDI.load(folder, device="cpu")
    assert_same(model.posterior, again.posterior)
    assert_same(model.adapt(new_tasks(), seed=2), again.adapt(new_tasks(), seed=2))
    np.testing.assert_array_equal(model.history["loss"], again.history["loss"])
    assert again.components == model.components


def test_saving_again_what_was_loaded_gives_the_same_bytes(folder, tmp_path):
    MetaCaDI.load(folder).save(tmp_path / "copy")
    for name in ("model.json", "tensors.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "copy" / name).read_bytes()


def test_counts_with_a_matrix_prior_and_numpys_numbers_survive_saving(tmp_path):
    rng = np.random.default_rng(0)
    tasks = TaskDataset.from_arrays([rng.poisson(20, size=(8, 3)) for _ in range(3)])
    sampling = Sampling(num_draws=np.int64(6), warmup=np.int32(2), num_chains=1)
    prior = np.triu(np.full((3, 3), 0.3), 1)
    model = MetaCaDI(
        engine="evidence", sampling=sampling, graph_prior=prior, target_prior=np.float64(0.2)
    )
    model.fit(tasks, progress=False).save(tmp_path / "model")
    again = MetaCaDI.load(tmp_path / "model")
    assert again.components == model.components
    assert_same(model.posterior, again.posterior)


def test_a_loaded_model_can_be_fitted_again(folder):
    model = MetaCaDI.load(folder).fit(tiny_tasks(), num_steps=3, progress=False)
    assert model.history["loss"].shape == (2, 3)


def test_parts_that_it_does_not_have_are_refused_when_loading(folder):
    with pytest.raises(MetaCaDIError, match=r"components: expected none .* got 'noise'"):
        MetaCaDI.load(folder, noise=GaussianNoise)


def saved():
    """Tensors of a saved model, by name, as if there had been zeros."""
    law = torch.tensor([-4.0, 1.0, 0.0, 0.5, 1.0, 0.9, 0.1], dtype=torch.float64)
    return {**evidence_fit()._fit._tensors(), "scaling.hurdle": law}


def damages(name, tensor):
    """Ways in which a tensor may be damaged: label -> what stands in its place."""
    yield "missing", None
    yield "one axis more", torch.stack([tensor, tensor])
    if tensor.ndim:
        yield "no axis", tensor.flatten()[0].clone()
        yield "empty", tensor[:0].clone()
    if tensor.is_floating_point():
        nan = tensor.clone()
        nan.view(-1)[-1] = torch.nan
        yield "NaN", nan
        yield "infinite", torch.full_like(tensor, torch.inf)
        other = torch.float32 if tensor.dtype == torch.float64 else torch.float64
        yield "of another precision", tensor.to(other)
        yield "whole numbers", tensor.to(torch.int64)
        yield "complex", tensor.to(torch.complex64)
    else:
        yield "of another type", tensor.to(torch.float32)
    # Values for which it is the wrong place.
    bad = {
        "scaling.kind": [-1, 4, 99],
        "scaling.scale": [-1.0, 0.0],
        "scaling.length_scale": [-1.0, 0.0],
        "scaling.amplitude": [-1.0, 0.0],
        "scaling.long_share": [-0.1, 1.1],
        "scaling.correlation": [-0.1, 1.1],
        "scaling.target_prior": [-1.0, 0.0, 1.0, 2.0],
        "scaling.law.scale": [-1.0, 0.0],
        "scaling.law.shift": [-1.0],
        "scaling.law.weight": [-1.0, 0.0, 1.0],
        "scaling.num_targets": [-1.0, 0.0, 1.0],
        "scaling.hurdle": [-1.0, 0.0, 1.0],
        "chain0.adjacency": [2, -1, 1],  # all ones are cycles
    }
    for value in bad.get(name, []):
        yield f"of {value}", torch.full_like(tensor, value)


CASES = [
    (name, label)
    for name, tensor in saved().items()
    if name.startswith(("scaling.", "chain0.")) and "history" not in name
    for label, _ in damages(name, tensor)
    # Empty means that targets are independent, or that there are no zeros.
    if (name, label) not in (("scaling.num_targets", "empty"), ("scaling.hurdle", "empty"))
]


@pytest.mark.parametrize(("name", "label"), CASES)
def test_a_damaged_tensor_is_named(folder, name, label):
    tensors = saved()
    damaged = dict(damages(name, tensors[name]))[label]
    assert damaged is None or not (
        damaged.dtype == tensors[name].dtype and torch.equal(damaged, tensors[name])
    )
    tensors.pop(name)
    if damaged is not None:
        tensors[name] = damaged
    contiguous = {key: value.contiguous() for key, value in tensors.items()}
    safetensors.torch.save_file(contiguous, folder / "tensors.safetensors")
    with pytest.raises(ModelFileError, match=name.replace(".", r"\.")) as caught:
        MetaCaDI.load(folder)
    assert "\n" not in str(caught.value)


BAD_HEADERS = {
    "a matrix for other variables": ({"graph_prior": [[0.5]]}, r"graph_prior: .* shape \[1, 1\]"),
    "a cycle": ({"graph_prior": [[0, 1], [1, 0]]}, r"graph_prior: .* cycle"),
    "no probability": ({"graph_prior": 2}, r"graph_prior: expected probabilities, got 2"),
    "no rate": ({"target_prior": 7}, r"target_prior: expected a probability"),
    "an option that is unknown": ({"bogus": None}, r"options: expected .*, got .*bogus"),
    "a part of the other engine": ({"noise": 1}, r"options: expected .*, got .*noise"),
    "no sampling": ({"sampling": None}, r"damaged entry"),
    "no draws": ({"sampling": {"num_draws": 0}}, r"num_draws: expected a whole number"),
    "a sampling option that is unknown": ({"sampling": {"bogus": 1}}, r"'bogus'"),
}


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_a_damaged_option_is_named(folder, case):
    change, message = BAD_HEADERS[case]
    header = json.loads((folder / "model.json").read_text())
    header["components"].update(change)
    (folder / "model.json").write_text(json.dumps(header))
    with pytest.raises(ModelFileError, match=message):
        MetaCaDI.load(folder)


@pytest.mark.parametrize("components", [None, [], {}, 3, "x"])
def test_options_that_are_none_are_refused(folder, components):
    header = json.loads((folder / "model.json").read_text())
    header["components"] = components
    (folder / "model.json").write_text(json.dumps(header))
    with pytest.raises(ModelFileError, match=r"options of the engine, got a damaged entry"):
        MetaCaDI.load(folder)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"num_chains": 1}, r"tensor 'chain1\."),
        ({"num_chains": 3}, r"'chain2\.adjacency'"),
        ({"variables": ["a", "b", "c"]}, r"expected 4 names, got 3"),
        ({"engine": "svi"}, r"damaged entry"),
    ],
)
def test_a_header_of_another_model_is_refused(folder, entry, message):
    header = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**header, **entry}))
    with pytest.raises(ModelFileError, match=message):
        MetaCaDI.load(folder)


# --- awkward data -------------------------------------------------------------------------------


def arrays():
    return [array.copy() for array in tiny_tasks().arrays]


def changed(change):
    """Tiny tasks, each array changed by a function of the array and its position."""
    return [change(array, t) for t, array in enumerate(arrays())]


def with_column(value):
    def change(array, t):
        array[:, 1] = value(array)
        return array

    return changed(change)


def knocked_out():
    def change(array, t):
        array = np.exp(array)
        array[:, t % 3] = 0
        return array

    return changed(change)


def counts(empty):
    rng = np.random.default_rng(0)
    tables = [rng.poisson(np.exp(array + 2)) for array in arrays()]
    for table in tables:
        table[:empty] = 0
    return tables


def normal(*shape):
    return np.random.default_rng(1).normal(size=shape)


def many_rows(value):
    """Thousands of rows of X1 -> X2, and X3 a function of them without noise."""
    rows = normal(20, 400, 3)
    rows[..., 1] = np.sin(rows[..., 0]) + 0.3 * rows[..., 1]
    rows[..., 2] = value(rows)
    return list(rows)


ONE_ROW = r"rows: expected two or more in each task, got one"
ONE_TASK = r"tasks: expected two or more, got one"
CONSTANT = r"variables: expected values that vary over the tasks, got a constant at column"
AWKWARD = {
    "training tasks of one row": (lambda: [a[:1] for a in arrays()], [ONE_ROW]),
    "one of them": (lambda: [*arrays(), arrays()[0][:1]], [ONE_ROW]),
    "a single task": (lambda: arrays()[:1], [ONE_TASK]),
    "a single row": (lambda: [arrays()[0][:1]], [CONSTANT, ONE_ROW, ONE_TASK]),
    "a variable that never varies": (lambda: with_column(lambda a: 3.0), [CONSTANT]),
    "none varies": (lambda: [np.full((5, 3), 2.0)] * 3, [CONSTANT]),
    "two identical variables": (lambda: with_column(lambda a: a[:, 0]), []),
    "collinear parents": (lambda: with_column(lambda a: a[:, 0] + 2 * a[:, 2]), []),
    "all variables identical": (lambda: changed(lambda a, t: a[:, [0, 0, 0]]), []),
    "many rows, one constant": (lambda: many_rows(lambda x: 0.0), [CONSTANT]),
    "many rows, a copy": (lambda: many_rows(lambda x: x[..., 0]), []),
    "many rows, a sum": (lambda: many_rows(lambda x: x[..., 0] + x[..., 1]), []),
    "large units": (lambda: changed(lambda a, t: a * 1e6), []),
    "small units": (lambda: changed(lambda a, t: a * 1e-6), []),
    "tiny units": (lambda: changed(lambda a, t: a * 1e-300), []),
    "units apart": (lambda: changed(lambda a, t: a * [1e6, 1e-6, 1]), []),
    "small and far from zero": (lambda: changed(lambda a, t: a * 1e-6 + 1e3), []),
    "far from zero": (lambda: changed(lambda a, t: a + 1e9), []),
    "the largest numbers": (
        lambda: changed(lambda a, t: np.where(a > -0.5, 1.7e308, -1.7e308)),
        [],
    ),
    "an outlier": (
        lambda: changed(lambda a, t: np.where((t == 2) & (a == a.max()), 1e12, a)),
        [],
    ),
    "counts": (lambda: counts(empty=0), []),
    "counts with empty rows": (lambda: counts(empty=2), []),
    "one variable": (lambda: [a[:, :1] for a in arrays()], [r"got one, 'X1'. A graph over"]),
    "more variables than rows": (lambda: list(normal(3, 3, 12)), []),
    "tasks of very unequal size": (lambda: [normal(2, 3), normal(700, 3), normal(1, 3)], [ONE_ROW]),
    "exact zeros": (knocked_out, []),
}
COLLAPSED = r"targets: expected few per task"


@pytest.mark.parametrize("case", AWKWARD)
def test_awkward_data_give_finite_probabilities_and_dags(case):
    make, messages = AWKWARD[case]
    tasks = TaskDataset.from_arrays(make())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = fit(tasks, num_draws=40)
    texts = [str(w.message) for w in caught if not re.search(COLLAPSED, str(w.message))]
    assert all(w.category is MetaCaDIWarning and w.filename == __file__ for w in caught)
    assert len(texts) == len(messages)
    assert all(map(re.search, messages, texts))
    supports = TaskDataset.from_arrays([array[:1] for array in tasks.arrays])
    for posterior in (model.posterior, model.adapt(supports), model.adapt(tasks)):
        for values in (posterior.edge_probs, posterior.target_probs):
            assert np.isfinite(values).all()
            assert ((values >= 0) & (values <= 1)).all()
        assert np.isfinite(posterior.log_likelihood(num_draws=2)).all()
    d = len(tasks.variables)
    graphs = model.posterior.sample_graphs(5).values.reshape(-1, d, d)
    assert all(is_dag(torch.tensor(graph)) for graph in graphs)


def test_constants_are_no_targets_of_everything():
    """Without anything that varies nothing is learned, and no task looks like a hit."""
    with pytest.warns(MetaCaDIWarning, match=CONSTANT) as caught:
        model = fit(TaskDataset.from_arrays([np.zeros((6, 3))] * 4))
    assert len(caught) == 1
    assert float(model.posterior.target_probs.max()) < 0.5


@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_units_do_not_matter(factor):
    first, second = (fit(TaskDataset.from_arrays([a * c for a in arrays()])) for c in (1, factor))
    for name in ("edge_probs", "target_probs"):
        found = [getattr(model.posterior, name) for model in (first, second)]
        np.testing.assert_allclose(*found, atol=0.02)


@pytest.mark.parametrize("seed", [0, 2])
def test_observational_tasks_have_few_targets(seed):
    world = simulators.gp_anm(
        num_variables=8, num_tasks=10, num_samples=50, seed=seed, targets_per_task=0
    )
    model = fit(world.tasks)
    prior = model._fit.scaling.evidence.hyperparameters.target_prior
    assert prior <= 0.25
    assert float(model.posterior.target_probs.mean()) <= 2 * min(prior, 1 / 8)

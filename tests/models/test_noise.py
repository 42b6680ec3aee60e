"""Noise models have exact densities, and their regressions are those of their laws."""

from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate, stats

from pyro_metacadi import MetaCaDI, simulators
from pyro_metacadi.components import Components
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models import Noise, noise
from pyro_metacadi.models.noise import (
    GaussianNoise,
    HeteroscedasticNoise,
    LearnedGaussianNoise,
    PostNonlinearNoise,
    StudentTNoise,
)
from tests.helpers import TINY, given_draws, tiny_batch, tiny_chain, tiny_tasks, traces

D, F = 3, 5
LEARNED = (LearnedGaussianNoise, HeteroscedasticNoise, StudentTNoise, PostNonlinearNoise)

learned = pytest.mark.parametrize("cls", LEARNED)


@pytest.fixture(autouse=True)
def local_parameters():
    """Pyro's global store is for parameters of modules that are called outside."""
    with isolated(0):
        yield


def in_general_position(cls, *, seed=0, dtype=torch.float64):
    """A noise model whose parameters are not those that it begins with."""
    model, generator = cls(D, F).to(dtype), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.7 * torch.randn(parameter.shape, generator=generator, dtype=dtype)
    return model


def inputs(*, draw=(), task=2, sample=4, seed=1):
    """x, loc and features, float64."""
    generator = torch.Generator().manual_seed(seed)
    like = {"generator": generator, "dtype": torch.float64}
    x = torch.randn(task, sample, D, **like)
    loc = torch.randn(*draw, task, sample, D, **like)
    return x, loc, torch.randn(*draw, task, D, sample, F, **like)


def one_row(model, num_samples):
    """The law of many values around the same prediction, and its features."""
    _, loc, features = inputs(task=1, sample=1)
    many = loc.expand(1, num_samples, D), features.expand(1, D, num_samples, F)
    return model(*many), many


def test_gaussian_noise_is_a_normal_around_the_prediction_with_the_given_scale():
    model, loc, x = GaussianNoise(3, 5, scale=0.5), torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    law = model(loc, torch.randn(2, 3, 4, 5))
    torch.testing.assert_close(law.log_prob(x), dist.Normal(loc, 0.5).log_prob(x))


def test_gaussian_noise_weighs_all_observations_by_the_inverse_variance():
    x = torch.randn(2, 4, 3)
    response, precision = GaussianNoise(3, 5, scale=0.5).linearize(x, torch.randn(2, 3, 4, 5))
    assert response is x
    torch.testing.assert_close(precision, torch.full_like(x, 4.0))


@pytest.mark.parametrize("cls", [GaussianNoise, *LEARNED])
def test_models_are_noise_and_begin_near_the_papers(cls):
    x, loc, features = (value.float() for value in inputs())
    model = cls(D, F)
    assert isinstance(model, Noise)
    assert getattr(noise, cls.__name__) is cls
    first, paper = model(loc, features).log_prob(x), dist.Normal(loc, 1.0).log_prob(x)
    assert (first - paper).abs().mean() < 0.35
    response, precision = model.linearize(x, features)
    assert (response - x).abs().max() < 0.25
    assert (precision.log().abs() < 0.7).all()


@learned
@pytest.mark.parametrize("seed", range(3))
def test_densities_integrate_to_one(cls, seed):
    model, grid = in_general_position(cls, seed=seed), np.sinh(np.linspace(-9, 9, 8001))
    law, _ = one_row(model, len(grid))
    x = torch.tensor(grid).unsqueeze(-1).expand(1, -1, D)
    density = law.log_prob(x).exp().detach().numpy()[0]
    total = integrate.simpson(density, x=grid, axis=0)
    assert total == pytest.approx(np.ones(D), abs=2e-3)


@learned
def test_samples_follow_the_density(cls):
    model, size = in_general_position(cls), 4000
    law, _ = one_row(model, size)
    rows = law.sample()[0].numpy()
    grid = np.sort(np.concatenate([np.sinh(np.linspace(-9, 9, 8001)), rows.ravel()]))
    density = one_row(model, len(grid))[0].log_prob(
        torch.tensor(grid).unsqueeze(-1).expand(1, -1, D)
    )
    cumulative = integrate.cumulative_trapezoid(
        density.exp().detach().numpy()[0], x=grid, axis=0, initial=0
    )
    for values, below in zip(rows.T, cumulative.T, strict=True):
        assert stats.kstest(np.interp(values, grid, below), "uniform").pvalue > 0.01


@learned
def test_regressions_have_the_laws_noise(cls):
    model, size = in_general_position(cls), 20_000
    law, (loc, features) = one_row(model, size)
    x = law.sample()
    response, precision = model.linearize(x, features)
    standard = ((response - loc) * precision.sqrt()).detach().numpy()[0]
    assert standard.mean(0) == pytest.approx(np.zeros(D), abs=0.03)
    if cls is StudentTNoise:  # a ridge of the same variance, which is all that is promised
        df = model.degrees_of_freedom.detach().numpy()
        variance = (model.scale**2).detach().numpy() * df / (df - 2)
        assert precision[0, 0].detach().numpy() == pytest.approx(1 / variance)
        return
    for values in standard.T:
        assert stats.kstest(values, "norm").pvalue > 0.01


@learned
def test_gradients_are_those_of_finite_differences(cls):
    model = in_general_position(cls)
    names = [name for name, _ in model.named_parameters()]
    given = [value.requires_grad_() for value in inputs(sample=2)]
    if cls is HeteroscedasticNoise:  # takes features as given, see below
        given[-1].requires_grad_(False)
    given += [value.detach().clone().requires_grad_() for value in model.parameters()]

    def apply(x, loc, features, *parameters):
        named = dict(zip(names, parameters, strict=True))

        class Both(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.model = model

            def forward(self):
                response, precision = self.model.linearize(x, features)
                return self.model(loc, features).log_prob(x), response, precision

        return torch.func.functional_call(Both(), {f"model.{k}": v for k, v in named.items()}, ())

    assert torch.autograd.gradcheck(apply, given)


@learned
def test_many_draws_are_one_after_the_other(cls):
    model = in_general_position(cls)
    x, loc, features = inputs(draw=(4,))
    together = model(loc, features).log_prob(x)
    response, precision = model.linearize(x, features)
    response, precision = response.expand_as(loc), precision.expand_as(loc)
    for index in range(4):
        torch.testing.assert_close(together[index], model(loc[index], features[index]).log_prob(x))
        alone = model.linearize(x, features[index])
        torch.testing.assert_close((response[index], precision[index]), alone)


@learned
def test_a_plate_of_draws_gives_the_densities_of_a_loop(cls):
    chain, batch = tiny_chain(noise=cls), tiny_batch()
    with given_draws(5):
        model_trace, guide_trace = traces(chain, batch)
    together = model_trace.nodes["x"]["log_prob"]
    assert together.shape == (5, 2, 6)
    sites = ("order_score", "edge", "intervention_target", "readout")
    for index in range(5):
        values = {name: guide_trace.nodes[name]["value"][index] for name in sites}
        values = {
            name: value[0, 0] if name in sites[:2] else value for name, value in values.items()
        }
        given = chain._replace(guide=chain.guide.given(values))
        alone, _ = traces(given, batch, model=pyro.condition(chain.model, values))
        torch.testing.assert_close(
            alone.nodes["x"]["log_prob"], together[index], rtol=1e-4, atol=1e-4
        )


@learned
@pytest.mark.parametrize("objective", ["paper", "elbo"])
def test_fits_are_finite_and_learn_the_noise(cls, objective):
    world = simulators.gp_anm(num_variables=3, num_tasks=4, num_samples=30, seed=0)
    model = MetaCaDI(engine="svi", **TINY, noise=cls, objective=objective)
    model.fit(world.tasks, num_steps=30, progress=False)
    assert np.isfinite(model.history["loss"]).all()
    (chain,) = model._fit.chains
    begun = cls(3, chain.model.mechanisms.num_features)
    for name, parameter in chain.model.noise.named_parameters():
        assert parameter.isfinite().all()
        assert not torch.equal(parameter, begun.get_parameter(name)), name
    found = model.adapt(world.tasks)
    assert np.isfinite(found.target_probs).all()
    assert np.isfinite(found.log_likelihood(num_draws=3)).all()


@learned
def test_saved_models_come_back_without_replacements(cls, tmp_path):
    tasks = tiny_tasks()
    model = MetaCaDI(engine="svi", **TINY, noise=cls).fit(tasks, progress=False)
    model.save(tmp_path / "model")
    loaded = MetaCaDI.load(tmp_path / "model")
    assert type(loaded._fit.chains[0].model.noise) is cls
    assert loaded.adapt(tasks).target_probs.identical(model.adapt(tasks).target_probs)


def test_options_are_saved_and_names_of_earlier_versions_are_known():
    chosen = Components.resolve(noise=partial(StudentTNoise, degrees_of_freedom=4.0))
    again = Components.from_json(chosen.to_json())
    assert again.noise(D, F).degrees_of_freedom.tolist() == pytest.approx([4.0] * D)
    older = {"class": "pyro_metacadi.models.noise.GaussianNoise", "options": {"scale": 0.5}}
    loaded = Components.from_json({**chosen.to_json(), "noise": older})
    assert loaded.noise(D, F).scale.item() == 0.5


@pytest.mark.parametrize("sign", [-1, 1])
@learned
def test_extreme_parameters_and_values_stay_finite(cls, sign):
    model = cls(D, F)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "centre":
                parameter.fill_(50.0 * sign)
    x, loc, features = (value.float() for value in inputs())
    law, (response, precision) = model(loc, features), model.linearize(1e6 * x, features)
    for value in (law.log_prob(x), law.log_prob(100 * x), response, precision):
        assert value.isfinite().all()
    assert (precision > 0).all()


def test_heteroscedastic_scales_follow_the_features_within_their_limit():
    model, (x, loc, features) = HeteroscedasticNoise(D, F, limit=2.0).double(), inputs()
    with torch.no_grad():
        model.weight.normal_(generator=torch.Generator().manual_seed(2))
        model.base.normal_(generator=torch.Generator().manual_seed(3))
    linear = model.base + 0.3 * torch.einsum("tisf,if->tsi", features, model.weight)
    expected = 2 * torch.tanh(linear / 2)
    torch.testing.assert_close(model(loc, features).scale.log(), expected)
    assert model.linearize(x, features)[1].log().abs().max() <= 4


def test_heteroscedastic_scales_pull_at_no_feature_and_no_graph():
    model, (x, loc, features) = in_general_position(HeteroscedasticNoise), inputs()
    features.requires_grad_()
    precision = model.linearize(x, features)[1]
    loss = model(loc, features).log_prob(x).sum() + precision.sum()
    at_features, at_weight = torch.autograd.grad(loss, (features, model.weight), allow_unused=True)
    assert at_features is None
    assert at_weight.abs().min() > 0


def test_post_nonlinear_predictions_are_in_the_units_of_the_inverse():
    model, (x, loc, features) = in_general_position(PostNonlinearNoise), inputs()
    law = model(loc, features)
    z, precision = model.linearize(x, features)
    (slope,) = torch.autograd.grad(model.linearize(x.requires_grad_(), features)[0].sum(), x)
    expected = dist.Normal(loc, precision.rsqrt()).log_prob(z) + slope.log()
    torch.testing.assert_close(law.log_prob(x), expected)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (partial(GaussianNoise, scale=0.0), r"scale: expected a number > 0, got 0.0"),
        (partial(GaussianNoise, scale=-1.0), r"scale: expected a number > 0, got -1.0"),
        (partial(GaussianNoise, scale=float("nan")), r"scale: expected a number > 0, got nan"),
        (partial(HeteroscedasticNoise, limit=0.0), r"limit: expected a number > 0, got 0.0"),
        (partial(HeteroscedasticNoise, limit=float("nan")), r"limit: .* got nan"),
        (partial(HeteroscedasticNoise, rate=0.0), r"rate: expected a number > 0, got 0.0. Try 0.3"),
        (partial(StudentTNoise, degrees_of_freedom=2), r"degrees_of_freedom: .* above 2.* got 2"),
        (partial(StudentTNoise, degrees_of_freedom=60), r"degrees_of_freedom: .* got 60"),
        (partial(PostNonlinearNoise, num_steps=0), r"num_steps: expected at least 1, got 0"),
    ],
)
def test_options_out_of_range_are_refused(factory, message):
    with pytest.raises(ConfigError, match=message):
        factory(3, 5)

"""A part that breaks one law is told which, and what to mend."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule

from pyro_metacadi import testing
from pyro_metacadi.errors import DataError
from pyro_metacadi.guides import (
    FlattenedDeepSets,
    MAMLAdaptation,
    RidgeAdaptation,
    SharedDeepSets,
)
from pyro_metacadi.models import (
    GaussianNoise,
    LearnedGaussianNoise,
    NegativeBinomialNoise,
    PostNonlinearNoise,
    ScaleFreeGraphPrior,
    SparseGraphPrior,
)

count = iter(range(10**6))


class Any(PyroModule):
    def __init__(self, *sizes):
        super().__init__()


# Noise models


class ChangingNoise(GaussianNoise):
    def __init__(self, *sizes):
        super().__init__(*sizes, scale=1.0 + next(count))


class SeedingNoise(LearnedGaussianNoise):
    def __init__(self, *sizes):
        torch.manual_seed(0)
        super().__init__(*sizes)


class AskingNoise(GaussianNoise):
    def forward(self, loc, features):
        return dist.Normal(loc, pyro.param("scale", torch.tensor(1.0)))


class StoringNoise(torch.nn.Module):
    def __init__(self, *sizes):
        super().__init__()

    def linearize(self, x, features):
        return x, None

    def forward(self, loc, features):
        return dist.Normal(loc, pyro.param("scale", torch.tensor(1.0)))


class EventNoise(GaussianNoise):
    def forward(self, loc, features):
        return dist.Normal(loc, 1.0).to_event(1)


class FlatNoise(GaussianNoise):
    def linearize(self, x, features):
        return x, features.flatten(1).square()


class NegativeNoise(GaussianNoise):
    def linearize(self, x, features):
        return x, -torch.ones_like(x)


class SecretlyReadingNoise(LearnedGaussianNoise):
    def forward(self, loc, features):
        return dist.Normal(loc, features.square().sum(-1).mT.exp())


class Unnormalised(dist.Normal):
    def log_prob(self, value):
        return super().log_prob(value) + 0.1


class UnnormalisedNoise(GaussianNoise):
    def forward(self, loc, features):
        return Unnormalised(loc, self.scale)


class WideDraws(dist.Normal):
    def sample(self, sample_shape=torch.Size()):  # noqa: B008
        return self.loc + 2 * (super().sample(sample_shape) - self.loc)


class WideNoise(GaussianNoise):
    def forward(self, loc, features):
        return WideDraws(loc, self.scale)


class BiasedNoise(GaussianNoise):
    def forward(self, loc, features):
        return dist.Normal(loc + 1, self.scale)


class PreciseNoise(GaussianNoise):
    def linearize(self, x, features):
        return x, 4 * torch.ones_like(x)


class OwnUnitsNoise(PostNonlinearNoise):
    def linearize(self, x, features):
        return 3 * x, None


class RootNoise(LearnedGaussianNoise):
    def linearize(self, x, features):
        return x, 1 + 0 * self.log_scale.sqrt().expand_as(x)


class NormalCountNoise(NegativeBinomialNoise):
    def forward(self, loc, features, size):
        return dist.Normal(loc, self.deviation)


class EmptyCountNoise(NegativeBinomialNoise):
    def size(self, x):
        return x.sum(-1, keepdim=True)


class FlatCountNoise(NegativeBinomialNoise):
    def size(self, x):
        return x.sum(-1).clamp(min=1.0)


class RawCountNoise(NegativeBinomialNoise):
    def linearize(self, x, features, size):
        return x, None


class PlainCountNoise(NegativeBinomialNoise):
    def residual(self, x, loc, features, size):
        return 2 * super().residual(x, loc, features, size)


class LatentNoise(GaussianNoise):
    def forward(self, loc, features):
        return dist.Normal(loc, pyro.sample("scale", dist.LogNormal(0.0, 1.0)))


class SampledNoise(GaussianNoise):
    def linearize(self, x, features):
        return x + pyro.sample("shift", dist.Normal(0.0, 1.0)), None


class MisspeltNoise(NegativeBinomialNoise):
    response = "count"


class NoCountNoise(GaussianNoise):
    response = "counts"


class MixedNoise(GaussianNoise):
    def forward(self, loc, features):
        which = dist.Categorical(torch.ones(loc.shape[-1], 2))  # not expanded to loc's shape
        return dist.MixtureSameFamily(which, dist.Normal(loc.unsqueeze(-1), torch.ones(2)))


class TorchNoise(GaussianNoise):
    def forward(self, loc, features):
        return torch.distributions.Normal(loc, self.scale)


class LonelyNoise(GaussianNoise):
    def linearize(self, x, features):
        return x


class SpeechlessNoise(Any):
    def forward(self, loc, features):
        return dist.Normal(loc, 1.0)


class UnfinishedNoise(GaussianNoise):
    def __init__(self, *sizes):
        self.log_scale = torch.nn.Parameter(torch.zeros(sizes[0]))


NOISE = [
    (int, r"noise: expected a class that is built from 2 sizes"),
    (GaussianNoise(3, 4), r"noise: .* Pass the class, not an instance"),
    (Any, r"noise: expected a factory of Noise parts, .* makes Any without linearize"),
    (SpeechlessNoise, r"makes SpeechlessNoise without linearize. Pass such a class"),
    (
        UnfinishedNoise,
        r"noise: expected no error, got AttributeError .* Mend the last line of yours",
    ),
    (MixedNoise, r"noise: expected no error, got RuntimeError \(Index tensor"),
    (TorchNoise, r"law of x: expected a distribution of pyro.distributions, got torch\..*Normal"),
    (LonelyNoise, r"linearize: expected a tuple \(response, precision\), got Tensor"),
    (ChangingNoise, r"noise, built twice from one seed: expected the same parameters"),
    (SeedingNoise, r"noise, built from two seeds: .* Never seed in a constructor"),
    (AskingNoise, r"noise: expected no pyro.param, got one. Keep parameters in the module"),
    (StoringNoise, r"noise, in Pyro's param store: expected no entries, got \['scale'\]"),
    (EventNoise, r"noise, of draws \[\]: shape of the law: .* got \[2, 6\] and \[3\]"),
    (FlatNoise, r"precision of linearize: expected shape \[2, 6, 3\], got \[2, 72\]"),
    (NegativeNoise, r"precision of linearize: expected positive values"),
    (SecretlyReadingNoise, r"noise: reads_features: .* Set reads_features = True in the class"),
    (UnnormalisedNoise, r"integral of the density over x: expected 1, got 1.1052"),
    (WideNoise, r"draws against the density: .* Let sample and log_prob speak of one law"),
    (BiasedNoise, r"linearize, residuals of draws: expected mean 0, got 1.0"),
    (PreciseNoise, r"in units of the precision: expected variance 1, got [34]"),
    (OwnUnitsNoise, r"linearize, residuals of draws: expected mean 0"),
    (NormalCountNoise, r"noise of counts: support of the law: expected whole numbers"),
    (EmptyCountNoise, r"noise of counts: size: expected positive values, of rows without any"),
    (FlatCountNoise, r"noise of counts: size: expected shape \[2, 6, 1\], got \[2, 6\]"),
    (RawCountNoise, r"linearize, residuals of draws: expected mean 0"),
    (
        PlainCountNoise,
        r"residual, of draws in units of the law's standard deviation: .* variance 1",
    ),
    (LatentNoise, r"noise: latent sites of its own: expected none, .* got 'scale'"),
    (SampledNoise, r"noise: linearize: latent sites of its own: expected none, .* got 'shift'"),
    (MisspeltNoise, r"noise: expected response = .* got 'count' in MisspeltNoise"),
    (NoCountNoise, r"noise: expected response = .* got 'counts' in NoCountNoise"),
    (RootNoise, r"noise, at values up to \d+: precision: expected finite gradients"),
]


@pytest.mark.parametrize(("noise", "message"), NOISE)
def test_what_is_wrong_with_a_noise_model_is_named(noise, message):
    with pytest.raises(testing.ConformanceError, match=message):
        testing.check_noise(noise)


# Graph priors


class WithoutEvent(SparseGraphPrior):
    def forward(self):
        return dist.Bernoulli(self.probability).mask(self.off_diagonal)


class Real(Any):
    def __init__(self, d):
        super().__init__()
        self.d = d

    def forward(self):
        return dist.Normal(torch.zeros(self.d, self.d), 1.0).to_event(2)


class WithDiagonal(SparseGraphPrior):
    def forward(self):
        return dist.Bernoulli(self.probability / 3).to_event(2)


class TwiceTheMass(dist.Bernoulli):
    def log_prob(self, value):
        return super().log_prob(value) + 0.1

    def expand(self, batch_shape, _instance=None):
        return type(self)(self.probs.expand(batch_shape))


class NotNormalised(SparseGraphPrior):
    def forward(self):
        return TwiceTheMass(self.probability).mask(self.off_diagonal).to_event(2)


class OtherDraws(dist.Bernoulli):
    def sample(self, sample_shape=torch.Size()):  # noqa: B008
        return 1 - super().sample(sample_shape)

    def expand(self, batch_shape, _instance=None):
        return type(self)(self.probs.expand(batch_shape))


class DrawsOfAnother(SparseGraphPrior):
    def forward(self):
        return OtherDraws(self.probability * 0.4).mask(self.off_diagonal).to_event(2)


class OtherOdds(SparseGraphPrior):
    @property
    def edge_log_odds(self):
        return torch.zeros_like(self.probability) - 3


class Impossible(SparseGraphPrior):
    def forward(self):
        return dist.Delta(torch.zeros_like(self.probability), event_dim=2)


class Latent(SparseGraphPrior):
    def forward(self):
        probability = pyro.sample("p", dist.Beta(1.0, 1.0)) * torch.ones_like(self.probability)
        return dist.Bernoulli(probability).mask(self.off_diagonal).to_event(2)


class TorchPrior(SparseGraphPrior):
    def forward(self):
        law = torch.distributions.Bernoulli(self.probability)
        return torch.distributions.Independent(law, 2)


class WithHalfADiagonal(SparseGraphPrior):
    def forward(self):
        return dist.Bernoulli(self.probability).to_event(2)


class OddsOnDemand(SparseGraphPrior):
    def edge_log_odds(self):
        return torch.logit(self.probability)


class MassOfForwardEdges(ScaleFreeGraphPrior):
    def graph_log_prob(self, adjacency, order_score):
        return self().log_prob(adjacency)  # as if edges against the order were not there


class OneMassForAll(ScaleFreeGraphPrior):
    def graph_log_prob(self, adjacency, order_score):
        return super().graph_log_prob(adjacency, order_score).sum()


class MoreForWhoeverIsFirst(SparseGraphPrior):
    def given_order(self, order_score):
        first = order_score == order_score.amax(-1, keepdim=True)
        odds = self.edge_log_odds + 2.0 * (first & ~first.all(-1, keepdim=True)).unsqueeze(-1)
        return dist.Bernoulli(logits=odds).mask(self.off_diagonal).to_event(2)


class OfNames(SparseGraphPrior):
    def __init__(self, d, *, variables):
        super().__init__(d)
        self.first = variables.index("dose")


PRIORS = [
    (dict, r"graph_prior: expected a class that is built from 1 sizes"),
    (WithoutEvent, r"graph_prior: shape of the law: .* End with .to_event\(2\)"),
    (Real, r"graph_prior: draws: expected only 0 and 1"),
    (WithDiagonal, r"log_prob with a diagonal of ones: .* Mask pairs that are not free"),
    (NotNormalised, r"masses of all sets of free edges of three variables: expected a sum of 1"),
    (DrawsOfAnother, r"shares of draws against masses: .* speak of one law"),
    (OtherOdds, r"what a single edge adds to log_prob: expected its edge_log_odds"),
    (Latent, r"latent sites of its own: expected none, .* got 'p'. Make it a torch.nn.Parameter"),
    (MassOfForwardEdges, r"exp\(graph_log_prob\) of graphs .* expected the masses of all edges"),
    (OneMassForAll, r"graph_log_prob: expected shape \[2, \d\], got \[\]. Sum over the last axes"),
    (MoreForWhoeverIsFirst, r"single edge adds to log_prob: expected its edge_log_odds, in every"),
    (TorchPrior, r"law of edge: expected a distribution of pyro.distributions, got torch\."),
    (WithHalfADiagonal, r"sum of 1, got 0.1250. .* Mask pairs that are not free, such as the diag"),
    (OddsOnDemand, r"edge_log_odds, a tensor \[3, 3\], got .*method.* Make it a property"),
    (OfNames, r"graph_prior: expected no error, got ValueError"),
    (Impossible, r"divergence of a guide from it: .* Give all that the guide can draw a finite"),
]


@pytest.mark.parametrize(("prior", "message"), PRIORS)
def test_what_is_wrong_with_a_graph_prior_is_named(prior, message):
    with pytest.raises(testing.ConformanceError, match=message):
        testing.check_graph_prior(prior)


def test_a_graph_prior_is_checked_with_the_names_that_it_speaks_of():
    testing.check_graph_prior(OfNames, variables=["dose", "PKC", "PKA", "Raf"])
    with pytest.raises(DataError, match=r"variables: expected 3 names, got 2"):
        testing.check_graph_prior(OfNames, variables=["dose", "PKC"])


# Target predictors


class Transposed(FlattenedDeepSets):
    def forward(self, blocks, mask):
        return super().forward(blocks, mask).mT


class WithoutMask(SharedDeepSets):
    def forward(self, blocks, mask):
        return super().forward(blocks, torch.ones_like(mask))


class ByLength(SharedDeepSets):
    def forward(self, blocks, mask):
        return super().forward(blocks, mask) + 0.1 * mask.shape[-1]


class FirstRow(SharedDeepSets):
    def forward(self, blocks, mask):
        return super().forward(blocks[..., :1, :, :], mask[:, :1])


class AmongTasks(SharedDeepSets):
    def forward(self, blocks, mask):
        logits = super().forward(blocks, mask)
        return logits - logits.mean(-2, keepdim=True)


class Blind(SharedDeepSets):
    def forward(self, blocks, mask):
        return super().forward(0 * blocks, mask)


class MixedDraws(SharedDeepSets):
    def forward(self, blocks, mask):
        shared = blocks.mean(0, keepdim=True) if blocks.dim() == 5 else blocks
        return super().forward(blocks * 0 + shared, mask)


class WithoutGradient(SharedDeepSets):
    def forward(self, blocks, mask):
        return super().forward(blocks, mask).detach()


class NaNOfOneRow(SharedDeepSets):
    def forward(self, blocks, mask):
        number = mask.sum(-1, keepdim=True).float()
        return super().forward(blocks, mask) * (number - 1) / (number - 1)


class LatentPredictor(SharedDeepSets):
    def forward(self, blocks, mask):
        return super().forward(blocks, mask) + pyro.sample("shift", dist.Normal(0.0, 1.0))


PREDICTORS = [
    (LatentPredictor, r"predictor: latent sites of its own: expected none, .* got 'shift'"),
    (int, r"predictor: expected a factory of TargetPredictor parts"),
    (Transposed, r"predictor: logits: expected shape \[4, 3\], got \[3, 4\]"),
    (NaNOfOneRow, r"predictor: logits: expected finite floating-point values"),
    (MixedDraws, r"logits of draws together: expected those of each draw"),
    (WithoutMask, r"logits with other values in padding: .* Weigh rows by the mask"),
    (ByLength, r"logits with more padding: expected the same logits"),
    (FirstRow, r"logits of rows in another order: expected the same logits"),
    (AmongTasks, r"logits of tasks one by one: expected those of all together"),
    (Blind, r"logits of other rows: expected other logits, got the same"),
    (WithoutGradient, r"predictor: logits: expected a gradient, got none"),
]


@pytest.mark.parametrize(("predictor", "message"), PREDICTORS)
def test_what_is_wrong_with_a_target_predictor_is_named(predictor, message):
    with pytest.raises(testing.ConformanceError, match=message):
        testing.check_target_predictor(predictor)


# Adaptations


class Doubled(RidgeAdaptation):
    def __call__(self, *given):
        return {"readout": super().__call__(*given)["readout"].mT}


class Bare(RidgeAdaptation):
    def __call__(self, *given):
        return super().__call__(*given)["readout"]


class Boastful(RidgeAdaptation):
    adapts = ("readout", "interventional")


class Misspelt(RidgeAdaptation):
    adapts = ("readouts",)


class Unmasked(RidgeAdaptation):
    def __call__(self, model, predictions, support, mask):
        return super().__call__(model, predictions, support, torch.ones_like(mask))


class Ordered(RidgeAdaptation):
    def __call__(self, model, predictions, support, mask):
        first = torch.arange(mask.shape[-1]) < 2
        return super().__call__(model, predictions, support, mask & first)


class Pooled(RidgeAdaptation):
    def __call__(self, *given):
        readout = super().__call__(*given)["readout"]
        return {"readout": readout - readout.mean(-3, keepdim=True)}


class OfOneDraw(RidgeAdaptation):
    def __call__(self, *given):
        readout = super().__call__(*given)["readout"]
        return {"readout": readout[:1].expand_as(readout) if readout.dim() == 4 else readout}


class Fixed(RidgeAdaptation):
    def __call__(self, *given):
        return {"readout": super().__call__(*given)["readout"] * 0}


class Detached(RidgeAdaptation):
    def __call__(self, *given):
        return {"readout": super().__call__(*given)["readout"].detach()}


class Infinite(MAMLAdaptation):
    def forward(self, *given):
        own = super().forward(*given)
        return own | {"readout": own["readout"] + 0 * self.readout.sqrt()}


class LatentAdaptation(RidgeAdaptation):
    def __call__(self, *given):
        shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
        return {"readout": super().__call__(*given)["readout"] + shift}


ADAPTATIONS = [
    (LatentAdaptation, r"adaptation: latent sites of its own: expected none, .* got 'shift'"),
    (int, r"adaptation: expected a factory of Adaptation parts, .* without adapts"),
    (Doubled, r"adaptation: readout: expected shape \[2, 4, 3, 5\], got \[2, 4, 5, 3\]"),
    (Bare, r"adaptation: expected a dict with \['readout'\], got Tensor"),
    (Boastful, r"expected a dict with \['interventional.biases.0', .*got \['readout'\]"),
    (Misspelt, r"adapts: expected some of 'readout', .* got \('readouts',\)"),
    (Unmasked, r"values with other rows in padding: .* no weight"),
    (Ordered, r"values of rows in another order: expected the same"),
    (Pooled, r"values of tasks one by one: .* Adapt to each task on its own"),
    (OfOneDraw, r"values of draws together: expected those of each draw"),
    (Fixed, r"values of other rows: expected other values, got the same"),
    (Detached, r"adaptation: values: expected a gradient, got none"),
    (Infinite, r"adaptation: values: expected finite gradients"),
    (
        partial(MAMLAdaptation, num_steps=0),
        r"values of other rows: expected other values, got the same",
    ),
]


@pytest.mark.parametrize(("adaptation", "message"), ADAPTATIONS)
def test_what_is_wrong_with_an_adaptation_is_named(adaptation, message):
    with pytest.raises(testing.ConformanceError, match=message):
        testing.check_adaptation(adaptation)

# %% [markdown]
# # Priors and noise models, those that are there and your own
#
# What you know of the graph goes into a prior, how your instrument errs into a noise model. Both
# may be classes of your own, of at most fifteen lines. `pyro_metacadi.testing` says whether they
# keep the laws that the model relies on; `MetaCaDI` takes the classes and builds them.

# %%
import os
import textwrap
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuideList, AutoNormal
from pyro.nn import PyroModule

from pyro_metacadi import MetaCaDI, TaskDataset, comparison, metrics, plots, testing
from pyro_metacadi.data import TaskBatch
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.guides import SharedDeepSets
from pyro_metacadi.inference import ELBOObjective, PaperObjective, Training
from pyro_metacadi.models import ExpertGraphPrior, LearnedGaussianNoise, Mechanisms

SMOKE = "METACADI_SMOKE" in os.environ  # a small run, for the tests
torch.set_num_threads(1)

# %% [markdown]
# ## What is there
#
# | your rows | noise model (`engine="svi"`) |
# |---|---|
# | of one known scatter after standardising | `GaussianNoise`, the default, the paper's |
# | each variable scatters differently | `LearnedGaussianNoise` |
# | the scatter depends on the causes | `HeteroscedasticNoise` |
# | heavy tails | `StudentTNoise` |
# | seen through a distortion (saturation, logarithm) | `PostNonlinearNoise` |
# | raw counts | `NegativeBinomialNoise` (see `04_gene_perturbations`) |
#
# | you know | prior (both engines) |
# |---|---|
# | about how many edges there are | `graph_prior=0.1` |
# | how probable each edge is; that some must or must not be | `graph_prior=matrix` |
# | tiers, names of edges, a limit of parents | `ExpertGraphPrior` |
# | few variables act on many | `ScaleFreeGraphPrior` |
#
# What is not in these tables is a class away.

# %% [markdown]
# ## A noise model: one value in so many is far off
#
# Bubbles, doublets and misread wells: most values scatter by a variable's scale s, some by 8 s. A
# noise model has two methods (`pyro_metacadi.models.Noise`):
#
# * `forward(loc, features)` is the law of x around the prediction `loc`, `[..., task, row,
#   variable]`. It may depend on the mechanisms' `features`; this one does not.
# * `linearize(x, features)` is what keeps adapting to a task in closed form: a response and its
#   precision, one over the noise's variance.
#
# What is an `nn.Parameter` is learned with everything else. All data are in standard deviations.


# %%
class OutlierNoise(PyroModule):
    def __init__(self, num_variables, num_features, *, spread=8.0):
        super().__init__()
        self.log_scale = torch.nn.Parameter(torch.zeros(num_variables))
        self.logits = torch.nn.Parameter(torch.tensor([2.0, 0.0]))  # of near and far
        self.register_buffer("spread", torch.tensor([1.0, spread]))

    def linearize(self, x, features):
        spread = (self.logits.softmax(-1) * self.spread**2).sum()
        return x, (torch.exp(-2 * self.log_scale) / spread).expand_as(x)

    def forward(self, loc, features):
        far = dist.Categorical(logits=self.logits.expand(*loc.shape, 2))
        scale = self.log_scale.exp().unsqueeze(-1) * self.spread
        return dist.MixtureSameFamily(far, dist.Normal(loc.unsqueeze(-1), scale))


testing.check_noise(OutlierNoise)

# %% [markdown]
# Nothing was printed: it keeps every law. Its density beside a Gaussian of the same variance, as
# it is before training:

# %%
x = torch.linspace(-12, 12, 241).reshape(1, 1, -1, 1).expand(1, 1, -1, 1)
with torch.no_grad():
    law = OutlierNoise(1, 1)(torch.zeros_like(x), None)
    gaussian = dist.Normal(0.0, law.variance.sqrt())
    fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
    for one, label, style in ((law, "OutlierNoise", "-"), (gaussian, "Gaussian", "--")):
        ax.plot(x.flatten(), one.log_prob(x).flatten(), "k", linestyle=style, label=label)
ax.set(xlabel="x - prediction", ylabel="log density")
_ = ax.legend(frameon=False)

# %% [markdown]
# A slip is told by name: here the precision is that of the values nearby, forgetting the far
# ones.


# %%
class ForgetfulNoise(OutlierNoise):
    def linearize(self, x, features):
        return x, torch.exp(-2 * self.log_scale).expand_as(x)


try:
    testing.check_noise(ForgetfulNoise)
except testing.ConformanceError as error:
    print(textwrap.fill(str(error), 88))

# %% [markdown]
# ## A graph prior: edges within a pathway are likelier
#
# A graph prior is called without arguments and returns the law of `edge`, 0/1 for every pair
# `[parent, child]`, before an order takes half of them away (`pyro_metacadi.models.GraphPrior`).
# Pairs that cannot be edges, the diagonal, are masked. With an argument `variables` it is given
# the names of the data's variables. The property `edge_log_odds` is for the evidence engine.


# %%
class PathwayPrior(PyroModule):
    def __init__(self, num_variables, *, variables, pathways, within=0.5, between=0.05):
        super().__init__()
        member = torch.tensor([[name in p for name in variables] for p in pathways.values()])
        together = (member.unsqueeze(1) & member.unsqueeze(2)).any(0)
        self.register_buffer("probability", torch.where(together, within, between))
        self.register_buffer("off_diagonal", ~torch.eye(num_variables, dtype=torch.bool))

    @property
    def edge_log_odds(self):
        return self.probability.logit()

    def forward(self):
        return dist.Bernoulli(self.probability).mask(self.off_diagonal).to_event(2)


GENES = ["tnf", "il6", "stat3", "myc", "ccnd1", "cdk4"]
pathways = {"immune": GENES[:3], "growth": GENES[2:]}
prior = partial(PathwayPrior, pathways=pathways)
testing.check_graph_prior(prior, variables=GENES)

# %% [markdown]
# (Where edges are independent given the order, as here, `MetaCaDI(graph_prior=matrix)` is the
# short way.)
#
# ## A world with such noise and such a graph
#
# Each experiment sets one gene to a level of 4. Rows, in which one value in ten is far off:

# %%
EDGES = [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5), (2, 3)]
adjacency = np.zeros((6, 6), dtype=int)
adjacency[tuple(zip(*EDGES, strict=True))] = 1  # [parent, child]


def experiments(num_tasks, num_rows, *, seed):
    random = np.random.default_rng(seed)
    targets = np.eye(6, dtype=int)[random.integers(6, size=num_tasks)]
    far = random.random((num_tasks, num_rows, 6)) < 0.1
    noise = random.normal(size=far.shape) * np.where(far, 2.4, 0.3)
    x = np.zeros(far.shape)
    for child in range(6):  # in causal order
        level = 2 * np.tanh(x @ adjacency[:, child])
        if not adjacency[:, child].any():
            level = random.normal(size=far.shape[:2])
        hit = targets[:, None, child] == 1
        x[:, :, child] = np.where(hit, 4, level) + noise[:, :, child]
    return TaskDataset.from_arrays(list(x), variables=GENES), targets


tasks, _ = experiments(12, 100, seed=1)
new, targets = experiments(12, 10, seed=2)

fig, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
probability = prior(6, variables=GENES).probability.numpy() * (1 - np.eye(6))
table = pd.DataFrame(probability, index=GENES, columns=GENES)
table = table.rename_axis("parent").rename_axis("child", axis=1).stack().to_xarray()
plots.edge_heatmap(table.reindex(parent=GENES, child=GENES), truth=adjacency, ax=axes[0])
axes[0].set_title("prior", loc="left")
rows = np.concatenate(tasks.arrays)
axes[1].scatter(rows[:, 0], rows[:, 1], s=4, color="black", alpha=0.5)
_ = axes[1].set(xlabel="tnf", ylabel="il6", title="rows, with outliers")

# %% [markdown]
# ## Training, beside the Gaussian default
#
# Mechanisms are small and steps few, so that a fit takes seconds; in earnest leave the last two
# options out. The objective asks for few targets of an experiment.

# %%
NUM_STEPS = 140 if SMOKE else 500
quick = {
    "engine": "svi",
    "predictor": SharedDeepSets,
    "objective": partial(PaperObjective, target_sparsity="probability", target_weight=0.5),
    "mechanisms": partial(Mechanisms, width=8),
    "training": Training(
        num_steps=NUM_STEPS, patience=None, learning_rate=0.01, graph_learning_rate=0.05
    ),
}
models = {
    "gaussian": MetaCaDI(**quick),
    "mine": MetaCaDI(noise=OutlierNoise, graph_prior=prior, **quick),
}
scores = {}
for name, model in models.items():
    found = model.fit(tasks, progress=False).adapt(new)
    scores[name] = metrics.evaluate(found, adjacency=adjacency, intervention_targets=targets)
pd.DataFrame(scores).T[["edge_ap", "intv_ap", "e_shd", "empty_shd"]].round(2)

# %% [markdown]
# Average precision of edges and of new experiments' targets, and the expected number of wrong
# edges (of the graph without any: seven). The loss is for the most part minus the log density of
# query rows, so that the two may be compared; the Gaussian has no way to explain values that are
# far off.

# %%
fig, ax = plt.subplots(figsize=(5, 2.8), layout="constrained")
for (name, model), style in zip(models.items(), ("--", "-"), strict=True):
    smooth = pd.Series(model.history["loss"]).rolling(20).mean()
    ax.plot(smooth, "k", linestyle=style, label=name)
ax.set(xlabel="step", ylabel="loss, nats")
_ = ax.legend(frameon=False)

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    plots.edge_heatmap(model.posterior.edge_probs, truth=adjacency, ax=ax)
    ax.set_title(name, loc="left")

# %% [markdown]
# Of your own data you do not know the truth. What compares is the density of rows of experiments
# that a model was not fitted to. The default's scale is fixed; a Gaussian of learned scale is the
# fairer rival:

# %%
rivals = {**models, "learned scale": MetaCaDI(noise=LearnedGaussianNoise, **quick)}
table = comparison.compare(rivals, tasks, folds=2, num_steps=NUM_STEPS // 2, progress=False)
table[["elpd", "elpd_diff", "dse"]].round(0)

# %% [markdown]
# ## The evidence engine
#
# It integrates the mechanisms out, which takes Gaussian noise; the prior it takes as it is, for
# it has `edge_log_odds`.

# %%
try:
    MetaCaDI(noise=OutlierNoise)
except ConfigError as error:
    print(textwrap.fill(str(error), 88))

evidence = MetaCaDI(graph_prior=prior).fit(tasks, num_steps=200, progress=False)
exact = metrics.evaluate(evidence.adapt(new), adjacency=adjacency, intervention_targets=targets)
print(f"evidence: edges {exact['edge_ap']:.2f}, targets {exact['intv_ap']:.2f}")

# %% [markdown]
# ## What prior knowledge is worth
#
# Where data are plenty, little. Here are three experiments of fifteen rows, and three ways to say
# what is known: nothing, the pathways, or that the immune genes come first and that `tnf` drives
# `il6`. A demand holds in every graph that is drawn. Averages of five draws of the data, so that
# small differences say nothing:

# %%
tiers = partial(ExpertGraphPrior, tiers=[GENES[:3], GENES[3:]], required=[("tnf", "il6")])
worth = {}
for label, known in {"nothing": None, "pathways": prior, "tiers, one edge": tiers}.items():
    each = []
    for seed in range(1 if SMOKE else 5):
        few, _ = experiments(3, 15, seed=10 + seed)
        fitted = MetaCaDI(graph_prior=known).fit(few, num_steps=100, progress=False)
        precision = metrics.edge_scores(fitted.posterior.edge_probs, adjacency)["edge_ap"]
        draws = fitted.posterior.sample_graphs(200)
        each.append({"edge_ap": precision, "e_shd": metrics.expected_shd(draws, adjacency)})
    worth[label] = pd.DataFrame(each).mean()
frame = pd.DataFrame(worth).T
frame.loc["guessing, no edges"] = [7 / 30, 7]
frame.rename_axis("known").round(2)

# %% [markdown]
# ## A prior with a latent variable of its own
#
# How likely is an edge within a pathway? An `nn.Parameter` in place of the buffer would be
# learned by `fit`. For a posterior over it, sample it. `fit` has no guide for it, and says so;
# Pyro has: an automatic guide before the model's own, both trained by the ELBO.


# %%
class UncertainPathwayPrior(PathwayPrior):
    def forward(self):
        within = pyro.sample("within", dist.Beta(1.0, 1.0))
        probability = torch.where(self.probability > 0.1, within, self.probability)
        return dist.Bernoulli(probability).mask(self.off_diagonal).to_event(2)


uncertain = {**quick, "graph_prior": partial(UncertainPathwayPrior, pathways=pathways)}
torch.manual_seed(0)
batch = TaskBatch.from_arrays([(rows - rows.mean(0)) / rows.std(0) for rows in tasks.arrays])
with pyro.settings.context(module_local_params=True):
    model, graph_guide = MetaCaDI(**uncertain).components.build(6, variables=GENES)
    guide = AutoGuideList(model)
    guide.append(AutoNormal(poutine.block(model, expose=["within"])))
    guide.append(graph_guide)
    elbo = ELBOObjective()(model, guide)
    elbo(batch)  # the automatic guide makes its parameters
    optimiser = torch.optim.Adam(elbo.parameters(), lr=0.02)
    for _ in range(NUM_STEPS // 2):
        optimiser.zero_grad()
        elbo(batch).backward()
        optimiser.step()
    print(f"P(edge within a pathway), median: {guide.median(batch)['within']:.2f}")

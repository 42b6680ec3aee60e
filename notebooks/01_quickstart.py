# %% [markdown]
# # Quickstart: from experiments to a graph, and to who was hit
#
# A system was measured in twenty experiments. Each changed one variable, nobody knows which. This
# notebook finds the causal graph behind them all, with both engines, and then tells of *new*
# experiments of ten rows who was hit. On two cores it takes two minutes.
#
# The notebook is made of `notebooks/01_quickstart.py`, which runs as a script, too.

# %%
import os
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import torch

from pyro_metacadi import MetaCaDI, metrics, plots, simulators
from pyro_metacadi.data import Standardizer, TaskBatch, mean_shift
from pyro_metacadi.guides import SharedDeepSets
from pyro_metacadi.inference import PaperObjective, Training

SMOKE = "METACADI_SMOKE" in os.environ  # a small run, for the tests
torch.set_num_threads(1)

# %% [markdown]
# ## A world whose truth is known
#
# Six variables, smooth random mechanisms, some noise. In each experiment one variable is cut off
# from its causes and drawn from N(0, 1) instead, **the law that it had before, more or less**:
# its mean does not give it away, only that it no longer follows its causes.

# %%
world = simulators.gp_anm(num_variables=6, num_tasks=10 if SMOKE else 20, num_samples=60, seed=0)
new = world.sample_tasks(20, 10, seed=1)  # twenty experiments that no model is trained on
names = list(world.tasks.variables)
truth = {"adjacency": new.adjacency, "intervention_targets": new.intervention_targets}
world.tasks.to_dataframe().head(3).round(2)

# %% [markdown]
# One edge of the true graph, of a variable with no other cause: the effect against its cause, in
# experiments that hit neither, that hit the cause, and that hit the effect. Only the last break
# the relation.

# %%
child = int(np.flatnonzero(world.adjacency.sum(0) == 1)[0])
parent = int(world.adjacency[:, child].argmax())
fig, axes = plt.subplots(1, 3, figsize=(8, 2.8), sharex=True, sharey=True, layout="constrained")
hit = world.intervention_targets
kinds = {
    "neither is hit": (hit[:, [parent, child]] == 0).all(1),
    f"{names[parent]} (cause) is hit": hit[:, parent] == 1,
    f"{names[child]} (effect) is hit": hit[:, child] == 1,
}
for ax, (title, which) in zip(axes, kinds.items(), strict=True):
    rows = np.concatenate(
        [rows for rows, yes in zip(world.tasks.arrays, which, strict=True) if yes]
    )
    ax.scatter(rows[:, parent], rows[:, child], s=6, color="black", alpha=0.5)
    ax.set_title(title, size=10)
    ax.set_xlabel(names[parent])
_ = axes[0].set_ylabel(names[child])

# %% [markdown]
# ## The default engine
#
# `MetaCaDI()` integrates mechanisms and targets out and samples graphs by Markov chains. Nothing
# has to be set.

# %%
default = MetaCaDI().fit(world.tasks, seed=0, num_steps=60 if SMOKE else None, progress=False)
default.posterior.edge_probs.to_pandas().round(2)

# %% [markdown]
# Rows are causes, columns effects. The chains say for themselves whether they agree:

# %%
default.converged

# %% [markdown]
# ## The paper's model, trained by stochastic variational inference
#
# `MetaCaDI.paper()` is a Pyro model and guide, trained by gradient steps on the paper's Eq. 7. A
# tenth of the rows is held out, and training ends when their loss no longer falls. The target
# predictor here is the one that is shared across variables, of which a little data is enough.

# %%
paper = MetaCaDI.paper(
    predictor=SharedDeepSets,
    training=Training(num_steps=20, patience=None) if SMOKE else Training(num_steps=3000),
)
paper.fit(world.tasks, seed=0, progress=False)
print(f"{len(paper.history['loss'])} steps, converged: {paper.converged}")

# %% [markdown]
# The terms of the loss, unweighted, averaged over 25 steps; the first panel also has the loss of
# the rows held out. The sparsity term is the size of the targets' logits: it grows because the
# guide gets surer of them.

# %%
LABELS = {
    "reconstruction": "reconstruction of query rows, nats",
    "target_sparsity": "target sparsity",
    "residual_dependence": "dependence of residuals (HSIC)",
    "graph_kl": "KL of the edges, nats",
}
fig, axes = plt.subplots(2, 2, figsize=(8, 4.6), sharex=True, layout="constrained")
for ax, (name, label) in zip(axes.flat, LABELS.items(), strict=True):
    smooth = pd.Series(paper.history[name]).rolling(25, min_periods=1).mean()
    ax.plot(smooth, color="black", linewidth=1)
    ax.set_title(label, size=9)
for ax in axes[1]:
    ax.set_xlabel("step")
if "held_out" in paper.history:
    axes[0, 0].plot(paper.history["held_out"], color="tab:orange", label="held out")
    axes[0, 0].legend(frameon=False)

# %% [markdown]
# Both graphs, and the truth outlined. The chains have every edge and no other. SVI, with one
# distribution over orders and edges fitted to a noisy gradient, has most, and some the wrong way
# round. That is typical: take `MetaCaDI()` for the answer, and the SVI engine where you want to
# change the model.

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for ax, (title, model) in zip(axes, {"default": default, "SVI": paper}.items(), strict=True):
    plots.edge_heatmap(model.posterior.edge_probs, truth=world.adjacency, ax=ax)
    ax.set_title(title, loc="left")

# %% [markdown]
# ## New experiments of ten rows
#
# `adapt` is closed-form: no gradient, no retraining. The main suspects of the first five:

# %%
found = {"default": default.adapt(new.tasks), "SVI": paper.adapt(new.tasks)}
suspects = found["default"].rank_targets().query("rank <= 2").head(10)
hit = pd.DataFrame(new.intervention_targets, index=new.tasks.tasks, columns=names).stack()
suspects.assign(hit=hit.loc[list(zip(suspects.task, suspects.variable, strict=True))].values)

# %% [markdown]
# Beside them, what needs no model: how far each mean lies from that of the training rows, in
# standard errors. Average precision is 1 if every target is ranked above all others; guessing
# gets the share of targets, here one in six. `e_shd` is the expected number of wrong edges; the
# guess here is the graph without edges, which misses all.

# %%
table = {name: metrics.evaluate(one, **truth) for name, one in found.items()}
shift = mean_shift(new.tasks, reference=world.tasks)
table["mean shift"] = metrics.target_scores(shift, new.intervention_targets)
table["guessing"] = {"intv_ap": table["SVI"]["base_rate"], "e_shd": table["SVI"]["empty_shd"]}
pd.DataFrame(table).T[["intv_ap", "intv_top1", "edge_ap", "e_shd", "e_sid"]].round(2).astype(
    object
).fillna("")

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 4.6), layout="constrained")
for ax, (title, one) in zip(axes, found.items(), strict=True):
    plots.target_heatmap(one.target_probs, truth=new.intervention_targets, ax=ax)
    ax.set_title(title, loc="left")

# %% [markdown]
# ## The same by hand, with Pyro's own SVI
#
# The model, the guide and the objective are Pyro objects: an ordinary `pyro.infer.SVI` trains
# them. That is the way in if you want another optimiser, a handler around the model, or a guide
# of your own (see `03_priors_and_noise_models`). Each step draws support rows, which the guide
# adapts to, and query rows, which the model explains.

# %%
pyro.clear_param_store()
pyro.set_rng_seed(0)
model, guide = paper.components.build(len(names), variables=names)
rows = Standardizer.fit(world.tasks).transform(world.tasks)
batch = TaskBatch.from_arrays(rows)
objective = PaperObjective()


def rate(parameter):
    return {"lr": 0.03 if "dag" in parameter else 0.005}  # faster for orders and edges


svi = pyro.infer.SVI(model, guide, pyro.optim.Adam(rate), loss=objective)
losses = [svi.step(batch.split(10, query_size=32)) for _ in range(20 if SMOKE else 600)]
print(f"loss {np.mean(losses[:20]):.2f} -> {np.mean(losses[-20:]):.2f}")
pd.Series({name: float(value) for name, value in objective.terms.items()}).to_frame("last step")

# %% [markdown]
# What the program looks like to Pyro: its sites and their shapes, one batch of rows.

# %%
trace = pyro.poutine.trace(model).get_trace(batch)
print(trace.format_shapes())

# %% [markdown]
# ## Save and load
#
# A folder of JSON and safetensors, no pickle. What is loaded says the same, to the bit.

# %%
with tempfile.TemporaryDirectory() as folder:
    default.save(f"{folder}/model")
    print(sorted(os.listdir(f"{folder}/model")))
    again = MetaCaDI.load(f"{folder}/model").adapt(new.tasks)
print(np.array_equal(again.target_probs, found["default"].target_probs))

# %% [markdown]
# Next: how far to believe it (`02_arviz_diagnostics`), priors and noise models of your own
# (`03_priors_and_noise_models`), and three applications: genes, services, proteins.

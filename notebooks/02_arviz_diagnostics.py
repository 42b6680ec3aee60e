# %% [markdown]
# # How far to believe it: diagnostics with ArviZ
#
# A posterior is an answer only if its computation can be trusted. This notebook fits one world
# with both engines from several starts and asks, with [ArviZ](https://python.arviz.org): do the
# chains agree? On what do they not? Which experiments does the model not explain?
#
# Everything used here works with ArviZ 0.x (`InferenceData`) and 1.x (`DataTree`).

# %%
import os
import tempfile
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import xarray as xr

with warnings.catch_warnings():  # ArviZ 0.x announces 1.x at import
    warnings.simplefilter("ignore", FutureWarning)
    import arviz as az

from pyro_metacadi import MetaCaDI, metrics, plots, simulators
from pyro_metacadi.guides import SharedDeepSets
from pyro_metacadi.inference import Training

SMOKE = "METACADI_SMOKE" in os.environ  # a small run, for the tests
torch.set_num_threads(1)

# %% [markdown]
# ## Two posteriors of one world
#
# Few rows, so that there is something to be unsure of. The default engine runs four Markov chains
# over graphs; the SVI engine is trained anew from three seeds, for one run cannot tell whether
# another would have ended elsewhere.

# %%
NUM_DRAWS = 100 if SMOKE else 400
world = simulators.gp_anm(num_variables=5, num_tasks=12, num_samples=20, seed=2)
names = list(world.tasks.variables)
default = MetaCaDI().fit(world.tasks, num_steps=NUM_DRAWS, progress=False)
svi = MetaCaDI(
    engine="svi",
    predictor=SharedDeepSets,
    training=Training(num_steps=60 if SMOKE else 600, patience=None),
)
svi.fit(world.tasks, num_chains=3, progress=False)
models = {"default": default, "SVI": svi}
idata = {
    name: model.posterior.to_inference_data(num_draws=NUM_DRAWS) for name, model in models.items()
}

# %% [markdown]
# What is in there. Dimensions carry the names of variables and tasks:


# %%
def listing(data):
    groups = {"posterior": data.posterior, "sample_stats": data.sample_stats}
    groups |= {"log_likelihood": data.log_likelihood, "observed_data": data.observed_data}
    rows = [
        (group, name, ", ".join(f"{dim} {size}" for dim, size in array.sizes.items()))
        for group, dataset in groups.items()
        for name, array in dataset.data_vars.items()
    ]
    return pd.DataFrame(rows, columns=["group", "variable", "dimensions"]).set_index("group")


listing(idata["SVI"])

# %% [markdown]
# ## Do the chains agree, edge by edge?
#
# `edge_prob` is each chain's own probability of every edge. A dot is a chain; edges on which all
# chains say less than .05 are left out; true edges are orange.


# %%
def per_chain(data):
    probs = data.posterior.edge_prob.isel(draw=0).stack(edge=("parent", "child"))
    probs = probs.transpose("edge", "chain").to_pandas()
    probs.index = [f"{a} → {b}" for a, b in probs.index]
    return probs


true_edges = {f"{names[i]} → {names[j]}" for i, j in np.argwhere(world.adjacency)}
fig, axes = plt.subplots(1, 2, figsize=(8, 4.2), layout="constrained")
for ax, (title, data) in zip(axes, idata.items(), strict=True):
    probs = per_chain(data)
    probs = probs[(probs.max(axis=1) > 0.05) | [e in true_edges for e in probs.index]]
    probs = probs.loc[probs.mean(axis=1).sort_values().index]
    for chain in probs:
        ax.plot(probs[chain], range(len(probs)), "o", color="black", alpha=0.4)
    ax.set_yticks(range(len(probs)), probs.index, size=7)
    for label in ax.get_yticklabels():
        label.set_color("tab:orange" if label.get_text() in true_edges else "black")
    ax.set(title=title, xlim=(-0.05, 1.05), xlabel="probability of the edge")

# %% [markdown]
# The largest disagreement, as the range of the chains' probabilities:

# %%
spread = {name: per_chain(data).agg(np.ptp, axis=1) for name, data in idata.items()}
pd.DataFrame({name: s.nlargest(3).round(2).to_dict().items() for name, s in spread.items()})

# %% [markdown]
# ## R-hat and effective sample size
#
# An edge that is in every draw has no R-hat: nothing varies. What varies are numbers of the whole
# graph and of the targets: how many edges, how long the longest path, how many targets in all
# tasks. R-hat near 1 says that chains agree; `ess_bulk` how many independent draws they are
# worth.


# %%
def longest_path(adjacency):
    """Edges of the longest path of each graph: the power at which the matrix vanishes."""
    steps = adjacency.astype(int)
    length, reach = np.zeros(steps.shape[:2], dtype=int), steps
    while reach.any():
        length += reach.any(axis=(-1, -2))
        reach = np.minimum(reach @ steps, 1)
    return length


def summaries(data):
    draws = data.posterior
    return xr.Dataset(
        {
            "edges": draws.adjacency.sum(["parent", "child"]),
            "longest_path": (("chain", "draw"), longest_path(draws.adjacency.values)),
            "targets": draws.intervention_target.sum(["task", "variable"]),
        }
    ).astype(float)


columns = ["mean", "sd", "ess_bulk", "r_hat"]
pd.concat({name: az.summary(summaries(data))[columns] for name, data in idata.items()})

# %% [markdown]
# Draws of the default engine are steps of a Markov chain, so that fewer of them count. Draws of
# SVI are independent *given its guide*: within a chain they are worth their number, and an R-hat
# above 1 can only mean that the restarts ended at different guides. Their average is then the
# better answer, and what `edge_probs` reports.

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained", sharey=True)
for ax, (title, data) in zip(axes, idata.items(), strict=True):
    edges = summaries(data)["edges"]
    for chain in edges.chain.values:
        ax.plot(edges.sel(chain=chain), linewidth=0.7, label=f"chain {chain}")
    ax.axhline(world.adjacency.sum(), color="black", linestyle="--")
    ax.set(title=title, xlabel="draw")
_ = axes[0].set_ylabel("edges of the graph")

# %% [markdown]
# The dashed line is the truth. The same as a forest plot: the number of parents of each variable,
# chain by chain.

# %%
parents = idata["default"].posterior.adjacency.sum("parent").astype(float).rename("parents")
az.plot_forest(parents.to_dataset(), combined=False)
pd.Series(world.adjacency.sum(0), index=names, name="true number of parents").to_frame().T

# %% [markdown]
# ## Which rows does the model find surprising?
#
# `log_likelihood` has the log density of every row under every draw. It is *in-sample*, so it
# flatters, but what is improbable even so deserves a look. Averaged within tasks:


# %%
def surprise(data):
    rows = data.log_likelihood.x.mean(["chain", "draw"])
    return rows.groupby(data.constant_data.obs_task).mean().to_pandas()


table = pd.DataFrame({name: surprise(data) for name, data in idata.items()})
table = table.loc[list(world.tasks.tasks)]
table.insert(0, "hit", [names[k] for k in world.intervention_targets.argmax(1)])
table.round(2)

# %% [markdown]
# PSIS-LOO asks what each row's density would be without that row. Its Pareto k tells where the
# draws cannot answer that (k above .7): rows that move the posterior by themselves.

# %%
with warnings.catch_warnings():  # what it warns of is what is tabulated
    warnings.simplefilter("ignore")
    loo = {name: az.loo(data, pointwise=True) for name, data in idata.items()}
pd.DataFrame(
    {
        name: {
            "elpd": float(getattr(one, "elpd_loo", getattr(one, "elpd", np.nan))),
            "se": float(one.se),
            "rows with k > 0.7": int((one.pareto_k > 0.7).sum()),
            "rows": one.pareto_k.size,
        }
        for name, one in loo.items()
    }
).T.round(1)

# %% [markdown]
# The two engines' densities are not of the same thing (one integrates mechanisms out, the other
# fits them), so that these numbers do not choose between engines. `comparison.compare` does so
# for models of one engine, by experiments left out; see `03_priors_and_noise_models`.
#
# ## Were the probabilities right?
#
# Of a simulated world one can ask. Edges of both engines over several worlds would be better;
# here, the targets of new experiments, of which there are many: the stated probability against
# how often it came true.

# %%
new = world.sample_tasks(20 if SMOKE else 100, 10, seed=3)
fig, axes = plt.subplots(1, 2, figsize=(8, 5), layout="constrained")
scores = {}
for ax, (title, model) in zip(axes, models.items(), strict=True):
    found = model.adapt(new.tasks)
    plots.reliability(found.target_probs, new.intervention_targets, num_bins=5, ax=ax)
    ax.set_title(f"{title}\n{ax.get_title()}", size=9)
    truth = {"adjacency": new.adjacency, "intervention_targets": new.intervention_targets}
    scores[title] = metrics.evaluate(found, **truth)
pd.DataFrame(scores).T[["edge_ap", "e_shd", "empty_shd", "intv_ap", "intv_ece"]].round(2)

# %% [markdown]
# ## Keep it
#
# NetCDF files can be read by either ArviZ, and by anything else that reads NetCDF.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "posterior.nc")
    idata["default"].to_netcdf(path)
    again = az.from_netcdf(path)
    same = bool((again.posterior.adjacency == idata["default"].posterior.adjacency).all())
    size = os.path.getsize(path)
print(f"{size / 1e6:.1f} MB, equal: {same}")

# %% [markdown]
# @@DIAGNOSTICS

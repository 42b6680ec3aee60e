"""The comparison of noise models scores unseen rows in the user's units, and counts wins."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import noise
from pyro_metacadi import simulators


def line(model, seed, log_density, *, law="student_t", edge_ap=0.5):
    scores = {"log_density": log_density, "edge_ap": edge_ap, "intv_ap": 0.5, "fit_seconds": 1.0}
    return {"noise": law, "model": model, "seed": seed, "true": -1.0, **scores}


def test_wins_are_counted_seed_by_seed_against_each_gaussian():
    lines = pd.DataFrame(
        [
            *(line("StudentTNoise", seed, value) for seed, value in enumerate([-2.0, -3.0])),
            *(line("LearnedGaussianNoise", seed, -2.5) for seed in (1, 0)),
            *(line("GaussianNoise", seed, -4.0, edge_ap=0.7) for seed in (0, 1)),
        ]
    )
    table = noise.wins(lines).set_index("against")
    assert table["wins"].to_dict() == {"LearnedGaussianNoise": "1 of 2", "GaussianNoise": "2 of 2"}
    assert table.loc["GaussianNoise", "log_density"] == "+1.500 ± 0.500"
    assert table.loc["GaussianNoise", "edge_ap"] == "-0.200 ± 0.000"
    assert noise.means(lines).loc[("student_t", "StudentTNoise"), "log_density"] == -2.5


def test_every_noise_has_its_model_beside_both_gaussians():
    jobs = noise.jobs_for(noise.MATCHING, [0, 1])
    assert len(jobs) == len(set(jobs)) == 2 * (2 + 3 * 3)
    assert all((law, model, 1) in jobs for law, model in noise.MATCHING.items())


def test_fits_in_the_file_are_not_fitted_again(tmp_path, capsys):
    out = tmp_path / "noise.csv"
    lines = [line(model.__name__, 3, -2.0) for model in (noise.StudentTNoise, *noise.GAUSSIAN)]
    pd.DataFrame(lines).to_csv(out, index=False)
    noise.main(["--seeds", "3", "3", "--noises", "student_t", "--out", str(out)])
    assert len(noise.read(out)) == 3
    assert "0 of 1" in capsys.readouterr().out


def test_the_rows_that_are_scored_are_those_that_were_not_seen():
    world = simulators.gp_anm(num_variables=3, num_tasks=2, num_samples=15, seed=0)
    seen, unseen = noise.split(world.tasks)
    for task, first, rest in zip(world.tasks.arrays, seen.arrays, unseen.arrays, strict=True):
        np.testing.assert_array_equal(task, np.concatenate([first, rest]))
    assert seen.num_rows.tolist() == [noise.NUM_SEEN] * 2
    rows = [
        world.log_prob(r, t) for r, t in zip(unseen.arrays, world.intervention_targets, strict=True)
    ]
    assert noise.true_density(world, unseen) == pytest.approx(np.concatenate(rows).mean())


def test_a_short_run_has_all_scores(monkeypatch):
    sizes = {"num_variables": 3, "num_tasks": 3, "num_samples": 14}
    monkeypatch.setattr(noise, "SIZES", sizes)
    with pytest.warns(match="Pass a larger num_steps"):
        found = noise.run("post-nonlinear", noise.PostNonlinearNoise, 0, num_steps=2)
    assert found["model"] == "PostNonlinearNoise"
    assert all(np.isfinite(found[name]) for name in ("true", *noise.SCORES))
    assert found["log_density"] < found["true"]

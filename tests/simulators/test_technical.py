"""Technical noise: every stage has its law, the stages their order, and a world its outliers."""

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.simulators import sergio
from pyro_metacadi.simulators.technical import (
    PLATFORMS,
    TechnicalNoise,
    keep_probability,
    resolve_technical,
    scale_to_library,
)

WORLD = {"num_variables": 8, "num_tasks": 3, "num_samples": 12, "seed": 0, "burn_in": 0.5}
PLAIN = {
    "outlier_probability": 0.5,
    "outlier_mean": 1.0,
    "outlier_scale": 0.5,
    "library_mean": 6.0,
    "library_scale": 0.3,
    "dropout_slope": 8.0,
    "dropout_percentile": 60.0,
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def expression(num_cells=5, num_genes=4, *, seed=0):
    return torch.tensor(np.random.default_rng(seed).gamma(2, 2, (num_cells, num_genes)))


class TestStages:
    def test_outliers_are_log_normal_and_as_frequent_as_asked(self):
        """Kolmogorov-Smirnov and binomial tests, p > 1e-3."""
        factor = TechnicalNoise(**PLAIN | {"outlier_probability": 0.2}).draw_outliers(
            5000, generator=generator()
        )
        outlier = factor != 1
        assert stats.binomtest(int(outlier.sum()), 5000, 0.2).pvalue > 1e-3
        logs = factor[outlier].log().numpy()
        assert stats.kstest(logs, stats.norm(1.0, 0.5).cdf).pvalue > 1e-3

    def test_library_scaling_gives_each_cell_its_total(self):
        values, library = expression(), torch.tensor([10.0, 2, 300, 1, 5]).double()
        values[2] = 0
        scaled = scale_to_library(values, library)
        shares = values[[0, 1, 3, 4]] / values[[0, 1, 3, 4]].sum(1, keepdim=True)
        assert torch.allclose(scaled[[0, 1, 3, 4]], shares * library[[0, 1, 3, 4], None])
        assert (scaled[2] == 0).all()

    def test_weak_values_are_lost_by_the_logistic_law(self):
        values = expression()
        logged = np.log1p(values.numpy())
        expected = 1 / (1 + np.exp(-8 * (logged - np.percentile(logged, 74))))
        assert keep_probability(values, slope=8, percentile=74).numpy() == pytest.approx(expected)

    def test_totals_are_log_normal(self):
        """Kolmogorov-Smirnov test, p > 1e-3; totals so large that counting adds nothing."""
        noise = TechnicalNoise(
            **PLAIN | {"library_mean": 14.0, "dropout_slope": 1e3, "dropout_percentile": 0}
        )
        values = torch.ones(2000, 4).double()
        values[0, 0] = 1e-9  # the smallest value: all others are kept
        counts = noise.counts(values, torch.ones(4).double(), generator=generator())
        logs = counts.sum(1).log().numpy()
        assert stats.kstest(logs, stats.norm(14, 0.3).cdf).pvalue > 1e-3

    def test_stages_follow_one_another_outliers_library_dropout_counts(self):
        """Mean counts of repeated draws against the formula; z tests, p > 1e-3 in all."""
        noise = TechnicalNoise(**PLAIN | {"library_scale": 0.0})
        values, outliers = expression(), torch.tensor([1.0, 5.0, 1.0, 0.5]).double()
        draw = generator()
        draws = torch.stack([noise.counts(values, outliers, generator=draw) for _ in range(2000)])
        enlarged = values.numpy() * outliers.numpy()
        scaled = enlarged * np.exp(6.0) / enlarged.sum(1, keepdims=True)
        logged = np.log1p(scaled)
        keep = 1 / (1 + np.exp(-8 * (logged - np.percentile(logged, 60))))
        spread = np.sqrt(keep * scaled + keep * (1 - keep) * scaled**2)
        z = (draws.numpy().mean(0) - keep * scaled) / (spread / np.sqrt(2000))
        assert 2 * stats.norm.sf(np.abs(z[keep > 1e-3]).max()) > 1e-3 / z.size

    def test_a_cell_without_expression_has_no_counts(self):
        noise = PLATFORMS["10x_chromium"]
        zeros = torch.zeros(3, 2).double()
        assert (noise.counts(zeros, torch.ones(2).double(), generator=generator()) == 0).all()


class TestWorld:
    @pytest.mark.parametrize("platform", list(PLATFORMS))
    def test_every_platform_gives_counts_of_about_its_depth(self, platform):
        values = sergio(**WORLD, technical=platform).tasks.values
        assert (values == np.round(values)).all()
        assert (values >= 0).all()
        depth = np.median(values.sum(1))
        assert 0.2 < depth / np.exp(PLATFORMS[platform].library_mean) < 3

    def test_outlier_genes_are_the_same_in_all_tasks(self):
        world = sergio(**WORLD, technical=PLAIN)
        again = sergio(**WORLD | {"num_tasks": 5}, technical=PLAIN)
        new = world.sample_tasks(2, 4, seed=1)
        assert 0 < int((world.system.outliers != 1).sum()) < 8
        for other in (again, new):
            assert torch.equal(other.system.outliers, world.system.outliers)
        # Outliers take most of the counts, whatever the task.
        largest = int(world.system.outliers.argmax())
        share = [rows[:, largest].sum() / rows.sum() for rows in world.tasks.arrays]
        clean = [rows[:, largest].sum() / rows.sum() for rows in sergio(**WORLD).tasks.arrays]
        untouched = world.intervention_targets[:, largest] == 0
        assert (np.array(share) > np.array(clean))[untouched].all()

    def test_without_a_platform_expression_is_not_counted(self):
        values = sergio(**WORLD).tasks.values
        assert (values != np.round(values)).any()

    def test_technical_noise_leaves_the_system_as_it_is(self):
        clean, noisy = sergio(**WORLD), sergio(**WORLD, technical="10x_chromium")
        assert torch.equal(clean.system.network.strength, noisy.system.network.strength)
        assert torch.equal(clean.system.half_response, noisy.system.half_response)
        assert (clean.intervention_targets == noisy.intervention_targets).all()


class TestSettings:
    def test_a_platform_a_mapping_or_settings_are_understood(self):
        assert resolve_technical(None) is None
        assert resolve_technical("drop_seq") is PLATFORMS["drop_seq"]
        assert resolve_technical(PLAIN) == TechnicalNoise(**PLAIN)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ("10x", "expected one of '10x_chromium', 'illumina', 'drop_seq', 'smart_seq'"),
            (3, "expected one of '10x_chromium'"),
            ({}, "expected a mapping with outlier_probability, .*got none of them"),
            (PLAIN | {"depth": 3}, "got .*depth"),
            (PLAIN | {"outlier_probability": 1.5}, "'outlier_probability': expected 0 to 1"),
            (PLAIN | {"library_scale": -1}, "'library_scale': expected 0 to inf, got -1"),
            (PLAIN | {"dropout_percentile": 101}, "'dropout_percentile': expected 0 to 100"),
            (PLAIN | {"library_mean": np.nan}, "'library_mean': expected a finite number"),
        ],
    )
    def test_impossible_settings_are_refused(self, settings, message):
        with pytest.raises(ConfigError, match=f"technical.*: {message}|{message}"):
            resolve_technical(settings)

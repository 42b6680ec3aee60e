"""Datasets that several tests share."""

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st

from pyro_metacadi import TaskDataset

FINITE = st.floats(-1e12, 1e12)


@st.composite
def datasets(draw):
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    arrays = [draw(hnp.arrays(np.float64, (n, width), elements=FINITE)) for n in rows]
    return TaskDataset.from_arrays(arrays)


def example(sizes=(3, 5, 2), width=3):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(n, width)) for n in sizes]
    return TaskDataset.from_arrays(arrays, tasks=["wild", "drug", "heat"][: len(sizes)])

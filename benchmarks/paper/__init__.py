"""The paper's experiment (Section 5): every method on every system, side by side."""

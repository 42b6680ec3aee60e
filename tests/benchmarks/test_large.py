"""Fits of any size are measured one by one, and what failed is said."""

import pytest

from benchmarks import large


def test_a_line_for_every_size(monkeypatch, capsys):
    asked = []

    def run(cell, *, limit):
        asked.append((cell.measure, cell.num_variables, cell.num_tasks, cell.threads))
        found = {"machine": "here", "torch": "2", "note": "failed: no memory"}
        if cell.num_variables < 100:
            found.update(seconds=12.3, megabytes=456.7, note="edge AP 1.000")
        return found

    monkeypatch.setattr(large, "run", run)
    large.main(["--sizes", "30:10", "100:20", "--threads", "1"])
    assert asked == [("fit", 30, 10, 1), ("fit", 100, 20, 1)]
    first, second = capsys.readouterr().out.splitlines()
    assert first == "d = 30, T = 10: 12 s, 457 MB; edge AP 1.000; here, 1 threads, torch 2"
    assert "no time; failed: no memory" in second


def test_a_fit_is_measured_for_real(capsys):
    large.main(["--sizes", "3:4", "--threads", "1"])
    line = capsys.readouterr().out
    assert "edge AP" in line
    assert "no time" not in line


@pytest.mark.parametrize("size", ["100", "a:b"])
def test_a_bad_size_is_an_error(size):
    with pytest.raises(ValueError, match=r"not enough values|invalid literal"):
        large.main(["--sizes", size])

"""The README keeps its word: its example runs as shown, its commands exist, its links resolve."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_example_runs_as_shown_and_finds_more_than_chance(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    edge_probs, targets = names["mc"].posterior.edge_probs, names["found"].target_probs
    assert edge_probs.shape == (6, 6)
    assert targets.shape == (5, 6)
    assert names["scores"]["edge_ap"] > names["world"].adjacency.sum() / 30
    assert "rank" in capsys.readouterr().out


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make (\w+)", README, flags=re.M))))
def test_make_targets_named_in_the_readme_exist(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_links_resolve(path):
    assert (ROOT / path).exists()

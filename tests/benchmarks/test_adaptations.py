"""Ridge regression and gradient steps are timed alike, in one table."""

import re

from benchmarks import adaptations
from benchmarks.runtime.measures import Size, Steps
from pyro_metacadi.guides import MAMLAdaptation


def test_a_line_for_each_adaptation(capsys):
    adaptations.main(["--variables", "3", "--tasks", "2", "--seconds", "0.05"])
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("3 variables, 2 tasks of 110 rows, cpu")
    assert [line.split()[0] for line in lines] == ["paper", "intv_maml", "full_maml"]
    for line in lines:
        numbers = [float(number) for number in re.findall(r"\d+\.\d+", line)]
        assert len(numbers) == 4
        assert min(numbers) > 0
    assert re.findall(r"\( *([\d.]+)\)", lines[0]) == ["1.0", "1.0"]


def test_what_is_timed_is_what_the_line_says():
    steps = Steps(Size(3, 2), adaptation=adaptations.ADAPTATIONS["full_maml"])
    assert isinstance(steps.chain.guide.adaptation, MAMLAdaptation)
    assert "observational" in steps.chain.model.adapts

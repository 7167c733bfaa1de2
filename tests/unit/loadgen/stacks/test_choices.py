"""--program and --argument, for every stack that there is."""

import pytest

from loadgen.stacks.choices import ProgramChoices


def test_a_stack_that_somebody_else_runs_has_no_choices() -> None:
    ProgramChoices().check_programs("external", link=True)

    with pytest.raises(ValueError, match="only for a stack that is made here"):
        ProgramChoices(argument=("proxy-server=--x",)).check_programs("external", link=True)


def test_containers_take_arguments() -> None:
    choices = ProgramChoices(argument=("link=--seed=1", "link=--loss=0"))

    choices.check_programs("compose", link=True)

    assert choices.arguments() == {"link": ("--seed=1", "--loss=0")}

"""--engine, --program and --argument, for every stack that there is."""

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


@pytest.mark.parametrize(
    ("engine", "client", "server"),
    [
        ("quinn", ("--engine", "quinn"), ("--engine", "quinn")),
        ("client=quinn,server=aioquic", ("--engine", "quinn"), ("--engine", "aioquic")),
        ("server=aioquic", None, ("--engine", "aioquic")),
    ],
)
def test_an_engine_for_both_sides_or_for_each(
    engine: str, client: tuple[str, ...] | None, server: tuple[str, ...] | None
) -> None:
    arguments = ProgramChoices(engine=engine).arguments()
    assert (arguments.get("proxy-client"), arguments.get("proxy-server")) == (client, server)


@pytest.mark.parametrize("engine", ["link=quinn", "client=", "client=quinn,", "client=quinn,client=aioquic"])
def test_what_names_no_side_is_refused(engine: str) -> None:
    with pytest.raises(ValueError, match="must be NAME, or client=NAME,server=NAME"):
        ProgramChoices(engine=engine).engines()


def test_arguments_come_behind_the_engine() -> None:
    choices = ProgramChoices(engine="quinn", argument=("proxy-client=--engine=aioquic",))

    assert choices.arguments()["proxy-client"] == ("--engine", "quinn", "--engine=aioquic")


def test_what_somebody_else_runs_can_be_named() -> None:
    ProgramChoices(engine="quic-go").check_programs("external", link=True)

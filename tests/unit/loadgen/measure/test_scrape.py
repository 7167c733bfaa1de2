"""loadgen.measure.scrape: whatever a metrics port says is samples, or refused as a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.ledger import reading
from loadgen.measure import observe
from loadgen.measure.scrape import Scrape

# Of what our programs say, and of what programs that are not ours may say under the same names.
names = st.sampled_from([*reading.NAMES, reading.STARTED, observe.ENGINE, "process_open_fds", "x"])
labels = st.dictionaries(
    st.sampled_from(["role", "direction", "event", "engine", "phase", "outcome", "le"]),
    st.sampled_from(["client", "server", "target_to_client", "received", "sent", "eof_missing", "", "\\\\", "ü"]),
    max_size=4,
)
values = st.sampled_from(["1", "7.0", "NaN", "+Inf", "-Inf", "1e400", "-3", "x", ""])


def line(name: str, labels: dict[str, str], value: str) -> str:
    pairs = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return f"{name}{{{pairs}}} {value}\n"


samples = st.builds(line, names, labels, values)
texts = st.lists(samples | st.text(max_size=30), max_size=8).map("".join)


@given(texts)
def test_any_text_is_samples_or_a_value_error(text: str) -> None:
    try:
        scrape = Scrape(text)
    except ValueError:
        return
    for name in reading.NAMES:
        reading.books({name: scrape.series(name)}).imbalances()
    observe._ends(scrape)
    list(observe._engines(scrape))
    observe._of_metrics(scrape)


@given(st.lists(samples, max_size=8))
def test_only_those_that_were_asked_for_are_there(lines: list[str]) -> None:
    try:
        whole = Scrape("".join(lines))
    except ValueError:
        return
    some = Scrape("".join(lines), only=("tunnel_",))
    assert some.has("tunnel_") == whole.has("tunnel_")
    assert not some.has("process_")
    for name in reading.NAMES:
        assert some.series(name) == (whole.series(name) if name.startswith("tunnel_") else {})


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_what_is_no_number_is_left_out(value: str) -> None:
    assert not Scrape(f"tunnel_ends_overdue {value}\n").has("tunnel_")

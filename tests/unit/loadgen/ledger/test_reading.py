"""loadgen.ledger.reading: whatever answers as a Prometheus comes to books, or is refused in words."""

import io
import json
from contextlib import suppress
from http.client import IncompleteRead
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.anything import changed, json_values

from loadgen.ledger import reading
from loadgen.ledger.reading import ReadError, of_prometheus

ENDS = {"role": "server", "direction": "target_to_client", "event": "received", "job": "proxy-server"}
ANSWER = {
    "status": "success",
    "data": {
        "resultType": "vector",
        "result": [{"metric": ENDS, "value": [1.5, "3"]}, {"metric": {}, "value": [1, "1"]}],
    },
}
answers = st.one_of(changed(ANSWER), json_values).map(json.dumps) | st.text(max_size=40) | st.just("[" * 100_000)


def ask(text: str) -> None:
    def open_url(url: str, timeout: float) -> io.BytesIO:
        return io.BytesIO(text.encode())

    with patch.object(reading, "open_url", open_url):
        of_prometheus("http://here", over_s=60).imbalances()


def test_a_sound_answer_is_read() -> None:
    ask(json.dumps(ANSWER))


@given(answers)
def test_any_answer_comes_to_books_or_is_refused(text: str) -> None:
    with suppress(ReadError):
        ask(text)


@pytest.mark.parametrize("value", [[1], ["x", "y"], {}, None, [1, "NaN"], [1, "-Inf"]])
def test_a_value_that_is_none(value: Any) -> None:
    """What is no number is nobody's count; anything else is no Prometheus."""
    sample = {"metric": ENDS, "value": value}
    if isinstance(value, list) and value[0] == 1 and len(value) == 2:
        ask(json.dumps({"data": {"result": [sample]}}))
    else:
        with pytest.raises(ReadError):
            ask(json.dumps({"data": {"result": [sample]}}))


def test_an_answer_that_breaks_off() -> None:
    def open_url(url: str, timeout: float) -> io.BytesIO:
        raise IncompleteRead(b"{")

    with patch.object(reading, "open_url", open_url), pytest.raises(ReadError):
        of_prometheus("http://here")

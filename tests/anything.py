"""Strategies for what files and other programs may hold: any JSON, any TOML, good documents with something changed."""

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=10),
    st.sampled_from([0, 1, -1, 10**30, "", "2026-11-23T03:00:00Z", "loss", "proxy-server"]),
)
json_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
cuts = st.lists(st.integers(0, 300))
"""Places to cut bytes at; beyond the end there is nothing to cut."""


@st.composite
def changed(draw: st.DrawFn, document: Mapping[str, Any], times: int = 3) -> dict[str, Any]:
    """A document of which a few values, at any depth, are gone or something else."""
    made: dict[str, Any] = deepcopy(dict(document))
    for _ in range(draw(st.integers(0, times))):
        place: Any = made
        while place:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            if draw(st.booleans()):
                place[key] = draw(json_values)
            else:
                del place[key]
            break
    return made


def toml(document: Mapping[str, Any]) -> str:
    """The document as TOML, its tables inline. What TOML has no word for, null, is left out."""
    return "".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in document.items() if value is not None)


def _toml(value: Any) -> str:
    match value:
        case dict():
            pairs = (f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items() if inner is not None)
            return "{" + ", ".join(pairs) + "}"
        case list() | tuple():
            return "[" + ", ".join(_toml(inner) for inner in value if inner is not None) + "]"
        case float():
            return repr(value) if "e" not in repr(value) else f"{value:e}"
        case _:
            return json.dumps(value)

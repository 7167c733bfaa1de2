"""A wheel of another revision than the code around it is refused before anything depends on it."""

import ast
import sys
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest
from tests.unit.tunnel.engine.harness import adapter_of

from tunnel.engine import choice, port
from tunnel.engine.choice import EngineError, resolve
from tunnel.engine.settings import EngineLimits, Qlog

STUB = Path(__file__).parents[5] / "packages" / "quinn-engine" / "quinn_engine.pyi"

SAID = {1: "1d369b0da66ac434", 2: "92540cdae6f31e5f"}
"""By API number, the sum of what the wheel and Python say to each other."""


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node


def said() -> str:
    """What the wheel has, what is made with it, and the names of what it takes and gives."""
    stub = ast.unparse(_WithoutDocstrings().visit(ast.parse(STUB.read_text())))
    classes = [one for one in vars(port).values() if isinstance(one, type) and is_dataclass(one)]
    attributes = [(one.__name__, [field.name for field in fields(one)]) for one in (*classes, EngineLimits, Qlog)]
    return sha256(f"{stub}{attributes}".encode()).hexdigest()[:16]


def test_the_number_is_of_what_is_said() -> None:
    """Changed it? Then both numbers rise, here and in src/lib.rs, and the new sum stands beside the new one."""
    api = adapter_of("quinn").API
    assert {api: said()} == {api: SAID.get(api)}


@pytest.mark.parametrize("engine", ["auto", "quinn"])
@pytest.mark.parametrize("api", [None, 0, 999])
def test_a_wheel_of_another_revision_is_refused(monkeypatch: pytest.MonkeyPatch, engine: str, api: int | None) -> None:
    wheel = ModuleType("quinn_engine")
    vars(wheel).update({"Endpoint": object} | ({} if api is None else {"API": api}))
    monkeypatch.setitem(sys.modules, "quinn_engine", wheel)
    monkeypatch.delitem(sys.modules, "tunnel.engine.quinn", raising=False)
    monkeypatch.setattr(choice, "find_spec", lambda name: wheel)
    with pytest.raises(EngineError, match=rf"another revision \(API {api or 0}, not \d+\); `make native` builds it"):
        resolve(engine)

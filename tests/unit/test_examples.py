"""Every TOML file that comes with the repository, and every TOML block in its documents, can be used."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import pytest

from loadgen.link import plan
from loadgen.load import mix

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "examples", ROOT / "loadgen/src/loadgen/mixes")

_FENCED = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^(?: {4}.*)?\n)+", re.MULTILINE)
_TABLE = re.compile(r"^\[\[?[\w.]+\]\]?\s*(?:#.*)?$", re.MULTILINE)


def use(kind: str, path: Path) -> None:
    """Reads a file as its program does. Raises where it cannot be used, and where there is no such kind."""
    match kind:
        case "mixes":
            mix.read(str(path))
        case "faults":
            import_module("loadgen.faults.plan").read(path)
        case "links":
            plan.read(path)
        case _:
            raise LookupError(f"{path}: nobody knows what a file of {kind} is; it belongs in mixes, faults or links")


def kind_of(block: str) -> str:
    """What a block of a document is for."""
    if re.search(r"^\[scenarios\.", block, re.MULTILINE):
        return "mixes"
    return "faults" if "[[fault]]" in block else "links"


def blocks(document: str) -> Iterator[str]:
    """TOML in a document: what is fenced as such, and what is indented and has a table."""
    yield from _FENCED.findall(document)
    for block in map(dedent, _INDENTED.findall(document)):
        if _TABLE.search(block):
            yield block


FILES = sorted(path for folder in FOLDERS for path in folder.rglob("*.toml"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_there_are_some() -> None:
    assert {"default", "small", "endings", "bulk", "web", "staircase", "restarts", "rough-minute"} <= {
        path.stem for path in FILES
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file(path: Path) -> None:
    use(path.parent.name, path)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_blocks_of_a_document(path: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(path.read_text(encoding="utf-8")), 1):
        copy = tmp_path / f"{path.name}-{number}.toml"
        copy.write_text(block, encoding="utf-8")
        use(kind_of(block), copy)


MIX = "rate_per_s = 1\n\n[scenarios.get]\nweight = 1\nsizes_bytes = [1]\n"


@pytest.mark.parametrize("quoted", [f"```toml\n{MIX}```\n", "".join(f"    {line}\n" for line in MIX.splitlines())])
def test_blocks_are_found(quoted: str) -> None:
    document = f"# Title\n\nText, and a command:\n\n    loadgen soak [--mix NAME]\n\nand a mix:\n\n{quoted}\nThe end.\n"
    assert [block.strip() for block in blocks(document)] == [MIX.strip()]


@pytest.mark.parametrize(
    ("kind", "text"),
    [("mixes", "rate_per_s = 0"), ("links", "delay_ms = -1"), ("recipes", ""), ("links", "[[nope]]\n")],
)
def test_what_cannot_be_used_is_found(kind: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises((LookupError, ValueError), match=r"bad\.toml"):
        use(kind, path)

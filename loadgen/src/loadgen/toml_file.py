"""TOML files that describe something: mixes, plans of faults, plans of a link. Each is a pydantic model."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

ModelT = TypeVar("ModelT", bound=BaseModel)


class UnusableFileError(ValueError):
    """A file that cannot be used; the text names the file, the field, the value and the bound."""


def read(path: Path, model: type[ModelT]) -> ModelT:
    """What the file describes. Raises UnusableFileError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UnusableFileError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnusableFileError(f"{path}: {error}") from error
    return parse(text, str(path), model)


def parse(text: str, name: str, model: type[ModelT]) -> ModelT:
    """What the text describes; `name` says in errors where it is from. Raises UnusableFileError."""
    try:
        return model.model_validate(tomllib.loads(text))
    except ValidationError as error:
        raise UnusableFileError("; ".join(f"{name}: {_sentence(item)}" for item in error.errors())) from error
    except (ValueError, RecursionError) as error:  # Not TOML, or numbers and nesting that no computer reads.
        raise UnusableFileError(f"{name}: {error}") from error


def _sentence(item: Mapping[str, Any]) -> str:
    """One of pydantic's error items as "field: message, not value"."""
    field = ".".join(map(str, item["loc"])) or "the whole"
    value = item.get("input")
    shown = f", not {value!r}" if isinstance(value, str | int | float | bool) else ""
    return f"{field}: {item['msg'].replace('Input should be', 'must be')}{shown}"

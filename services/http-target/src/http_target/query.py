"""The parameters of a request, checked: each has a bound, and what is wrong is said with name, value and bound."""

from urllib.parse import parse_qsl


class RefusedError(Exception):
    """A request that is answered with an error: the HTTP status, the answer's text, and further headers."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class Query:
    """The part behind the `?`. Take every parameter that the route knows, then call `done`."""

    def __init__(self, text: str) -> None:
        self._values: dict[str, str] = {}
        for name, value in parse_qsl(text, keep_blank_values=True, errors="replace"):
            if name in self._values:
                raise RefusedError(400, f"{name}: is given twice")
            self._values[name] = value
        self._known: list[str] = []

    def integer(self, name: str, least: int, most: int, default: int | None = None) -> int:
        """The number; `default` where it is not given, or a refusal where there is none. Raises RefusedError (400)."""
        value = self._take(name)
        if value is None:
            if default is None:
                raise RefusedError(400, f"{name}: is missing; it must be {least} to {most}")
            return default
        if not (value.isascii() and value.isdigit() and len(value) <= 20 and least <= int(value) <= most):
            raise RefusedError(400, f"{name}: {value[:40]!r} is not valid; it must be {least} to {most}")
        return int(value)

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """One of `choices`, by default the first. Raises RefusedError (400)."""
        value = self._take(name)
        if value is None:
            return choices[0]
        if value not in choices:
            raise RefusedError(400, f"{name}: {value[:40]!r} is not valid; it must be {', '.join(choices)}")
        return value

    def done(self) -> None:
        """Refuses (400) what no one has taken."""
        for name in self._values:
            known = ", ".join(self._known) or "none"
            raise RefusedError(400, f"{name[:40]!r} is not a parameter here; known are: {known}")

    def _take(self, name: str) -> str | None:
        self._known.append(name)
        return self._values.pop(name, None)

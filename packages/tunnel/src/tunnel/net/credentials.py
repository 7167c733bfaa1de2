"""Who may use a proxy: files of names and secrets, and the question whether a secret is right.

Rules:
- A look-up compares with every entry, in constant time, so its duration tells neither which entry was close nor
  whether a name exists.
- Only digests of the secrets are kept; no error, no repr and no log line shows a secret.

File format, UTF-8, one entry a line: `name:secret`. The secret begins behind the first colon and may hold more of
them. Empty lines and lines that begin with # are skipped, white space around a line is ignored.

In a file of tokens the secret may be the token's hash: `sha256:` and 64 hexadecimal digits. Then the file gives no
token away: one that `make_token` made cannot be guessed. (A password that people remember can, from a hash as quick as
this one. So files of users have none.)
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Self

# RFC 1929 gives a user name and a password one octet of length each; tokens keep to the same bound.
NAME_BYTES_MAX: Final = 255
SECRET_BYTES_MAX: Final = 255

TOKEN_BYTES: Final = 32
"""Of chance in a token that is made here."""

_HASH: Final = re.compile(rb"sha256:([0-9a-fA-F]{64})")


class _Entries:
    """Names and the digests of their secrets. The file's errors are ValueErrors that name file and line."""

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        self._entries = [(name, self._kept(secret)) for name, secret in secrets.items()]
        self.in_the_clear = sum(not _is_hashed(secret) for secret in secrets.values())
        """How many of them stand in the file as they are."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises OSError if the file cannot be read, ValueError for what is in it, or where nothing is."""
        entries = dict(_parse(path, cls._kept))
        if not entries:
            raise ValueError(f"{path}: there is no name:secret line in it")
        return cls(entries)

    @staticmethod
    def _kept(secret: bytes) -> bytes:
        """What is kept of a secret. Raises ValueError for one that cannot be meant."""
        return _digest(secret)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(name for name, _ in self._entries)})"


class Users(_Entries):
    """The users of a SOCKS proxy, who give a name and a password."""

    def check(self, user: bytes, password: bytes) -> bool:
        """Whether there is such a user with this password."""
        given = _digest(user) + _digest(password)
        found = False
        for name, digest in self._entries:
            found |= hmac.compare_digest(_digest(name.encode()) + digest, given)
        return found


class Tokens(_Entries):
    """The clients of a proxy server, who give a token alone."""

    def owner_of(self, given: bytes) -> str | None:
        """The name behind a token's SHA-256, None for a token that nobody has."""
        found = None
        for name, digest in self._entries:
            # Every entry is looked at; the assignment alone depends on the outcome.
            if hmac.compare_digest(digest, given):
                found = name
        return found

    def with_file(self, name: str, path: Path) -> Self:
        """These tokens, and the one in a file of its own. Raises OSError and ValueError as `read_token` does."""
        more = type(self)({name: read_token(path)})
        more._entries += self._entries
        more.in_the_clear = self.in_the_clear
        return more

    @staticmethod
    def _kept(secret: bytes) -> bytes:
        if not _is_hashed(secret):
            return _digest(secret)
        hashed = _HASH.fullmatch(secret)
        if hashed is None:
            raise ValueError("behind sha256: 64 hexadecimal digits are expected")
        return bytes.fromhex(hashed[1].decode())


def make_token(path: Path) -> None:
    """A new token in a new file that only its owner can read. Raises OSError, FileExistsError among others."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")


def hashed_entry(name: str, token: bytes) -> str:
    """The line for a file of tokens. Raises ValueError for a name that cannot stand there."""
    entry = f"{name}:sha256:{_digest(token).hex()}"
    if name != name.strip() or ":" in name or name.startswith("#") or not name.isprintable():
        raise ValueError(f"{name!r} cannot be a name: no colon, no # in front, no white space around it")
    if not 0 < len(name.encode()) <= NAME_BYTES_MAX:
        raise ValueError(f"a name has 1 to {NAME_BYTES_MAX} bytes")
    return entry


def read_token(path: Path) -> bytes:
    """The token in a file that holds nothing else (comments and empty lines apart).

    Raises OSError if the file cannot be read, ValueError for what is in it.
    """
    lines = list(_lines(path))
    if len(lines) != 1:
        raise ValueError(f"{path}: one line with the token is expected, there are {len(lines)}")
    number, token = lines[0]
    return _checked(token, "the token", SECRET_BYTES_MAX, path, number)


def _parse(path: Path, kept: Callable[[bytes], bytes]) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    for number, line in _lines(path):
        name, colon, secret = line.partition(":")
        if not colon:
            raise ValueError(f"{path}, line {number}: name:secret is expected, there is no colon")
        _checked(name, "the name", NAME_BYTES_MAX, path, number)
        if name in seen:
            raise ValueError(f"{path}, line {number}: the name was used before")
        seen.add(name)
        checked = _checked(secret, "the secret", SECRET_BYTES_MAX, path, number)
        try:
            kept(checked)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        yield name, checked


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, raw in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            line = raw.decode("utf-8").strip()
        except UnicodeDecodeError:
            # From None: the codec's own error shows the bytes.
            raise ValueError(f"{path}, line {number}: not UTF-8") from None
        if line and not line.startswith("#"):
            yield number, line


def _checked(text: str, what: str, bytes_max: int, path: Path, number: int) -> bytes:
    encoded = text.encode()
    if not encoded:
        raise ValueError(f"{path}, line {number}: {what} is empty")
    if len(encoded) > bytes_max:
        raise ValueError(f"{path}, line {number}: {what} is longer than {bytes_max} bytes")
    return encoded


def _is_hashed(secret: bytes) -> bool:
    return secret.startswith(b"sha256:")


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()

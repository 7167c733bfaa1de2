"""A CA, a certificate, its key and a token of our own, made once: to try things out with verified TLS.

Rules:
- The directory holds all four files of one making, or the set counts as not made. The files are written under other
  names and renamed when they are whole; the token comes last and completes the set.
- Key and token are readable by their owner only, from the beginning. The CA's own key is kept nowhere: nobody can make
  another certificate that clients of this CA would believe.
- Several starts at once are safe: one makes the files, the others wait for the lock and find them.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trustme

NAMES: Final = ("localhost", "127.0.0.1", "::1", "proxy-server", "link")
VALIDITY: Final = timedelta(days=3650)
TOKEN_BYTES: Final = 32

# A container's clock may be a little behind the one that made the certificate.
_BACKDATED: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DevCertificate:
    """Where the files are (PEM; the token is one line of text)."""

    ca: Path
    certificate: Path
    key: Path
    token: Path

    @classmethod
    def within(cls, directory: Path) -> "DevCertificate":
        return cls(directory / "ca.pem", directory / "certificate.pem", directory / "key.pem", directory / "token")

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, the one that completes the set last."""
        return (self.ca, self.certificate, self.key, self.token)


def ensure(directory: Path) -> DevCertificate:
    """Makes the files in `directory` (and the directory) unless they are there.

    Raises OSError. Waits for another program that is making them, which takes some milliseconds.
    """
    directory.mkdir(parents=True, exist_ok=True)
    made = DevCertificate.within(directory)
    if not _complete(made):
        with _lock(directory / ".lock"):
            if not _complete(made):
                _make(made)
    return made


def _complete(made: DevCertificate) -> bool:
    return all(path.is_file() for path in made.files)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    # The kernel drops the lock with the descriptor, so one that was killed leaves nothing to clean up.
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(made: DevCertificate) -> None:
    now = datetime.now(UTC)
    ca = trustme.CA(organization_name="finback development", path_length=0)
    leaf = ca.issue_cert(
        *NAMES,
        organization_name="finback development",
        not_before=now - _BACKDATED,
        not_after=now + VALIDITY,
    )
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    token = secrets.token_urlsafe(TOKEN_BYTES).encode() + b"\n"
    # What is left of an interrupted making would mix with this one.
    for path in made.files:
        path.unlink(missing_ok=True)
    _write(made.ca, ca.cert_pem.bytes(), 0o644)
    _write(made.certificate, chain, 0o644)
    _write(made.key, leaf.private_key_pem.bytes(), 0o600)
    _write(made.token, token, 0o600)


def _write(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        file.write(data)
    temporary.rename(path)

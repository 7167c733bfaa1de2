"""tunnel.net.credentials: what files may hold, what errors say, and what nothing ever shows."""

import hmac
from pathlib import Path

import pytest

from tunnel.net.credentials import Tokens, Users, read_token


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


GOOD = b"""# who may come in

alice:s:e:c:r:e:t
  bob : spaces inside stay
j\xc3\xbcrgen:stra\xc3\x9fe\r
"""


def test_a_file_of_users(file: Path) -> None:
    file.write_bytes(GOOD)
    users = Users.read(file)
    assert len(users) == 3
    assert users.check(b"alice", b"s:e:c:r:e:t")
    assert users.check(b"bob ", b" spaces inside stay")
    assert users.check("jürgen".encode(), "straße".encode())
    for user, password in ((b"alice", b""), (b"alice", b"s"), (b"", b"s:e:c:r:e:t"), (b"bob", b"s:e:c:r:e:t")):
        assert not users.check(user, password)


def test_a_file_of_tokens(file: Path) -> None:
    file.write_bytes(GOOD)
    tokens = Tokens.read(file)
    assert tokens.name_of(b"s:e:c:r:e:t") == "alice"
    assert tokens.name_of(b"alice:s:e:c:r:e:t") is None
    assert tokens.name_of(b"") is None
    assert Tokens({}).name_of(b"") is None


def test_one_token_more(file: Path) -> None:
    file.write_bytes(b"# made once\nabc\n")
    assert read_token(file) == b"abc"
    tokens = Tokens({"alice": b"xyz"}).with_file("dev", file)
    assert (tokens.name_of(b"abc"), tokens.name_of(b"xyz")) == ("dev", "alice")
    again = Tokens({"dev": b"mine"}).with_file("dev", file)
    assert again.name_of(b"mine") == again.name_of(b"abc") == "dev"


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"alice:hunter2\nhunter2", 2, "no colon"),
        (b"\n\n:hunter2", 3, "the name is empty"),
        (b"alice:", 1, "the secret is empty"),
        (b"alice:hunter2\n#\nalice:other", 3, "used before"),
        (b"alice:hunter2\nbob:\xff\xfe", 2, "not UTF-8"),
        (b"alice:" + b"hunter2" * 40, 1, "longer than 255"),
        (b"a" * 256 + b":hunter2", 1, "longer than 255"),
    ],
)
def test_errors_name_file_and_line_but_no_secret(file: Path, content: bytes, line: int, words: str) -> None:
    file.write_bytes(content)
    for kind in (Users, Tokens):
        with pytest.raises(ValueError, match=words) as caught:
            kind.read(file)
        told = str(caught.value)
        assert told.startswith(f"{file}, line {line}: ")
        assert "hunter2" not in told
        assert caught.value.__cause__ is None


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"one\ntwo\n"])
def test_a_token_file_holds_one_token(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match="one line with the token"):
        read_token(file)


def test_a_missing_file_is_an_os_error(file: Path) -> None:
    for read in (Users.read, Tokens.read, read_token):
        with pytest.raises(FileNotFoundError):
            read(file)


def test_no_secret_is_shown_or_kept() -> None:
    users = Users({"alice": b"hunter2"})
    assert repr(users) == "Users(alice)"
    assert b"hunter2" not in repr(vars(users)).encode()


def test_every_entry_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bool] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(len(one) == len(other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    names = {name: name.encode() for name in ("first", "second", "third")}
    for look_up in (
        lambda: Users(names).check(b"first", b"first"),
        lambda: Users(names).check(b"nobody", b"x" * 1000),
        lambda: Tokens(names).name_of(b"first"),
        lambda: Tokens(names).name_of(b""),
    ):
        compared.clear()
        look_up()
        assert compared == [True] * 3

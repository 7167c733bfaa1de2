"""tunnel.net.credentials: what files may hold, what errors say, and what nothing ever shows."""

import hmac
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.net.credentials import NAME_BYTES_MAX, Tokens, Users, hashed_entry, make_token, read_token


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


GOOD = b"""# who may come in

alice:s:e:c:r:e:t
  bob : spaces inside stay
j\xc3\xbcrgen:stra\xc3\x9fe\r
"""


def owner(tokens: Tokens, token: bytes) -> str | None:
    return tokens.owner_of(sha256(token).digest())


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
    assert owner(tokens, b"s:e:c:r:e:t") == "alice"
    assert owner(tokens, b"alice:s:e:c:r:e:t") is None
    assert owner(tokens, b"") is None
    assert owner(Tokens({}), b"") is None


def test_hashed_tokens_beside_plain_ones(file: Path) -> None:
    digest = sha256(b"hunter2").hexdigest()
    file.write_text(f"alice:sha256:{digest}\nbob:sha256:{sha256(b'bobs').hexdigest().upper()}\ncarol:plain\n")
    tokens = Tokens.read(file)
    assert [owner(tokens, token) for token in (b"hunter2", b"bobs", b"plain")] == ["alice", "bob", "carol"]
    for stolen in (digest.encode(), f"sha256:{digest}".encode(), bytes.fromhex(digest)):
        assert owner(tokens, stolen) is None, "what the file holds opens nothing"


@pytest.mark.parametrize("rest", ["", "hunter2", "0" * 63, "0" * 65, "g" * 64])
def test_a_hash_that_is_none_is_no_token_either(file: Path, rest: str) -> None:
    file.write_text(f"alice:plain\nbob:sha256:{rest}\n")
    with pytest.raises(ValueError, match="64 hexadecimal digits") as caught:
        Tokens.read(file)
    assert str(caught.value).startswith(f"{file}, line 2: ")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_users_password_is_what_it_is(file: Path) -> None:
    file.write_text(f"alice:sha256:{'0' * 64}\n")
    assert Users.read(file).check(b"alice", b"sha256:" + b"0" * 64)


def test_a_token_that_is_made_here_and_its_hash(file: Path) -> None:
    make_token(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = read_token(file)
    assert len(token) >= 43, "256 bits"
    with pytest.raises(FileExistsError):
        make_token(file)
    assert read_token(file) == token
    entry = hashed_entry("laptop", token)
    assert token.decode() not in entry
    file.write_text(entry)
    assert owner(Tokens.read(file), token) == "laptop"
    file.unlink()
    make_token(file)
    assert read_token(file) != token


@pytest.mark.parametrize("name", ["", "a:b", "#a", " a", "a ", "a\nb", "a" * (NAME_BYTES_MAX + 1)])
def test_names_that_a_file_could_not_hold(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        hashed_entry(name, b"token")


def test_one_token_more(file: Path) -> None:
    file.write_bytes(b"# made once\nabc\n")
    assert read_token(file) == b"abc"
    tokens = Tokens({"alice": b"xyz"}).with_file("dev", file)
    assert (owner(tokens, b"abc"), owner(tokens, b"xyz")) == ("dev", "alice")
    again = Tokens({"dev": b"mine"}).with_file("dev", file)
    assert owner(again, b"mine") == owner(again, b"abc") == "dev"


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
        lambda: owner(Tokens(names), b"first"),
        lambda: owner(Tokens(names), b""),
    ):
        compared.clear()
        look_up()
        assert compared == [True] * 3


# Whatever a file holds.

secrets = st.text(min_size=1, max_size=20).filter(lambda text: text.strip() == text and text.isprintable())
names = secrets.filter(lambda name: ":" not in name and not name.startswith("#"))
tokens_in_words = secrets.filter(lambda secret: not secret.startswith("sha256:"))
entries = st.dictionaries(names, tokens_in_words, min_size=1, max_size=4)


@given(entries)
def test_whoever_is_written_down_comes_in_and_nobody_else(known: dict[str, str]) -> None:
    content = "".join(f"{name}:{secret}\n" for name, secret in known.items()).encode()
    with TemporaryDirectory() as directory:
        file = Path(directory) / "secrets"
        file.write_bytes(content)
        users, tokens = Users.read(file), Tokens.read(file)
    for name, secret in known.items():
        assert users.check(name.encode(), secret.encode())
        assert not users.check(name.encode(), secret.encode() + b"x")
        assert known[owner(tokens, secret.encode()) or ""] == secret
        assert owner(tokens, secret.encode() + b"x") is None


@given(names, st.binary(min_size=1, max_size=40))
def test_a_hashed_entry_lets_its_token_in(name: str, token: bytes) -> None:
    with TemporaryDirectory() as directory:
        file = Path(directory) / "secrets"
        file.write_text(hashed_entry(name, token) + "\n", encoding="utf-8")
        assert owner(Tokens.read(file), token) == name


def refused(read: Callable[[Path], object], file: Path) -> ValueError | None:
    try:
        read(file)
    except ValueError as error:
        return error
    return None


LONG = b"x" * 300
junk = st.binary(max_size=60) | st.sampled_from([b"a:b\n", b"a:sha256:", b":", b"#", b"\r", b"a:" + LONG])


@given(st.lists(junk, max_size=5).map(b"".join))
def test_any_file_is_read_or_refused_without_a_word_of_its_secrets(content: bytes) -> None:
    with TemporaryDirectory() as directory:
        file = Path(directory) / "secrets"
        file.write_bytes(content)
        for read in (Users.read, Tokens.read, read_token):
            refusal = refused(read, file)
            if refusal is not None:
                assert str(refusal).startswith(str(file)), "it says where"
                assert "xxx" not in str(refusal)
                assert refusal.__cause__ is None, "what caused it may show the bytes"


@given(st.text(max_size=20), st.binary(max_size=8))
def test_any_name_has_an_entry_that_is_read_or_is_refused(name: str, token: bytes) -> None:
    try:
        entry = hashed_entry(name, token)
    except ValueError:
        return
    with TemporaryDirectory() as directory:
        file = Path(directory) / "secrets"
        file.write_bytes(entry.encode())
        assert owner(Tokens.read(file), token) == name

"""What stops a program before it has started, for a reason that its operator can put right."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CannotStartError(Exception):
    """The message is for people, for example `cannot listen on 127.0.0.1:1080: Address already in use`.

    `servicekit.run.run` logs it as one line without a traceback and exits 1.
    """


@contextmanager
def blaming(setting: str, path: Path) -> Iterator[None]:
    """Inside, the file `path` is read that `setting` names: what is wrong with it becomes CannotStartError.

    Of an OSError the reason is shown, `--token-file token: Permission denied`; a ValueError is expected to name the
    file itself, `--users-file users, line 3: the name is empty`.
    """
    try:
        yield
    except OSError as error:
        raise CannotStartError(f"{setting} {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise CannotStartError(f"{setting} {error}") from error

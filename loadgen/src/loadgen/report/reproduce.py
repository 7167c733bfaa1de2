"""The command line that does a run again: the one that was asked for, with its seed, and without its report's place."""

import shlex

from loadgen.report.files import Document

_NOT_AGAIN = ("--report", "--metrics-listen")


def command(document: Document) -> list[str]:
    """For a shell, in groups that belong on one line. Of an older document, as much as it tells."""
    run = document.get("run") or {}
    words = _words(run.get("command") or "loadgen soak")
    groups: list[list[str]] = []
    for word in words:
        if word.startswith("--") or not groups:
            groups.append([word])
        else:
            groups[-1].append(word)
    kept = [group for group in groups if group[0].partition("=")[0] not in _NOT_AGAIN]
    if not any(group[0].partition("=")[0] == "--seed" for group in kept):
        kept.append(["--seed", str(run.get("seed", "SEED"))])
    return [shlex.join(group) for group in kept]


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # Not one that a shell would take.
        return [command]

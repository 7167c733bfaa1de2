"""The programs that a run takes: built or installed once, kept in `bench/.peers`, and reused.

    python -m bench.install [NAME ...]

Rules
- Nothing here is part of the product, and nothing of the peers is part of the repository.
- A program that cannot be had is no error: its reason is kept, and stands in the results where its figures would.
- Debian's packages are installed where this is Debian and root; else whoever runs it installs them.
- TUIC: all of its versions are yanked, so a fresh resolution finds none. A lock file that already names one may go on
  using it: one is made up here, for the versions below. Everything else is as new as it may be.
- Hysteria is no package of any registry: `HYSTERIA` is its program, or `HYSTERIA_SOURCE` a checkout to build it from.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PEERS = Path(__file__).parent / ".peers"
BUILD_TIMEOUT_S = 1800
TUIC = {"tuic-server": "1.0.0", "tuic-client": "1.0.0", "tuic": "5.0.0", "tuic-quinn": "0.1.0"}


class MissingError(Exception):
    """A program cannot be had; the message says why."""


@dataclass(frozen=True)
class Peer:
    """Programs that come together; `paths` by program, or the reason why there are none."""

    name: str
    paths: Mapping[str, Path] = field(default_factory=dict)
    version: str = ""
    missing: str = ""


def main() -> None:
    for name in sys.argv[1:] or PEER_MAKERS:
        peer = install(name)
        print(f"{name}: {peer.missing or peer.version}")


def install(name: str) -> Peer:
    """Makes sure that it is there; says why not where it cannot be."""
    PEERS.mkdir(exist_ok=True)
    try:
        return PEER_MAKERS[name](name)
    except MissingError as reason:
        return Peer(name, missing=without_addresses(str(reason)))


def without_addresses(reason: str) -> str:
    """What a program said, without the addresses and paths of this machine: it goes into a document."""
    return re.sub(r"\S*https?://\S+|(?<!\S)/\S+/", "…", reason)


def load(name: str) -> Peer:
    """Our own target and load: compiled each time, which Go makes quick."""
    program = PEERS / name
    version = run([go(), "version"]).split()[2].removeprefix("go")
    run([go(), "build", "-buildvcs=false", "-o", str(program), "."], Path(__file__).parent / "load")
    return Peer(name, {name: program}, f"Go {version}")


def debian(package: str, *programs: str) -> Callable[[str], Peer]:
    """A maker of a peer that is a package of Debian."""

    def make(name: str) -> Peer:
        if not all(map(shutil.which, programs)):
            if shutil.which("apt-get") is None or os.geteuid() != 0:
                raise MissingError(f"not installed; on Debian: apt-get install {package}")
            # The package of a server starts it; nobody asked for that.
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
            run(["apt-get", "update", "-q"], environment=environment)
            run(["apt-get", "install", "-y", "-q", "--no-install-recommends", package], environment=environment)
        paths = {program: Path(shutil.which(program) or program) for program in programs}
        version = "of another origin than Debian"
        if shutil.which("dpkg-query"):
            version = run(["dpkg-query", "-W", "-f", "${Version}", package])
        return Peer(name, paths, version)

    return make


def tuic(name: str) -> Peer:
    """Both programs, from their crates, optimised as far as it goes."""
    paths = {program: PEERS / program for program in ("tuic-server", "tuic-client")}
    if not all(path.exists() for path in paths.values()):
        if shutil.which("cargo") is None:
            raise MissingError("there is no cargo on this machine")
        workspace = tuic_workspace(PEERS / "tuic")
        run(["nice", "-n", "15", "cargo", "build", "-q", "--release"], workspace)
        for program, path in paths.items():
            shutil.copy(workspace / "target" / "release" / program, path)
    lock = (PEERS / "tuic" / "workspace" / "Cargo.lock").read_text()
    quinn = re.search(r'name = "quinn-proto"\nversion = "([^"]+)"', lock)
    return Peer(name, paths, f"{TUIC['tuic-server']} (quinn-proto {quinn[1] if quinn else '?'})")


def tuic_workspace(directory: Path) -> Path:
    """A folder with the sources of both, in which `cargo build` works."""
    registry = tuic_registry(directory / "registry")
    fetched = cargo_package(directory / "fetched", {name: f"={TUIC[name]}" for name in ("tuic-server", "tuic-client")})
    write_lock(fetched, registry, TUIC)
    run(["cargo", "vendor", "-q", "--versioned-dirs", "vendor"], fetched)
    workspace = directory / "workspace"
    for program in ("tuic-server", "tuic-client"):
        source = fetched / "vendor" / f"{program}-{TUIC[program]}"
        shutil.copytree(source, workspace / program, dirs_exist_ok=True)
    shutil.rmtree(fetched / "vendor")
    (workspace / "Cargo.toml").write_text(
        '[workspace]\nresolver = "2"\nmembers = ["tuic-server", "tuic-client"]\n'
        '[profile.release]\nopt-level = 3\nlto = "fat"\ncodegen-units = 1\n'
    )
    write_lock(workspace, registry, {name: TUIC[name] for name in ("tuic", "tuic-quinn")})
    return workspace


def tuic_registry(directory: Path) -> str:
    """How this machine's lock files name the registry of crates."""
    cargo_package(directory, {"cfg-if": "1"})
    run(["cargo", "generate-lockfile", "-q"], directory)
    found = re.search(r'^source = ".*"$', (directory / "Cargo.lock").read_text(), re.MULTILINE)
    if not found:
        raise MissingError("the lock file of a crate names no registry")
    return found[0]


def cargo_package(directory: Path, dependencies: Mapping[str, str]) -> Path:
    (directory / "src").mkdir(parents=True, exist_ok=True)
    (directory / "src" / "lib.rs").touch()
    lines = "".join(f'{name} = "{version}"\n' for name, version in dependencies.items())
    (directory / "Cargo.toml").write_text(
        f'[package]\nname = "fetched"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n[dependencies]\n{lines}'
    )
    return directory


def write_lock(directory: Path, registry: str, versions: Mapping[str, str]) -> None:
    """A lock file that knows these versions; cargo adds whatever else there is."""
    entries = (f'[[package]]\nname = "{name}"\nversion = "{at}"\n{registry}\n' for name, at in versions.items())
    (directory / "Cargo.lock").write_text("version = 3\n" + "".join(entries))


def hysteria(name: str) -> Peer:
    """One program for both ends."""
    program, version_file = PEERS / name, PEERS / f"{name}.version"
    if given := os.environ.get("HYSTERIA"):
        program = Path(given)
    elif not program.exists():
        source = os.environ.get("HYSTERIA_SOURCE")
        if not source:
            raise MissingError("set HYSTERIA to its program, or HYSTERIA_SOURCE to a checkout of its source")
        described = ["git", "-C", source, "describe", "--tags", "--match", "app/*"]
        version_file.write_text(run(described).strip().removeprefix("app/"))
        run(["nice", "-n", "15", go(), "build", "-trimpath", "-o", str(program), "."], Path(source) / "app")
    version = version_file.read_text() if version_file.exists() else "of unknown version"
    return Peer(name, {name: program}, version)


def finback(name: str) -> Peer:
    """The programs of this repository, next to this Python."""
    paths = {program: Path(sys.executable).parent / program for program in ("proxy-client", "proxy-server")}
    if not all(path.exists() for path in paths.values()):
        raise MissingError("not installed; `make setup` does it")
    return Peer(name, paths, run([str(paths["proxy-server"]), "--version"]).strip())


def go() -> str:
    found = shutil.which("go") or "/usr/local/go/bin/go"
    if not Path(found).exists():
        raise MissingError("there is no Go on this machine (on Debian: apt-get install golang-go, 1.22 or newer)")
    return found


def run(command: list[str], directory: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """What it printed. Raises MissingError with the last line of what it complained about."""
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as reason:
        raise MissingError(f"{command[0]}: {reason}") from reason
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise MissingError(f"`{' '.join(command[:4])}` failed: {said[-1] if said else done.returncode}")
    return done.stdout


PEER_MAKERS: Mapping[str, Callable[[str], Peer]] = {
    "load": load,
    "finback": finback,
    "v2ray": debian("v2ray", "v2ray"),
    "tuic": tuic,
    "hysteria": hysteria,
    "shadowsocks": debian("shadowsocks-libev", "ss-server", "ss-local"),
    "microsocks": debian("microsocks", "microsocks"),
}


if __name__ == "__main__":
    main()

"""`make bench`: this tunnel and its peers side by side, on the same work, in one run.

    python -m bench [--work NAME ...] [--only CONTENDER ...] [--rounds 3] [--quick] [--results FILE]

Rules
- A round gives one work to each contender once; the next round begins with another one. All rounds of a work follow
  each other, so that what is compared is measured within minutes.
- Every sample starts all programs anew and ends them, by pid.
- Whoever fails is shown with the reason, and asked again in the next round; who is not available is not.
- The results are written after each work: a run that is cut short leaves what it has.
- `bench/results/latest.json` and docs/BENCHMARKS.md are of whole runs; any other one goes into `partial.json`.
"""

import argparse
import fcntl
import json
import resource
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.contenders import CONTENDERS
from bench.document import write_document
from bench.install import PEER_MAKERS, Peer, install
from bench.loopback import isolate
from bench.machine import ROOT, about
from bench.processes import SampleError
from bench.results import Figures, Run, Samples, rotated
from bench.rig import Pki, make_pki, running
from bench.work import WORK, Work
from bench.work.sizes import QUICK, Sizes

LATEST = ROOT / "bench" / "results" / "latest.json"
PARTIAL = LATEST.with_name("partial.json")


def main() -> None:
    arguments = read_arguments()
    if arguments.document:
        write_document(Run.from_document(json.loads((arguments.results or LATEST).read_text())), ROOT / "docs")
        return
    works = [WORK[name] for name in arguments.work or WORK]
    raise_file_limit()
    peers = {name: install(name) for name in PEER_MAKERS}
    if peers["load"].missing:
        sys.exit(f"the load cannot be built: {peers['load'].missing}")
    whole = not (arguments.work or arguments.only or arguments.quick)
    results = arguments.results or (LATEST if whole else PARTIAL)
    samples = Samples()
    settings = {
        "rounds": arguments.rounds,
        "quick": arguments.quick,
        "note": arguments.note,
        "own_loopback": isolate(),  # After what is installed from elsewhere.
    }
    for work in works:
        names = [name for name in work.contenders if not arguments.only or name in arguments.only]
        measure(work, names, arguments, peers, samples)
        run = Run(samples.results(), samples.failures(), {**about(peers), **settings})
        write(run, results)
    if whole:
        write_document(run, ROOT / "docs")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", nargs="+", choices=WORK, metavar="NAME", help=", ".join(WORK))
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, metavar="CONTENDER", help=", ".join(CONTENDERS))
    parser.add_argument("--rounds", type=int, help="3, or 1 with --quick")
    parser.add_argument("--quick", action="store_true", help="small sizes: does everything work?")
    parser.add_argument("--lock", type=Path, help="a file that is locked during each round, where a machine is shared")
    parser.add_argument("--results", type=Path, metavar="FILE", help="written (or read) in place of those")
    parser.add_argument("--note", default="", help="what the document says about this run")
    parser.add_argument("--document", action="store_true", help="only write docs/BENCHMARKS.md anew from the results")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    return arguments


def measure(
    work: Work, names: Sequence[str], arguments: argparse.Namespace, peers: Mapping[str, Peer], samples: Samples
) -> None:
    """All rounds of one work."""
    sizes = QUICK if arguments.quick else Sizes()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        pki = make_pki(Path(directory))
        for number in range(min(arguments.rounds, work.rounds_max)):
            with locked(arguments.lock):
                for name in rotated(names, number):
                    key = (work.name, name)
                    try:
                        samples.figures[key][number] = sample(work, name, number, sizes, peers, pki)
                        told = tell(samples.figures[key][number])
                    except SampleError as reason:
                        samples.reasons[key].append(str(reason))
                        told = f"FAILED: {reason}"
                    print(f"{work.name:<30}{number + 1:>3}  {name:<24}{told}", flush=True)


def sample(work: Work, name: str, number: int, sizes: Sizes, peers: Mapping[str, Peer], pki: Pki) -> Figures:
    """Raises SampleError. Everybody loses the same datagrams in a round, and others in the next."""
    link = (*work.link, "--seed", str(number + 1)) if work.link else ()
    with running(CONTENDERS[name], peers, pki, link) as rig:
        return work.measure(rig, sizes)


def tell(figures: Figures) -> str:
    return "  ".join(f"{metric} {figure:,.4g}" for metric, figure in figures.items())


def write(run: Run, file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(run.document(), indent=1) + "\n")


@contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """Holds the lock of that file, where there is one."""
    if path is None:
        yield
        return
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def raise_file_limit() -> None:
    """A thousand connections are two thousand sockets of each proxy, who inherit this."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()

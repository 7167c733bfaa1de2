"""docs/BENCHMARKS.md and its plots, from a run. All figures come from the results; here are the words around them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.charts import Bar, bars, figure
from bench.contenders import CONTENDERS
from bench.results import Run
from bench.tables import OURS, Column, markdown, matrix, rows_of_chart, table
from bench.work import BOTTLENECK, FURTHER, LOOPBACK, PATH, PROXIES, SHORT

BULK = (Column("Mbit/s", "mbit_per_s", "more"), Column("CPU s/GB", "cpu_s_per_gb"))
SHORT_ONES = (
    Column("a second", "per_s", "more"),
    Column("p50 ms", "p50_ms"),
    Column("p99 ms", "p99_ms"),
    Column("max ms", "max_ms"),
    Column("failed", "failed"),
)
KEPT = (
    Column("p50 ms", "p50_ms"),
    Column("p99 ms", "p99_ms"),
    Column("p50 above direct", "added_p50_ms"),
    Column("p99 above direct", "added_p99_ms"),
)
LOSSES = ("0", "0.1", "1")
RTTS_MS = (20, 100)
QUEUES_MS = (5, 20)
ROLES = ("server", "client")


def write_document(run: Run, docs: Path) -> None:
    """The text, and its plots in a folder beside it."""
    plots = docs / "benchmarks"
    plots.mkdir(parents=True, exist_ok=True)
    for name, plot in charts(run).items():
        (plots / f"{name}.svg").write_text(plot)
    (docs / "BENCHMARKS.md").write_text(document(run))


def document(run: Run) -> str:
    """The whole text."""
    parts = (opening(run), bulk(run), short(run), kept(run), paths(run), bottleneck(run), memory(run), closing(run))
    return "\n".join(parts)


def charts(run: Run) -> dict[str, str]:
    """SVG by name."""
    of_paths = {
        f"path-rtt{rtt}": bars(
            f"Download at {rtt} ms RTT, Mbit/s",
            joined(
                rows_of_chart(run, f"download-rtt{rtt}-loss{loss}", PATH, "mbit_per_s", f"{loss} % loss")
                for loss in LOSSES
            ),
        )
        for rtt in RTTS_MS
    }
    return {
        "bulk": bars(
            "Bulk on loopback, Mbit/s",
            joined(
                rows_of_chart(run, work, LOOPBACK, "mbit_per_s", heading)
                for work, heading in (
                    ("download", "one download"),
                    ("upload", "one upload"),
                    ("download-8", "8 downloads at once, together"),
                )
            ),
        ),
        "new-connections": bars(
            "New connections a second",
            joined(
                rows_of_chart(run, f"new-connections-{at_once}", SHORT, "per_s", f"{at_once} at a time")
                for at_once in (16, 64)
            ),
        ),
        **of_paths,
    }


def joined(groups: Iterable[Sequence[Bar]]) -> list[Bar]:
    return [row for group in groups for row in group]


def opening(run: Run) -> str:
    machine = run.about["machine"]
    note = f"- {run.about['note']}\n" if run.about.get("note") else ""
    loopback = (
        "the run's own (a network namespace)" if run.about["own_loopback"] else "the host's, packet filter and all"
    )
    return f"""# Benchmarks

One run of `make bench`: everybody does the same work on the same machine, in turns. This text is made
from `bench/results/latest.json`; nobody edits it.

- Machine: {machine["processor"]}, {machine["cores"]} cores, {machine["memory_gb"]} GB, {machine["kernel"]}, \
Python {machine["python"]}. Two proxies, the target and the load share these cores.
- Commit {run.about["commit"]}, {run.about["date"]}, {run.about["rounds"]} rounds{", small sizes" * run.about["quick"]}.
{note}- A cell is the median over the rounds (lowest to highest). "finback is" says how many times better {OURS} is.
- The cores are not ours alone and rarely equally fast for long: trust the ratios, not the figures. In the five minutes
  before the run {machine["load_before"]:g} processes wanted a core all the time; on an idle machine it is near 0.
  During the run the host gave {machine["stolen_percent"]:g} % of the cores' time to others.
- Loopback is {loopback}.
- `direct` has no proxy: it is the ceiling of the target and the load themselves. Where it is far above everybody, they
  are not what is measured. `microsocks` is the ceiling of a proxy without a tunnel: one process, no encryption.
- On loopback a datagram could have 64 kB. Nobody gets that here: everybody sends what a path with an Ethernet MTU
  carries, up to 1,452 bytes. `-jumbo` are the same programs with the size that finback finds by itself on loopback.
"""


def bulk(run: Run) -> str:
    size = "20" if run.about["quick"] else "200"
    return f"""## Bulk

{size} MB through SOCKS5, on loopback, over a connection that has moved a little before. CPU is that of both proxies.

![Bulk](benchmarks/bulk.svg)

One download:

{table(run, "download", (*LOOPBACK, *FURTHER), BULK)}
One upload:

{table(run, "upload", LOOPBACK, BULK)}
Eight downloads at once, the same size in all:

{table(run, "download-8", LOOPBACK, BULK)}"""


def short(run: Run) -> str:
    return f"""## New connections

Each is a SOCKS connection of its own with one response of 1 kB that its end delimits. A latency is a whole one of
these, from connect to the end of stream.

![New connections](benchmarks/new-connections.svg)

16 at a time:

{table(run, "new-connections-16", SHORT, SHORT_ONES)}
64 at a time:

{table(run, "new-connections-64", SHORT, SHORT_ONES)}
V2Ray as it comes tells the application of an end two seconds late (`uplinkOnly`), so its figure says how long it waits
and not how fast it is. `v2ray-quic-no-linger` is the same without that wait; then it cuts half-closed connections.
"""


def kept(run: Run) -> str:
    return f"""## A request of a connection that is kept

50 requests a second on a schedule, over two connections, 500 bytes each. "Above direct" is the difference to the direct
one of the same round.

{table(run, "keep-alive", LOOPBACK, KEPT)}"""


def paths(run: Run) -> str:
    parts = [
        f"""{rtt} ms RTT, Mbit/s:

![Download at {rtt} ms](benchmarks/path-rtt{rtt}.svg)

{matrix(run, [(f"download-rtt{rtt}-loss{loss}", f"{loss} % loss") for loss in LOSSES], PATH, "mbit_per_s")}
"""
        for rtt in RTTS_MS
    ]
    busy = max((each.max for each in run.results if each.metric == "link_core_percent"), default=0)
    lost = max(
        (each.max for each in run.results if each.metric == "dropped_percent" and "mbit" not in each.work), default=0
    )
    return f"""## Paths with delay and loss

The download through `loadgen link`, which delays and loses datagrams in both directions. A connection is new, and what
arrives within 6 s counts, so slow start is part of it. Shadowsocks and microsocks speak TCP: the link carries UDP.

Over all of these the link took at most {figure(busy)} % of one core, and dropped at most {figure(lost)} % of the
datagrams on top of its plan: well below 100 and near 0, it is not the limit. `python bench/link.py` shows what it
carries by itself. It hands on what it receives in whole bursts. Whoever keeps the kernel's usual socket buffers loses
some of them at its own socket (TUIC does; finback and Hysteria ask for larger ones), so a path without loss is not
quite one for it. Not run: Reno with aioquic, TUIC and Hysteria.

{full_sockets(run)}{"".join(parts)}
{bbr_against_cubic(run)}"""


def full_sockets(run: Run) -> str:
    """Where it was measured."""
    works = [(f"download-rtt{rtt}-loss0", f"{rtt} ms, no loss") for rtt in RTTS_MS]
    if run.find(works[0][0], OURS, "full_sockets") is None:
        return ""
    return f"""Receive buffers, of many datagrams each, that full sockets threw away on a path that loses nothing:

{matrix(run, works, PATH, "full_sockets")}
"""


def bbr_against_cubic(run: Run) -> str:
    """The two sentences that one wants to know before choosing."""
    work = "download-rtt20-loss1"
    ratio = run.ratio(work, "mbit_per_s", f"{OURS}-bbr", OURS)
    if ratio is None:
        return ""
    return f"At 20 ms and 1 % loss, BBR carries {figure(ratio)} times what CUBIC does: loss is not congestion there.\n"


def bottleneck(run: Run) -> str:
    works = [f"download-rtt20-100mbit-queue{queue}" for queue in QUEUES_MS]
    tables = "".join(
        f"A queue of {queue} ms:\n\n"
        + table(run, work, BOTTLENECK, (Column("Mbit/s", "mbit_per_s"), Column("dropped, %", "dropped_percent")))
        + "\n"
        for work, queue in zip(works, QUEUES_MS, strict=True)
    )
    return f"""## What BBR costs at a shallow queue

100 Mbit/s, 20 ms RTT, and a queue that is a quarter or the whole of the bandwidth-delay product. "Dropped" is the share
of all datagrams that found the queue full: whoever shares the path suffers from it, and each is sent again.

{tables}{cost_of_bbr(run, works[0])}"""


def cost_of_bbr(run: Run, work: str) -> str:
    found = [
        run.find(work, contender, metric)
        for metric in ("dropped_percent", "mbit_per_s")
        for contender in (f"{OURS}-bbr", OURS)
    ]
    if not all(found):
        return ""
    bbr_lost, cubic_lost, bbr, cubic = (figure(each.median) for each in found if each)
    return (
        f"So with the shallow queue BBR has {bbr_lost} % of its datagrams dropped (CUBIC: {cubic_lost} %) "
        f"and carries {bbr} Mbit/s (CUBIC: {cubic}).\n"
    )


def memory(run: Run) -> str:
    heads = ["", "idle MB", "", "kB a connection", "", "growth MB, slow reader", ""]
    metrics = (("memory-idle", "mb"), ("memory-1000-idle", "kb_per_connection"), ("memory-slow-reader", "growth_mb"))
    rows = [["", *ROLES * 3]]
    for contender in PROXIES:
        found = [run.find(work, contender, f"{role}_{metric}") for work, metric in metrics for role in ROLES]
        rows.append([contender, *(figure(each.median) if each else "" for each in found)])
    return f"""## Memory

Resident, of each proxy: after a transfer of 20 MB; what each of {"200" if run.about["quick"] else "1,000"} tunnelled \
connections adds that have carried one request and stand still; and how far it grows while one reads 200 kB/s of an
endless download; one round. Connections that reuse what the transfer took before can come close to nothing.

{markdown(heads, rows)}"""


def closing(run: Run) -> str:
    told = [[f"`{contender.name}`", contender.tells] for contender in CONTENDERS.values()]
    versions = "\n".join(f"- {name}: {version}" for name, version in run.about["versions"].items())
    failures = "\n".join(
        f"- {each.work}, {each.contender}, {each.rounds} of {run.about['rounds']} rounds: {each.reason}"
        for each in run.failures
    )
    return f"""## Who is measured, and how it is configured

Nothing is encrypted twice where that can be off, everybody verifies TLS with the same kind of certificate, and
everybody has BBR where it has it. Limits and windows are those that each program comes with. Load and target are one
program in Go (`bench/load`); each sample starts everything anew.

{markdown(["", ""], told).replace("| --: |", "| --- |")}
Versions:

{versions}

## What did not work

{failures or "Nothing: everybody did everything."}

## Again

    make bench                                                    # all of it, about an hour on two cores
    make bench ARGUMENTS="--work download keep-alive --rounds 5"   # some of it
    make bench ARGUMENTS="--only finback-quinn tuic --quick"       # does it work?
    make bench ARGUMENTS="--document"                             # only this text, from the results

It takes Go for the load, and the peers: those from Debian are installed where that is possible, TUIC is built from its
crates where there is cargo, and Hysteria from a checkout (`HYSTERIA_SOURCE`) where there is one. What there is not is
shown as that. `make bench-profile` shows where the time of each proxy goes.
"""

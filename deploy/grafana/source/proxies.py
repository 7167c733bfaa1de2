"""What the proxies say of themselves: requests, resources, streams, and what became of every end of stream."""

from deploy.grafana.source.panels import Board, Kind, Panel, Section, per_second, quantile, with_all

OURS = " and on (job, instance) process_event_loop_lag_seconds{}"
"""Only programs with an event loop of ours: Prometheus has a process too, and says so with the same names."""

REQUESTS = Section(
    "Requests",
    (
        Panel(
            "SOCKS replies",
            "Answers to CONNECT requests. Anything but succeeded is a request that was refused or failed: the causes "
            "are next to it.",
            "reqps",
            {"{{reply}}": per_second("socks_replies_total{}", "reply")},
            Kind.STACK,
        ),
        Panel(
            "SOCKS failures by cause",
            "Why requests and handshakes failed. tunnel_down and open_timeout are ours, name_not_found and "
            "connection_refused the target's, bad_credentials and socks_version the application's.",
            "ops",
            {"{{cause}}": with_all("socks_failures_total{}", "cause")},
            Kind.BARS,
        ),
        Panel(
            "SOCKS handshake",
            "From the application's connection to the reply to its request, one round trip and the dial included. If "
            "it grows and the dial does not, look at the tunnel.",
            "s",
            {
                "median": quantile(0.5, "socks_handshake_seconds_bucket{}"),
                "99th percentile": quantile(0.99, "socks_handshake_seconds_bucket{}"),
            },
        ),
        Panel(
            "Dials by cause",
            "Targets that were dialled; none is success. policy_denied is the egress policy at work, "
            "name_lookup_failed the resolver, limit_reached descriptors or streams.",
            "ops",
            {
                "{{cause}}": per_second("tunnel_dials_total{}", "cause")
                + " > 0 or "
                + per_second('tunnel_dials_total{cause="none"}', "cause")
            },
            Kind.STACK,
        ),
        Panel(
            "Dial",
            "From the request's arrival at proxy-server to the end of its dial, name look-up included. Slow dials are "
            "the resolver's or the target's.",
            "s",
            {
                "median": quantile(0.5, "tunnel_dial_seconds_bucket{}"),
                "99th percentile": quantile(0.99, "tunnel_dial_seconds_bucket{}"),
            },
        ),
        Panel(
            "Open now",
            "Connections of applications, dials under way, connections at the target. Without load all fall to zero; "
            "what stays is in /pending.",
            "short",
            {
                "SOCKS": "sum(socks_connections_active{})",
                "dials": "sum(tunnel_dials_active{})",
                "target": "sum(http_target_connections_active{})",
            },
        ),
    ),
)

RESOURCES = Section(
    "Resources",
    (
        Panel(
            "Processor time",
            "100 % is one core, which is all that an event loop has. Near it, everything waits: see the lag of the "
            "loop.",
            "percentunit",
            {"{{instance}}": "rate(process_cpu_seconds_total{}[$__rate_interval])" + OURS},
        ),
        Panel(
            "Event loop lag",
            "How late the last beat of the loop was. From 0.1 s on, timers and reads are late; from 5 s on, /healthz "
            "says so.",
            "s",
            {"{{instance}}": "process_event_loop_lag_seconds{}"},
        ),
        Panel(
            "Resident memory",
            "It follows the load and levels off, since every buffer has a cap. If it climbs under a steady load, "
            "compare it with streams and buffered bytes.",
            "bytes",
            {"{{instance}}": "process_resident_memory_bytes{}" + OURS},
        ),
        Panel(
            "Descriptors, of their limit",
            "At 100 % nothing can be accepted or dialled. Raise the limit, or find out which connections stay.",
            "percentunit",
            {"{{instance}}": "process_open_fds{} / process_max_fds{}" + OURS},
        ),
        Panel(
            "Full garbage collections",
            "Each stops the program for a while. Many, together with lag of the loop, mean that objects are made and "
            "kept without need.",
            "ops",
            {"{{instance}}": per_second('python_gc_collections_total{generation="2"}', "job, instance") + OURS},
        ),
        Panel(
            "Flow-control waits",
            "How often an application's or target's socket had to wait until the tunnel took bytes. Ordinary for "
            "bulk; all the time means that the path, or the reader at the far side, is the slow part.",
            "ops",
            {"{{role}}": per_second("tunnel_flow_control_waits_total{}", "role")},
        ),
        Panel(
            "Streams that stand still",
            "Counted when a stream that waits for something has made no progress for 5 s, by what it waits for. The "
            "log of that proxy has an evidence line about it, with its session and stream.",
            "ops",
            {"{{role}} {{waits_for}}": per_second("tunnel_stalls_total{}", "role, waits_for")},
            Kind.BARS,
        ),
    ),
)

STREAMS = Section(
    "Streams",
    (
        Panel(
            "Streams active",
            "Each is one connection of an application; both sides should show the same number. Without load it falls "
            "to zero.",
            "short",
            {"{{role}}": "sum by (role) (tunnel_streams_active{})"},
            width=6,
        ),
        Panel(
            "Streams ended",
            "By the worse of their directions' endings. lost is a connection between the proxies that died, reset "
            "comes from an application or a target.",
            "ops",
            {"{{role}} {{ending}}": per_second("tunnel_streams_total{}", "role, ending")},
            width=6,
        ),
        Panel(
            "Half-closed",
            "Streams of which only this direction has ended. Ordinary for a moment; if it climbs, one side ended and "
            "the other never does, until its linger is over.",
            "short",
            {"{{role}} {{direction}}": "sum by (role, direction) (tunnel_half_closed_streams{})"},
            width=6,
        ),
        Panel(
            "Bytes held",
            "Payload in our buffers, by the direction it goes. Bounded by windows and send caps; high all the time "
            "means that the receiver reads slowly.",
            "bytes",
            {"{{role}} {{direction}}": "sum by (role, direction) (tunnel_buffered_bytes{})"},
            width=6,
        ),
        Panel(
            "Bytes moved, target to client",
            "Payload of downloads as each proxy counts it. The two lines should lie on each other; what is between "
            "them is under way or stuck.",
            "Bps",
            {"{{role}}": per_second('tunnel_bytes_total{direction="target_to_client"}', "role")},
            width=12,
        ),
        Panel(
            "Bytes moved, client to target",
            "Payload of uploads as each proxy counts it. The two lines should lie on each other; what is between them "
            "is under way or stuck.",
            "Bps",
            {"{{role}}": per_second('tunnel_bytes_total{direction="client_to_target"}', "role")},
            width=12,
        ),
    ),
)


def ends(role: str, direction: str, event: str) -> str:
    """How many ends a proxy counted in the time range."""
    return f'sum(increase(tunnel_ends_total{{role="{role}", direction="{direction}", event="{event}"}}[$__range]))'


def way(direction: str, from_: str, near: str, far: str, to: str) -> dict[str, str]:
    """The ledger of one direction in the order of its way: there, back as receipts, and what left it."""
    return {
        f"{near}: received from {from_}": ends(near, direction, "received"),
        f"{near}: forwarded to {far}": ends(near, direction, "forwarded"),
        f"{far}: received from {near}": ends(far, direction, "received"),
        f"{far}: forwarded to {to}": ends(far, direction, "forwarded"),
        f"{far}: confirmed": ends(far, direction, "confirmed"),
        f"{near}: confirmed": ends(near, direction, "confirmed"),
        f"{near}: rescued": ends(near, direction, "rescued"),
        f"{far}: rescued": ends(far, direction, "rescued"),
        f"{near}: abandoned": ends(near, direction, "abandoned"),
        f"{far}: abandoned": ends(far, direction, "abandoned"),
    }


WAY_TEXT = (
    "The FIN ledger: six bars of the same length unless ends were abandoned; the first that is shorter is the hop that "
    "lost them. Under load the programs are seen up to a scrape apart, so only a difference that outlasts the load is "
    "a hole. Ends that were rescued are a symptom: look for the proxies' log lines about them."
)

LEDGER = Section(
    "What became of every end",
    (
        Panel(
            "Ends on their way from the target to the application",
            WAY_TEXT,
            "short",
            way("target_to_client", "target", "server", "client", "application"),
            Kind.WAY,
            width=12,
        ),
        Panel(
            "Ends on their way from the application to the target",
            WAY_TEXT,
            "short",
            way("client_to_target", "application", "client", "server", "target"),
            Kind.WAY,
            width=12,
        ),
        Panel(
            "Ends that are open",
            "Received, and neither confirmed nor abandoned yet. Without load it falls to zero; a level that stays is "
            "that many ends forgotten at that hop.",
            "short",
            {
                "{{role}} {{direction}}": " - ".join(
                    f'sum by (role, direction) (tunnel_ends_total{{event="{event}"}})'
                    for event in ("received", "confirmed", "abandoned")
                )
            },
        ),
        Panel(
            "Ends that hang",
            "Open for 5 s or longer, by what happened to them last. Received: this proxy has not forwarded them; "
            "forwarded: the other proxy has not confirmed them. A reader that is slow shows here too.",
            "short",
            {
                "{{role}} {{direction}} {{event}}": "sum by (role, direction, event) (tunnel_ends_overdue{})",
            },
        ),
        Panel(
            "Age of the oldest unconfirmed end",
            "0 where none waits. Ordinary up to a round trip, or as long as a reader is slow; a straight climb is an "
            "end that hangs: /pending names its stream.",
            "s",
            {
                "{{role}}": "max by (role) ((time() - tunnel_oldest_unconfirmed_end_timestamp_seconds{})"
                " * (tunnel_oldest_unconfirmed_end_timestamp_seconds{} > bool 0))"
            },
        ),
        Panel(
            "Ends at http-target",
            "The first and the last hop: ends that the target sent, and ends of clients that it saw. Compare with "
            "what proxy-server received and forwarded.",
            "ops",
            {"{{event}}": per_second("http_target_ends_total{}", "event")},
        ),
    ),
)

PROXIES = Board(
    "proxies",
    "finback: proxies",
    "What the proxies do, what it takes, and what became of every end of stream.",
    jobs_of="process_event_loop_lag_seconds",
    sections=(REQUESTS, RESOURCES, STREAMS, LEDGER),
)

"""The connections between the proxies, and the network between them."""

from deploy.grafana.source.panels import Board, Kind, Panel, Section, per_second, quantile

CONNECTIONS = Section(
    "Connections",
    (
        Panel(
            "Connections",
            "Between the proxies, greeting done; both roles should show the same number. None at the client: see the "
            "causes, and its log for the attempts.",
            "short",
            {"{{role}}": "sum by (role) (tunnel_connections_active{})"},
            width=6,
        ),
        Panel(
            "Connections ended, by cause",
            "none is an orderly end. Any other cause took the streams on the connection with it: find out which side "
            "went, or whether the path did.",
            "ops",
            {
                "{{role}} {{cause}}": per_second("tunnel_connections_total{}", "role, cause")
                + " > 0 or "
                + per_second('tunnel_connections_total{cause="none"}', "role, cause")
            },
            Kind.BARS,
            width=6,
        ),
        Panel(
            "Handshakes",
            "New connections a second. The client keeps a few for all its streams: a steady rate means that "
            "connections do not last.",
            "ops",
            {"{{role}}": per_second("tunnel_handshake_seconds_count{}", "role")},
            Kind.BARS,
            width=6,
        ),
        Panel(
            "Handshake",
            "From the first packet to the accepted greeting: about two round trips, three with a Retry. More than "
            "that is loss, or a side that is busy.",
            "s",
            {
                "{{role}} median": quantile(0.5, "tunnel_handshake_seconds_bucket{}", "role"),
                "{{role}} 99th percentile": quantile(0.99, "tunnel_handshake_seconds_bucket{}", "role"),
            },
            width=6,
        ),
        Panel(
            "Engine",
            "Which QUIC library each proxy runs on, and its congestion control. aioquic where quinn was meant: its "
            "wheel is not installed.",
            "string",
            {"{{role}}: {{engine}}, {{congestion_control}}": "tunnel_engine_info{}"},
            Kind.LABELS,
            width=24,
        ),
    ),
)

PATH = Section(
    "The path",
    (
        Panel(
            "Round trip time",
            "Smoothed, over the connections: the least, the median, the greatest; 0 without a connection. Growth "
            "under load is a queue on the path: compare with the congestion window.",
            "s",
            {"{{role}} {{stat}}": "quic_rtt_seconds{}"},
        ),
        Panel(
            "Congestion window",
            "What may be under way, over the connections. Divided by the round trip time it is the speed limit; if it "
            "stays small, loss keeps it small: BBR holds out longer.",
            "bytes",
            {"{{role}} {{stat}}": "quic_congestion_window_bytes{}"},
        ),
        Panel(
            "Packets lost, of those sent",
            "Declared lost by the sender. Bursts belong to a queue that overflows; a steady share belongs to the "
            "path, and costs CUBIC and Reno most of their speed from 1 % on.",
            "percentunit",
            {
                "{{role}}": per_second("quic_packets_lost_total{}", "role")
                + " / "
                + per_second("quic_packets_sent_total{}", "role")
            },
        ),
        Panel(
            "Packets sent",
            "QUIC packets a second. Compare with what the other side received: the difference is lost on the way.",
            "pps",
            {"{{role}}": per_second("quic_packets_sent_total{}", "role")},
        ),
        Panel(
            "Packets received",
            "With quinn, the datagrams that hold them. Far fewer than the other side sent, and little loss declared: "
            "look at the size of the sockets' buffers.",
            "pps",
            {"{{role}}": per_second("quic_packets_received_total{}", "role")},
        ),
        Panel(
            "Packets lost",
            "Declared lost a second. What is declared lost and was only late is sent twice: see reordering at the "
            "link.",
            "pps",
            {"{{role}}": per_second("quic_packets_lost_total{}", "role")},
        ),
    ),
)

STREAMS = Section(
    "Streams and credit",
    (
        Panel(
            "Streams active",
            "Streams on all connections together. At a connection's limit of streams, new ones wait for another "
            "connection.",
            "short",
            {"{{role}}": "sum by (role) (tunnel_streams_active{})"},
            width=12,
        ),
        Panel(
            "Credit waits",
            "How often a socket waited because the tunnel took no more: the peer's credit or the send cap was used "
            "up. With a small congestion window it is the path, else the reader at the far side.",
            "ops",
            {"{{role}}": per_second("tunnel_flow_control_waits_total{}", "role")},
            width=12,
        ),
    ),
)

LINK = Section(
    "The link in between, where there is one",
    (
        Panel(
            "Datagrams, client to server",
            "What loadgen's link did with them. lost, duplicated and reordered are planned; dropped is its queue "
            "overflowing.",
            "pps",
            {"{{event}}": per_second('link_datagrams_total{direction="client_to_server"}', "event")},
        ),
        Panel(
            "Datagrams, server to client",
            "What loadgen's link did with them. lost, duplicated and reordered are planned; dropped is its queue "
            "overflowing.",
            "pps",
            {"{{event}}": per_second('link_datagrams_total{direction="server_to_client"}', "event")},
        ),
        Panel(
            "Bytes under way in the link",
            "Delayed or queued in it. More than speed times delay is a queue, which shows as round trip time at the "
            "proxies.",
            "bytes",
            {"{{direction}}": "sum by (direction) (link_queued_bytes{})"},
        ),
    ),
)

QUIC = Board(
    "quic",
    "finback: QUIC",
    "The connections between the proxies, and the path under them.",
    jobs_of="process_event_loop_lag_seconds",
    sections=(CONNECTIONS, PATH, STREAMS, LINK),
)

"""This tunnel, with each engine. No datagram larger than on a path with an Ethernet MTU, unless its name says so."""

from bench.processes import LOCALHOST, Process
from bench.rig import SECRET, SERVER_NAME, ClientStarter, Contender, Place, Starter

ETHERNET_BYTES = 1452
LOOPBACK_BYTES = 16_384


def finback(engine: str, *, congestion: str = "cubic", datagram_bytes: int = ETHERNET_BYTES) -> Contender:
    """`engine` on both sides."""
    further = (
        *("--engine", engine, "--congestion-control", congestion, "--max-datagram-bytes", str(datagram_bytes)),
        *("--metrics-listen", f"{LOCALHOST}:0"),
    )
    suffix = "" if congestion == "cubic" else f"-{congestion}"
    suffix += "-jumbo" if datagram_bytes > ETHERNET_BYTES else ""
    return Contender(
        f"finback-{engine}{suffix}",
        "finback",
        f"engine {engine}, {congestion.upper()}, datagrams up to {datagram_bytes:,} bytes, TLS verified, a token",
        server(further),
        client(further),
    )


def server(further: tuple[str, ...]) -> Starter:
    def start(place: Place, port: int) -> Process:
        tokens = place.directory / "tokens"
        tokens.write_text(f"bench:{SECRET}\n")
        return place.start(
            "proxy-server",
            *("--listen", f"{LOCALHOST}:{port}", "--egress-allow", "own", "--tokens-file", str(tokens)),
            *("--certificate", str(place.pki.certificate), "--private-key", str(place.pki.private_key)),
            *further,
        )

    return start


def client(further: tuple[str, ...]) -> ClientStarter:
    def start(place: Place, socks_port: int, server_port: int) -> Process:
        token = place.directory / "token"
        token.write_text(SECRET)
        return place.start(
            "proxy-client",
            *("--listen", f"{LOCALHOST}:{socks_port}", "--server", f"{LOCALHOST}:{server_port}"),
            *("--server-name", SERVER_NAME, "--ca-file", str(place.pki.authority), "--token-file", str(token)),
            *further,
        )

    return start

"""Hysteria 2: proxies inside HTTP/3, on a fork of quic-go. BBR, unless it is told a bandwidth."""

from collections.abc import Mapping

from bench.processes import LOCALHOST, Process
from bench.rig import SECRET, SERVER_NAME, Contender, Place


def server(place: Place, port: int) -> Process:
    settings = {
        "listen": f"{LOCALHOST}:{port}",
        "tls": {"cert": str(place.pki.certificate), "key": str(place.pki.private_key), "sniGuard": "disable"},
        "auth": {"type": "password", "password": SECRET},
    }
    return start(place, "server", settings)


def client(place: Place, socks_port: int, server_port: int) -> Process:
    settings = {
        "server": f"{LOCALHOST}:{server_port}",
        "auth": SECRET,
        "tls": {"sni": SERVER_NAME, "ca": str(place.pki.authority)},
        "socks5": {"listen": f"{LOCALHOST}:{socks_port}"},
    }
    return start(place, "client", settings)


def start(place: Place, role: str, settings: Mapping[str, object]) -> Process:
    path = place.write(f"{role}.json", settings)
    return place.start("hysteria", role, "--config", path, "--disable-update-check", "--log-level", "warn")


HYSTERIA = Contender(
    "hysteria2", "hysteria", "BBR (what it takes without a bandwidth), TLS verified, no obfuscation", server, client
)

"""V2Ray with its QUIC transport: VLESS without encryption inside QUIC's own, so that nothing is encrypted twice."""

from collections.abc import Mapping

from bench.processes import LOCALHOST, Process
from bench.rig import SECRET, SERVER_NAME, Contender, Place

QUIC = {"security": "none", "key": "", "header": {"type": "none"}}


def server(place: Place, port: int) -> Process:
    tls = {
        "certificates": [{"certificateFile": str(place.pki.certificate), "keyFile": str(place.pki.private_key)}],
    }
    inbound = {
        "listen": LOCALHOST,
        "port": port,
        "protocol": "vless",
        "settings": {"clients": [{"id": SECRET}], "decryption": "none"},
        "streamSettings": {"network": "quic", "quicSettings": QUIC, "security": "tls", "tlsSettings": tls},
    }
    return start(place, "server.json", inbound, {"protocol": "freedom"})


def client(place: Place, socks_port: int, server_port: int) -> Process:
    tls = {
        "serverName": SERVER_NAME,
        "certificates": [{"usage": "verify", "certificateFile": str(place.pki.authority)}],
        "disableSystemRoot": True,
    }
    inbound = {"listen": LOCALHOST, "port": socks_port, "protocol": "socks", "settings": {"udp": False}}
    users = [{"id": SECRET, "encryption": "none"}]
    outbound = {
        "protocol": "vless",
        "settings": {"vnext": [{"address": LOCALHOST, "port": server_port, "users": users}]},
        "streamSettings": {"network": "quic", "quicSettings": QUIC, "security": "tls", "tlsSettings": tls},
    }
    return start(place, "client.json", inbound, outbound)


def start(place: Place, name: str, inbound: Mapping[str, object], outbound: Mapping[str, object]) -> Process:
    settings = {"log": {"loglevel": "warning"}, "inbounds": [inbound], "outbounds": [outbound]}
    return place.start("v2ray", "-config", place.write(name, settings))


V2RAY = Contender(
    "v2ray-quic",
    "v2ray",
    "QUIC transport with TLS verified and its inner encryption off, VLESS without encryption, CUBIC (it has no BBR)",
    server,
    client,
)

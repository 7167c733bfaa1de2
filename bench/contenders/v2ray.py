"""V2Ray with its QUIC transport: VLESS without encryption inside QUIC's own, so that nothing is encrypted twice.

As it comes, it holds a connection of which one direction has ended open for two seconds, and tells the application of
the end only then. Without that linger it passes an end on at once, and cuts whatever the other direction still had.
"""

from collections.abc import Mapping

from bench.processes import LOCALHOST, Process
from bench.rig import SECRET, SERVER_NAME, Contender, Place

QUIC = {"security": "none", "key": "", "header": {"type": "none"}}


def v2ray(*, lingers: bool = True) -> Contender:
    policy: Mapping[str, object] = {} if lingers else {"levels": {"0": {"uplinkOnly": 0}}}

    def start(place: Place, name: str, inbound: Mapping[str, object], outbound: Mapping[str, object]) -> Process:
        settings = {"log": {"loglevel": "warning"}, "policy": policy, "inbounds": [inbound], "outbounds": [outbound]}
        return place.start("v2ray", "-config", place.write(name, settings))

    def server(place: Place, port: int) -> Process:
        files = {"certificateFile": str(place.pki.certificate), "keyFile": str(place.pki.private_key)}
        inbound = {
            "listen": LOCALHOST,
            "port": port,
            "protocol": "vless",
            "settings": {"clients": [{"id": SECRET}], "decryption": "none"},
            "streamSettings": stream({"certificates": [files]}),
        }
        return start(place, "server.json", inbound, {"protocol": "freedom"})

    def client(place: Place, socks_port: int, server_port: int) -> Process:
        authority = {"usage": "verify", "certificateFile": str(place.pki.authority)}
        tls = {"serverName": SERVER_NAME, "certificates": [authority], "disableSystemRoot": True}
        inbound = {"listen": LOCALHOST, "port": socks_port, "protocol": "socks", "settings": {"udp": False}}
        users = [{"id": SECRET, "encryption": "none"}]
        outbound = {
            "protocol": "vless",
            "settings": {"vnext": [{"address": LOCALHOST, "port": server_port, "users": users}]},
            "streamSettings": stream(tls),
        }
        return start(place, "client.json", inbound, outbound)

    return Contender(
        "v2ray-quic" if lingers else "v2ray-quic-no-linger",
        "v2ray",
        "QUIC transport, TLS verified, its inner encryption off, VLESS without encryption, CUBIC (it has no BBR)"
        + ("; the rest as it comes" if lingers else "; `uplinkOnly` 0: an end is passed on at once, whatever is left"),
        server,
        client,
    )


def stream(tls: Mapping[str, object]) -> Mapping[str, object]:
    return {"network": "quic", "quicSettings": QUIC, "security": "tls", "tlsSettings": tls}

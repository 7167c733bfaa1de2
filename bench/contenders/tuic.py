"""TUIC, version 5: like this tunnel a stream a connection, on quinn."""

from bench.processes import LOCALHOST, Process
from bench.rig import SECRET, SERVER_NAME, Contender, Place

ALPN = ["h3"]


def tuic(congestion: str) -> Contender:
    def server(place: Place, port: int) -> Process:
        settings = {
            "server": f"{LOCALHOST}:{port}",
            "users": {SECRET: SECRET},
            "certificate": str(place.pki.certificate),
            "private_key": str(place.pki.private_key),
            "congestion_control": congestion,
            "alpn": ALPN,
            "log_level": "warn",
        }
        return place.start("tuic-server", "-c", place.write("server.json", settings))

    def client(place: Place, socks_port: int, server_port: int) -> Process:
        relay = {
            "server": f"{SERVER_NAME}:{server_port}",
            "ip": LOCALHOST,
            "uuid": SECRET,
            "password": SECRET,
            "certificates": [str(place.pki.authority)],
            "disable_native_certs": True,
            "congestion_control": congestion,
            "alpn": ALPN,
        }
        settings = {"relay": relay, "local": {"server": f"{LOCALHOST}:{socks_port}"}, "log_level": "warn"}
        return place.start("tuic-client", "-c", place.write("client.json", settings))

    return Contender(
        "tuic" if congestion == "cubic" else f"tuic-{congestion}",
        "tuic",
        f"{congestion.upper()} at both ends, TLS verified, its own windows (8 MiB to receive, 16 MiB to send)",
        server,
        client,
    )

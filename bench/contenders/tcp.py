"""What is no QUIC: the ceiling of a proxy (microsocks), that of the machine (direct), and shadowsocks."""

from bench.processes import LOCALHOST, Process
from bench.rig import SECRET, Contender, Place

CIPHER = "aes-128-gcm"


def microsocks(place: Place, port: int) -> Process:
    return place.start("microsocks", "-i", LOCALHOST, "-p", str(port))


def ss_server(place: Place, port: int) -> Process:
    return place.start("ss-server", "-s", LOCALHOST, "-p", str(port), *SHADOWSOCKS_FLAGS)


def ss_local(place: Place, socks_port: int, server_port: int) -> Process:
    ports = ("-p", str(server_port), "-l", str(socks_port))
    return place.start("ss-local", "-s", LOCALHOST, "-b", LOCALHOST, *ports, *SHADOWSOCKS_FLAGS)


SHADOWSOCKS_FLAGS = ("-k", SECRET, "-m", CIPHER, "--no-delay")

SHADOWSOCKS = Contender(
    "shadowsocks",
    "shadowsocks",
    f"over TCP, {CIPHER} (it has no cipher that is none; this is the cheapest one where the processor knows AES)",
    ss_server,
    ss_local,
    udp=False,
)
MICROSOCKS = Contender(
    "microsocks", "microsocks", "one SOCKS5 server, no second proxy, no encryption", microsocks, udp=False
)
DIRECT = Contender("direct", "load", "no proxy: the ceiling of target and load together", udp=False)

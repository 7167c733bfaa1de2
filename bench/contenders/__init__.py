"""Who is measured: one small file each, one table."""

from bench.contenders.finback import LOOPBACK_BYTES, finback
from bench.contenders.hysteria import HYSTERIA
from bench.contenders.tcp import DIRECT, MICROSOCKS, SHADOWSOCKS
from bench.contenders.tuic import tuic
from bench.contenders.v2ray import v2ray
from bench.rig import Contender

CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        finback("quinn"),
        finback("quinn", congestion="bbr"),
        finback("quinn", congestion="reno"),
        finback("quinn", datagram_bytes=LOOPBACK_BYTES),
        finback("aioquic"),
        finback("aioquic", datagram_bytes=LOOPBACK_BYTES),
        v2ray(),
        v2ray(lingers=False),
        tuic("cubic"),
        tuic("bbr"),
        HYSTERIA,
        SHADOWSOCKS,
        MICROSOCKS,
        DIRECT,
    )
}

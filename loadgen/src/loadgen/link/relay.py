"""The sockets of a link: one that clients send to, and one towards the upstream for each client (as a NAT has it).

Rules
- One flow a client address, at most `MAX_FLOWS`; a client on top of that gets nothing through, and its datagrams
  count as dropped. A flow without a datagram from its client for `FLOW_IDLE_S` is forgotten.
- The upstream's name is resolved before the relay is ready, and again when the way there fails: an error of a send, or
  `SILENCE_S` in which a client sends and nothing comes back. When the address has changed, the flows stay.
- A flow's socket is not connected, it only takes what comes from the upstream: a connected one would report "port
  unreachable" as an error of the descriptor, upon which uvloop ends the reader for good.
- A rebind gives each flow a new socket towards the upstream, hence a new source port. What comes to the old one is then
  lost; what is under way to the upstream leaves from the new one. A flow that gets no socket keeps its old one.
- Bounded work a callback: at most `RECEIVES_A_TURN` receives, then the loop turns. When `ALONE` datagrams in a row did
  not come in a GRO buffer, the next receive takes many of them (`together`).
- One alarm for both directions, rung at most every `TICK_S` under load, exactly on time when idle.
"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic

from loadgen.link.alarm import Alarm
from loadgen.link.line import Departure, Line, bundles
from loadgen.link.plan import Direction, Plan, Timeline
from loadgen.link.together import Received, Together, possible
from loadgen.link.udp import SocketAddress, UdpSocket
from servicekit.address import Address
from servicekit.errors import CannotStartError
from servicekit.logs import get_logger

MAX_FLOWS = 1024
FLOW_IDLE_S = 120.0
SILENCE_S = 1.0
RESOLVE_EVERY_S = 1.0
RECEIVES_A_TURN = 32
ALONE = 3
TICK_S = 0.000_25
SWEEP_EVERY_S = 0.5

log = get_logger()


@dataclass(eq=False, slots=True)
class Flow:
    """One client and its socket towards the upstream."""

    client: SocketAddress
    upstream: UdpSocket
    client_sent_s: float
    upstream_sent_s: float


class Relay:
    """Relays datagrams between clients and one upstream, as the plan of each direction says."""

    def __init__(self, listen: Address, upstream: Address, plan: Plan, seed: int) -> None:
        self._listen = listen
        self._upstream_name = upstream
        self._upstream: tuple[int, SocketAddress] | None = None
        self._clients: UdpSocket
        self._flows: dict[SocketAddress, Flow] = {}
        self._together = Together() if possible() else None
        self._to_server, self._to_client = (
            Line[Flow](Timeline(plan, direction), f"{seed}/{direction}") for direction in Direction
        )
        self._origin_s = monotonic()
        self._alarm: Alarm
        self._rung_s = 0.0
        self._armed_s: float | None = None
        self._resolve_wanted = asyncio.Event()
        self.resolved = asyncio.Event()

    @property
    def now_s(self) -> float:
        """The plan's time: seconds since the link began to listen."""
        return monotonic() - self._origin_s

    @property
    def lines(self) -> dict[Direction, Line[Flow]]:
        return {Direction.CLIENT_TO_SERVER: self._to_server, Direction.SERVER_TO_CLIENT: self._to_client}

    @property
    def flows(self) -> int:
        return len(self._flows)

    def open(self) -> Address:
        """Listens; returns the real address. The plan's time begins here. Raises CannotStartError."""
        try:
            found = socket.getaddrinfo(self._listen.host, self._listen.port, type=socket.SOCK_DGRAM)
            self._clients = UdpSocket(found[0][0])
            self._clients.raw.bind(found[0][4])
        except OSError as error:
            raise CannotStartError(f"cannot listen on {self._listen}: {error.strerror}") from error
        self._alarm = Alarm(self._ring)
        self._origin_s = monotonic()
        asyncio.get_running_loop().add_reader(self._clients.raw.fileno(), self._from_clients)
        return Address.of_socket(self._clients.raw.getsockname())

    async def run(self) -> None:
        """Resolves the upstream, as often as it is needed, and forgets idle flows. Runs until it is cancelled."""
        self._resolve_wanted.set()
        while True:
            if self._resolve_wanted.is_set():
                self._resolve_wanted.clear()
                await self._resolve()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._resolve_wanted.wait(), SWEEP_EVERY_S)
            if self._resolve_wanted.is_set():
                await asyncio.sleep(RESOLVE_EVERY_S)
            self._sweep(monotonic())

    def close(self) -> None:
        """Closes every socket. What is under way is lost, as it is when a cable is pulled."""
        asyncio.get_running_loop().remove_reader(self._clients.raw.fileno())
        self._clients.close()
        self._alarm.close()
        for flow in list(self._flows.values()):
            self._forget(flow)

    def follow(self, plan: Plan) -> None:
        """From the next datagram on, `plan` says what holds; its times count from when the link began to listen."""
        for direction, line in self.lines.items():
            line.follow(Timeline(plan, direction))

    def rebind(self) -> int:
        """Gives each flow a new source port towards the upstream; returns how many flows got one."""
        fresh = {flow: self._open_upstream(flow.client, flow.upstream.raw.family) for flow in self._flows.values()}
        rebound = {flow: upstream for flow, upstream in fresh.items() if upstream}
        for flow, upstream in rebound.items():  # once all are open: none gets a port that another one just left
            self._hang_up(flow)
            flow.upstream = upstream
            self._listen_to_upstream(flow)
        return len(rebound)

    # ---- datagrams

    def _from_clients(self) -> None:
        for data, segment_bytes, client in self._receive(self._clients):
            now_s = monotonic()
            flow = self._flows.get(client) or self._open_flow(client, now_s)
            if flow is None:
                segments = max(-(-len(data) // max(segment_bytes, 1)), 1)
                self._to_server.counts.received += segments
                self._to_server.counts.dropped += segments
                continue
            flow.client_sent_s = now_s
            self._to_server.admit(now_s - self._origin_s, flow, data, segment_bytes)
        self._turn()

    def _from_upstream(self, flow: Flow) -> None:
        for data, segment_bytes, sender in self._receive(flow.upstream):
            if self._upstream is None or sender[:2] != self._upstream[1][:2]:
                continue  # a stranger, or where the upstream was before
            now_s = monotonic()
            flow.upstream_sent_s = now_s
            self._to_client.admit(now_s - self._origin_s, flow, data, segment_bytes)
        self._turn()

    def _receive(self, source: UdpSocket) -> Iterator[Received]:
        """What is there, as far as it is a turn's work."""
        alone = 0
        for _ in range(RECEIVES_A_TURN):
            received = source.receive()
            if received is None:
                return
            yield received
            data, segment_bytes, _ = received
            alone = alone + 1 if data and len(data) == segment_bytes else 0
            if alone >= ALONE and self._together:
                many, is_more = self._together.receive(source.raw, segment_bytes)
                yield from many
                if not is_more:
                    return

    def _ring(self) -> None:
        self._armed_s = None
        self._rung_s = monotonic()
        self._turn()

    def _turn(self) -> None:
        """Sends what is due and sets the alarm for the rest."""
        now_s = monotonic() - self._origin_s
        for departure in bundles(self._to_server.depart(now_s)):
            sent_bytes = 0
            try:
                sent_bytes = self._send_to_upstream(departure)
            except OSError:
                self._resolve_wanted.set()
            self._to_server.sent(departure, sent_bytes)
        for departure in bundles(self._to_client.depart(now_s)):
            sent_bytes = 0
            with suppress(OSError):  # the client is away: its datagram is dropped, as on any network
                sent_bytes = self._clients.send(departure.data, departure.segment_bytes, departure.flow.client)
            self._to_client.sent(departure, sent_bytes)
        due = [line.next_due_s for line in (self._to_server, self._to_client) if line.next_due_s is not None]
        if due:
            self._arm(max(min(due) + self._origin_s, self._rung_s + TICK_S))

    def _send_to_upstream(self, departure: Departure[Flow]) -> int:
        assert self._upstream is not None, "there are no flows before it is known"
        family, address = self._upstream
        if departure.flow.upstream.raw.family != family:
            return 0  # of a flow that is closed
        return departure.flow.upstream.send(departure.data, departure.segment_bytes, address)

    def _arm(self, at_s: float) -> None:
        if self._armed_s is None or at_s < self._armed_s:
            self._armed_s = at_s
            self._alarm.set(at_s)

    # ---- flows

    def _open_flow(self, client: SocketAddress, now_s: float) -> Flow | None:
        if self._upstream is None or len(self._flows) >= MAX_FLOWS:
            return None
        family, address = self._upstream
        upstream = self._open_upstream(client, family)
        if upstream is None:
            return None
        flow = Flow(client, upstream, now_s, now_s)
        self._flows[client] = flow
        self._listen_to_upstream(flow)
        log.debug("flow_opened", client=_text(client), upstream=_text(address))
        return flow

    def _open_upstream(self, client: SocketAddress, family: int) -> UdpSocket | None:
        try:
            upstream = UdpSocket(family)
        except OSError as error:  # no descriptor is left
            log.warning("flow_not_opened", client=_text(client), error=error.strerror)
            return None
        try:
            upstream.raw.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
        except OSError as error:  # no port is left
            log.warning("flow_not_opened", client=_text(client), error=error.strerror)
            upstream.close()
            return None
        return upstream

    def _listen_to_upstream(self, flow: Flow) -> None:
        asyncio.get_running_loop().add_reader(flow.upstream.raw.fileno(), partial(self._from_upstream, flow))

    def _hang_up(self, flow: Flow) -> None:
        asyncio.get_running_loop().remove_reader(flow.upstream.raw.fileno())
        flow.upstream.close()

    def _forget(self, flow: Flow) -> None:
        self._hang_up(flow)
        del self._flows[flow.client]

    def _sweep(self, now_s: float) -> None:
        for flow in [flow for flow in self._flows.values() if now_s - flow.client_sent_s > FLOW_IDLE_S]:
            self._forget(flow)
        sending = [flow for flow in self._flows.values() if now_s - flow.client_sent_s < SILENCE_S]
        if any(flow.client_sent_s - flow.upstream_sent_s > SILENCE_S for flow in sending):
            self._resolve_wanted.set()

    async def _resolve(self) -> None:
        """Finds the upstream's address; on failure keeps the one it had and asks to be called again."""
        name = self._upstream_name
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(name.host, name.port, type=socket.SOCK_DGRAM)
        except OSError as error:
            log.warning("upstream_not_resolved", upstream=str(name), error=error.strerror)
            self._resolve_wanted.set()
            return
        family, address = found[0][0], found[0][4]
        if self._upstream == (family, address):
            return
        log.info("upstream_resolved", upstream=str(name), address=_text(address))
        for flow in [flow for flow in self._flows.values() if flow.upstream.raw.family != family]:
            self._forget(flow)
        self._upstream = (family, address)
        self.resolved.set()


def _text(address: SocketAddress) -> str:
    return str(Address.of_socket(address))

"""A client of its own making, without a proxy-client's restraint: it opens and resets streams as fast as it is let.

python acceptance/rapid.py SERVER TOKEN_FILE TARGET      (until its stdin ends, then prints how many)

SERVER and TARGET are HOST:PORT. It says what the protocol asks for, receipts too, and waits for no answer: whatever the
server's limit on streams gives free is opened in one turn and reset in the next, so that each request is on its way
before it is undone.
"""

import asyncio
import ssl
import sys
from pathlib import Path

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent

from servicekit.address import Address
from tunnel.engine.port import CONTROL_STREAM
from tunnel.errors import Cause
from tunnel.target import Target
from tunnel.wire.codec import encode
from tunnel.wire.messages import VERSION, Direction, Done, Hello, Kind, Open, Outcome

TURN_S = 0.001
BIDIRECTIONAL = 4
"""Every fourth stream id is a client's of both directions (RFC 9000 section 2.1)."""


class Deaf(QuicConnectionProtocol):
    """Takes no notice of what streams bring: aioquic's own would end each stream that nobody holds on to."""

    def quic_event_received(self, event: QuicEvent) -> None:
        pass


async def run(server: Address, token: bytes, target: Address) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, over.set)
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["finback/1"], verify_mode=ssl.CERT_NONE)
    opened = 0
    async with connect(server.host, server.port, configuration=configuration, create_protocol=Deaf) as client:
        say(client, CONTROL_STREAM, encode(Hello(VERSION, 0, token)))
        request = encode(Open(Kind.CONNECT, Target.of(target.host, target.port)))
        while not over.is_set():
            streams = free_streams(client)
            for stream in streams:
                say(client, stream, request)
            client.transmit()
            await asyncio.sleep(TURN_S)
            assert client._quic._close_event is None, f"the server has ended it: {client._quic._close_event}"
            for stream in streams:
                client._quic.reset_stream(stream, Cause.CANCELLED.code)
                client._quic.stop_stream(stream, Cause.CANCELLED.code)
                say(client, CONTROL_STREAM, encode(Done(stream, Direction.TARGET_TO_CLIENT, 0, Outcome.CLOSED)))
            client.transmit()
            if streams and not opened:
                print("begun", flush=True)
            opened += len(streams)
    print(opened, flush=True)


def say(client: QuicConnectionProtocol, stream: int, data: bytes) -> None:
    client._quic.send_stream_data(stream, data)


def free_streams(client: QuicConnectionProtocol) -> list[int]:
    """Those that the server's limit allows just now."""
    first = client._quic.get_next_available_stream_id()
    return list(range(first, client._quic._remote_max_streams_bidi * BIDIRECTIONAL, BIDIRECTIONAL))


if __name__ == "__main__":
    token = Path(sys.argv[2]).read_text().strip().encode()
    asyncio.run(run(Address.parse(sys.argv[1]), token, Address.parse(sys.argv[3])))

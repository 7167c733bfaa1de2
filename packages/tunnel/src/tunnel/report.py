"""Connection events as log lines: one row each, so that both programs speak of the same thing in the same words."""

from typing import assert_never

from tunnel.errors import Cause
from tunnel.net.driver import ConnectionEvent
from tunnel.session import events

Line = tuple[str, str, dict[str, object]]
"""Level, event name, fields."""


def describe(event: ConnectionEvent) -> Line | None:
    """None for what is no news."""
    match event:
        case events.ConnectWanted():
            return None
        case events.ConnectionUp(connection, address, peer_name, session_id, instance_id, handshake_s):
            fields: dict[str, object] = {
                "connection": connection,
                "peer": f"{address[0]}:{address[1]}",
                "session": session_id,
                "instance": instance_id,
                "handshake_ms": round(handshake_s * 1000, 1),
            }
            return "info", "connection_up", fields | ({"name": peer_name} if peer_name else {})
        case events.ConnectionDown(connection, cause, detail, streams_lost, was_up):
            orderly = cause is Cause.NONE
            return (
                "info" if orderly else "warning",
                "connection_closed" if orderly else "connection_lost" if was_up else "connection_failed",
                {"connection": connection, "cause": cause.label, "detail": detail, "streams_lost": streams_lost},
            )
        case events.ConnectionSuspect(connection, silence_s):
            return "warning", "connection_suspect", {"connection": connection, "silence_s": round(silence_s, 2)}
        case events.GoAwayReceived(connection):
            return "info", "peer_drains", {"connection": connection}
        case events.Rescued(connection, stream, direction, final_offset):
            return (
                "warning",
                "end_rescued",
                {
                    "connection": connection,
                    "stream": stream,
                    "direction": direction.label,
                    "final_offset": final_offset,
                    "detail": "the stream's own FIN did not arrive; END did",
                },
            )
        case _:
            assert_never(event)

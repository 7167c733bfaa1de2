"""All faults, in the order in which they are listed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

from loadgen.faulty.fault import Fault
from loadgen.faulty.faults import (
    body_stall,
    body_stall_forever,
    byte_flipped,
    bytes_added,
    eof_early,
    eof_swallowed,
    half_close_as_close,
    none,
    reply_delayed,
    reply_never,
    reset_mid_body,
    silence,
    trickle,
    upload_eof_swallowed,
)


@dataclass(frozen=True, slots=True)
class Planted:
    """One fault by name. `make` makes it for one connection."""

    name: str
    summary: str
    make: Callable[[], Fault]


def _planted(module: ModuleType, make: Callable[[], Fault]) -> Planted:
    return Planted(module.__name__.rpartition(".")[2], module.SUMMARY, make)


_ALL = (
    _planted(none, none.NoFault),
    _planted(trickle, trickle.Trickle),
    _planted(eof_swallowed, eof_swallowed.EofSwallowed),
    _planted(eof_early, eof_early.EofEarly),
    _planted(body_stall, body_stall.BodyStall),
    _planted(body_stall_forever, body_stall_forever.BodyStallForever),
    _planted(reply_delayed, reply_delayed.ReplyDelayed),
    _planted(reply_never, reply_never.ReplyNever),
    _planted(reset_mid_body, reset_mid_body.ResetMidBody),
    _planted(byte_flipped, byte_flipped.ByteFlipped),
    _planted(bytes_added, bytes_added.BytesAdded),
    _planted(upload_eof_swallowed, upload_eof_swallowed.UploadEofSwallowed),
    _planted(half_close_as_close, half_close_as_close.HalfCloseAsClose),
    _planted(silence, silence.Silence),
)

FAULTS: Mapping[str, Planted] = {planted.name: planted for planted in _ALL}

"""tunnel.engine.aioquic.stateless: whatever a stranger sends is told from a first packet, and answers are smaller."""

import pytest
from aioquic.quic.packet import QuicErrorCode, QuicProtocolVersion
from aioquic.quic.retry import QuicRetryTokenHandler
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.tunnel.engine.harness import first_flight

from tunnel.engine.aioquic import client_engine
from tunnel.engine.aioquic.stateless import (
    INITIAL_DATAGRAM_BYTES,
    Initial,
    decrypts,
    destination_id,
    parse_initial,
    refusal,
    retry,
)
from tunnel.engine.settings import ClientTls, EngineLimits

VERSIONS = [int(QuicProtocolVersion.VERSION_1), int(QuicProtocolVersion.VERSION_2)]
HEADS = st.one_of(
    st.binary(max_size=64),
    st.builds(
        lambda first, version, rest: bytes([first]) + version.to_bytes(4, "big") + rest,
        st.integers(0, 255),
        st.sampled_from([0, *VERSIONS, 0x1A2A3A4A]),
        st.binary(max_size=60),
    ),
)
SIZES = st.sampled_from([0, 1, 21, INITIAL_DATAGRAM_BYTES - 1, INITIAL_DATAGRAM_BYTES, 1452])


@given(HEADS, SIZES)
@example(b"", 0)
def test_any_datagram_is_a_first_packet_an_answer_or_nothing(head: bytes, size: int) -> None:
    datagram = head + bytes(max(0, size - len(head)))
    assert len(destination_id(datagram)) <= len(datagram)
    found = parse_initial(datagram, VERSIONS)
    match found:
        case bytes():
            assert len(found) < len(datagram)
            assert found[0] & 0x80
            assert found[1:5] == bytes(4), "Version Negotiation"
        case Initial():
            assert len(datagram) >= INITIAL_DATAGRAM_BYTES
            assert not decrypts(datagram, found)


@pytest.fixture(scope="module")
def first() -> bytes:
    return first_flight(client_engine(ClientTls("proxy.test", insecure=True), EngineLimits()), 0.0)


@given(st.data())
def test_a_first_packet_of_which_one_bit_is_wrong_is_none(first: bytes, data: st.DataObject) -> None:
    whole = parse_initial(first, VERSIONS)
    assert isinstance(whole, Initial)
    assert decrypts(first, whole)
    place = data.draw(st.integers(0, whole.ends_at * 8 - 1))
    bent = bytearray(first)
    bent[place // 8] ^= 1 << place % 8
    found = parse_initial(bytes(bent), VERSIONS)
    assert not (isinstance(found, Initial) and decrypts(bytes(bent), found))


def test_answers_are_smaller_than_what_they_answer(first: bytes) -> None:
    whole = parse_initial(first, VERSIONS)
    assert isinstance(whole, Initial)
    asked = retry(whole, QuicRetryTokenHandler(), ("192.0.2.1", 1), 0.0)
    assert len(asked) < len(first)
    assert len(refusal(whole, QuicErrorCode.CONNECTION_REFUSED, "full")) < len(first)

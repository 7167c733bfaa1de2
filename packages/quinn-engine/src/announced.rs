//! What a connection announces otherwise than quinn would, in its transport parameters.
//!
//! Windows: quinn has one for all streams of a connection, and the peer may always be a whole one ahead of the reader. Here
//! the parameters say less than that at first. The reader's first bytes raise the limit to the whole window, because quinn
//! tells the peer a new limit as soon as it is an eighth of a window higher. So the start must be larger than an eighth, or
//! the peer would wait for ever.
//!
//! Datagrams: a client knows from its kernel what the path to the server carries. The server does not; told, it probes no
//! larger ones, and finds the size in a few round trips.

use std::sync::Arc;

use bytes::Buf;
use quinn_proto::coding::{Codec, UnexpectedEnd};
use quinn_proto::crypto::{ClientConfig, Keys, ServerConfig, Session, UnsupportedVersion};
use quinn_proto::transport_parameters::{Error, TransportParameters};
use quinn_proto::{ConnectError, ConnectionId, Side, VarInt};

/// quinn tells a new limit when it is this part of the window higher than the last one.
pub const TOLD_PARTS: u64 = 8;

/// RFC 9000 section 18.2.
const MAX_UDP_PAYLOAD_SIZE: u64 = 0x03;
const INITIAL_MAX_STREAM_DATA_BIDI_LOCAL: u64 = 0x05;
const INITIAL_MAX_STREAM_DATA_BIDI_REMOTE: u64 = 0x06;

#[derive(Clone, Copy)]
pub struct Announced {
    pub stream_window: VarInt,
    pub datagram_bytes: VarInt,
}

impl Announced {
    fn value(&self, id: u64) -> Option<VarInt> {
        match id {
            MAX_UDP_PAYLOAD_SIZE => Some(self.datagram_bytes),
            INITIAL_MAX_STREAM_DATA_BIDI_LOCAL | INITIAL_MAX_STREAM_DATA_BIDI_REMOTE => Some(self.stream_window),
            _ => None,
        }
    }
}

/// A crypto configuration whose sessions announce these.
pub struct Announcing<C> {
    inner: Arc<C>,
    announced: Announced,
}

impl<C> Announcing<C> {
    pub fn new(inner: C, announced: Announced) -> Self {
        Self { inner: Arc::new(inner), announced }
    }
}

impl<C: ClientConfig + 'static> ClientConfig for Announcing<C> {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let params = announcing(params, Side::Client, self.announced);
        self.inner.clone().start_session(version, server_name, &params)
    }
}

impl<C: ServerConfig + 'static> ServerConfig for Announcing<C> {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.inner.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.inner.retry_tag(version, id, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn Session> {
        let params = announcing(params, Side::Server, self.announced);
        self.inner.clone().start_session(version, &params)
    }
}

/// The same parameters of `owner`'s, but for what is announced.
fn announcing(params: &TransportParameters, owner: Side, announced: Announced) -> TransportParameters {
    let mut encoded = Vec::new();
    params.write(&mut encoded);
    let changed = replaced(&encoded, announced).map_err(|_| Error::Malformed);
    let changed = changed.and_then(|changed| TransportParameters::read(!owner, &mut &changed[..]));
    changed.expect("it was read from what quinn wrote")
}

fn replaced(mut encoded: &[u8], announced: Announced) -> Result<Vec<u8>, UnexpectedEnd> {
    let mut changed = Vec::with_capacity(encoded.len() + 8);
    while encoded.has_remaining() {
        let id = VarInt::decode(&mut encoded)?;
        let size = VarInt::decode(&mut encoded)?.into_inner() as usize;
        let mut value = encoded.copy_to_bytes(size).to_vec();
        if let Some(other) = announced.value(id.into_inner()) {
            value.clear();
            other.encode(&mut value);
        }
        id.encode(&mut changed);
        VarInt::try_from(value.len() as u64).expect("a size").encode(&mut changed);
        changed.extend_from_slice(&value);
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_announced_changes() {
        let encoded = [0x04, 0x01, 0x07, 0x05, 0x01, 0x09, 0x06, 0x02, 0x40, 0x09, 0x03, 0x01, 0x01, 0x0f, 0x01, 0xaa];
        let announced = Announced { stream_window: VarInt::from_u32(70_000), datagram_bytes: VarInt::from_u32(1452) };
        let window = [0x80, 0x01, 0x11, 0x70];
        let expected: [&[u8]; 6] = [
            &[0x04, 0x01, 0x07, 0x05, 0x04],
            &window,
            &[0x06, 0x04],
            &window,
            &[0x03, 0x02, 0x45, 0xac],
            &[0x0f, 0x01, 0xaa],
        ];
        assert_eq!(replaced(&encoded, announced).unwrap(), expected.concat());
    }
}

//! A stream's window starts small and grows when its reader has shown that it reads.
//!
//! quinn has one window for all streams of a connection: the peer may always be a whole window ahead of the reader. Here
//! the transport parameters say less than that at first. The reader's first bytes raise the limit to the whole window,
//! because quinn tells the peer a new limit as soon as it is an eighth of a window higher. So the start must be larger
//! than an eighth, or the peer would wait for ever.

use std::sync::Arc;

use bytes::Buf;
use quinn_proto::coding::{Codec, UnexpectedEnd};
use quinn_proto::crypto::{ClientConfig, Keys, ServerConfig, Session, UnsupportedVersion};
use quinn_proto::transport_parameters::{Error, TransportParameters};
use quinn_proto::{ConnectError, ConnectionId, Side, VarInt};

/// quinn tells a new limit when it is this part of the window higher than the last one.
pub const TOLD_PARTS: u64 = 8;

const INITIAL_MAX_STREAM_DATA_BIDI_LOCAL: u64 = 0x05;
const INITIAL_MAX_STREAM_DATA_BIDI_REMOTE: u64 = 0x06;

/// A crypto configuration whose sessions announce `start` for bidirectional streams.
pub struct Starting<C> {
    inner: Arc<C>,
    start: VarInt,
}

impl<C> Starting<C> {
    pub fn new(inner: C, start: VarInt) -> Self {
        Self { inner: Arc::new(inner), start }
    }
}

impl<C: ClientConfig + 'static> ClientConfig for Starting<C> {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let params = announcing(params, Side::Client, self.start);
        self.inner.clone().start_session(version, server_name, &params)
    }
}

impl<C: ServerConfig + 'static> ServerConfig for Starting<C> {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.inner.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.inner.retry_tag(version, id, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn Session> {
        let params = announcing(params, Side::Server, self.start);
        self.inner.clone().start_session(version, &params)
    }
}

/// The same parameters of `owner`'s, but for the two.
fn announcing(params: &TransportParameters, owner: Side, start: VarInt) -> TransportParameters {
    let mut encoded = Vec::new();
    params.write(&mut encoded);
    let changed = replaced(&encoded, start).map_err(|_| Error::Malformed);
    let changed = changed.and_then(|changed| TransportParameters::read(!owner, &mut &changed[..]));
    changed.expect("it was read from what quinn wrote")
}

fn replaced(mut encoded: &[u8], start: VarInt) -> Result<Vec<u8>, UnexpectedEnd> {
    let mut changed = Vec::with_capacity(encoded.len() + 8);
    while encoded.has_remaining() {
        let id = VarInt::decode(&mut encoded)?;
        let size = VarInt::decode(&mut encoded)?.into_inner() as usize;
        let mut value = encoded.copy_to_bytes(size).to_vec();
        if matches!(id.into_inner(), INITIAL_MAX_STREAM_DATA_BIDI_LOCAL | INITIAL_MAX_STREAM_DATA_BIDI_REMOTE) {
            value.clear();
            start.encode(&mut value);
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
    fn only_the_two_windows_change() {
        let encoded = [0x04, 0x01, 0x07, 0x05, 0x01, 0x09, 0x06, 0x02, 0x40, 0x09, 0x0f, 0x02, 0xaa, 0xbb];
        let changed = replaced(&encoded, VarInt::from_u32(70_000)).unwrap();
        let window = [0x80, 0x01, 0x11, 0x70];
        let expected = [&[0x04, 0x01, 0x07, 0x05, 0x04], &window[..], &[0x06, 0x04], &window, &encoded[10..]];
        assert_eq!(changed, expected.concat());
    }
}

//! What an endpoint is made with: `EngineLimits` of the port, and quinn's configurations made of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, ConnectionId, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, QlogStream, ServerConfig,
    TransportConfig, VarInt,
};
use ring::hmac;

use crate::announced::{Announced, Announcing, TOLD_PARTS};
use crate::congestion;
use crate::ids::SignedIds;
use crate::tls::{self, lasting_secret};

/// RFC 9000 section 14.
const MIN_DATAGRAM_BYTES: u16 = 1200;

const IPV4_UDP_HEADERS_BYTES: u16 = 28;
const IPV6_UDP_HEADERS_BYTES: u16 = 48;

/// A first packet that got lost is repeated after three times as long: with quinn's own 333 ms a handshake that loses two
/// packets takes longer than it may.
const INITIAL_RTT: Duration = Duration::from_millis(100);

pub const ALPN: &str = "finback/1";

/// The control stream and one more.
const MIN_WIDE_STREAMS: u64 = 2;

/// Delivered to the session and not consumed yet, at most, for each stream: what is read ahead of its reader.
pub const DELIVERED_BYTES: u64 = 256 * 1024;

/// The attributes of `tunnel.engine.settings.EngineLimits` that matter here, by their names.
#[derive(FromPyObject, Clone)]
pub struct Limits {
    pub stream_window_floor_bytes: u64,
    pub stream_window_cap_bytes: u64,
    pub send_cap_bytes: u64,
    pub control_window_bytes: u64,
    pub max_streams: u64,
    pub greeting_streams: u64,
    pub greeting_credit_bytes: u64,
    pub max_connections: usize,
    pub retry_above_handshakes: usize,
    pub handshake_timeout_s: f64,
    pub idle_timeout_s: f64,
    pub datagram_cap_bytes: u16,
    pub congestion_control: String,
}

impl Limits {
    /// The windows of a connection's streams together are `max_streams` floors: many streams with the floor, or, where it
    /// is wide, as few with windows that grow to the cap. So growth costs no memory that was not granted anyway.
    pub fn windows(&self, wide: bool) -> Windows {
        let (floor, cap) = (self.stream_window_floor_bytes, self.stream_window_cap_bytes);
        let few = self.max_streams * floor / cap.max(1);
        if wide && cap > floor && few >= MIN_WIDE_STREAMS {
            Windows { start: cap.min(cap / TOLD_PARTS + floor), stream: cap, streams: few }
        } else {
            let stream = floor.min(cap);
            Windows { start: stream, stream, streams: self.max_streams }
        }
    }

    /// Too little to make a window grow that nobody reads of.
    pub fn delivered_bytes(&self) -> u64 {
        let windows = self.windows(true);
        let unread = if windows.wide() { windows.told_at().max(2) - 1 } else { u64::MAX };
        DELIVERED_BYTES.min(self.stream_window_floor_bytes).min(unread)
    }

    fn transport(&self, windows: Windows, datagram_bytes: u16) -> Result<TransportConfig, String> {
        let idle_ms = VarInt::try_from((self.idle_timeout_s * 1000.0) as u64).map_err(|error| error.to_string())?;
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(datagram_bytes);
        let mut transport = TransportConfig::default();
        transport
            .stream_receive_window(size(windows.stream))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .max_idle_timeout(Some(IdleTimeout::from(idle_ms)))
            .datagram_receive_buffer_size(None)
            .initial_rtt(INITIAL_RTT)
            .mtu_discovery_config(Some(discovery))
            .congestion_controller_factory(congestion::factory(&self.congestion_control)?);
        Ok(transport)
    }
}

#[derive(Clone, Copy)]
pub struct Windows {
    /// What a stream may send before anybody has read of it.
    pub start: u64,
    /// How far it may be ahead of its reader after that.
    pub stream: u64,
    /// How many there may be at once.
    pub streams: u64,
}

impl Windows {
    /// Few streams with windows that grow, in place of many with windows that do not.
    pub fn wide(&self) -> bool {
        self.start < self.stream
    }

    /// What was read when quinn tells the peer the whole window.
    fn told_at(&self) -> u64 {
        self.stream / TOLD_PARTS
    }

    /// Room for all streams at once and the control stream. quinn keeps a last eighth of a window to itself, so there is
    /// a seventh more: no stream is ever short of the connection's credit because of others (F11).
    pub fn connection(&self, limits: &Limits) -> VarInt {
        let all = self.streams * self.stream + limits.control_window_bytes;
        size(all + all.div_ceil(TOLD_PARTS - 1))
    }
}

pub fn client_config(
    crypto: rustls::ClientConfig,
    limits: &Limits,
    wide: bool,
    remote: SocketAddr,
    path_mtu: Option<u16>,
    id: ConnectionId,
    qlog: Option<QlogStream>,
) -> Result<ClientConfig, String> {
    let headers = if remote.is_ipv4() { IPV4_UDP_HEADERS_BYTES } else { IPV6_UDP_HEADERS_BYTES };
    let largest = path_mtu.map_or(limits.datagram_cap_bytes, |mtu| mtu.saturating_sub(headers));
    let largest = largest.clamp(MIN_DATAGRAM_BYTES, limits.datagram_cap_bytes);
    let windows = limits.windows(wide);
    let mut transport = limits.transport(windows, largest)?;
    transport
        .receive_window(windows.connection(limits))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .qlog_stream(qlog);
    let quic = QuicClientConfig::try_from(crypto).map_err(|error| error.to_string())?;
    let mut config = ClientConfig::new(Arc::new(Announcing::new(quic, announced(windows, largest))));
    config.transport_config(Arc::new(transport)).initial_dst_cid_provider(Arc::new(move || id));
    Ok(config)
}

/// `certificate` and `private_key` are PEM.
pub fn server_config(
    certificate: &[u8],
    private_key: &[u8],
    limits: &Limits,
    wide: bool,
) -> Result<ServerConfig, String> {
    let mut config = ServerConfig::with_crypto(server_crypto(certificate, private_key, limits, wide)?);
    config.transport_config(Arc::new(server_transport(limits, wide)?));
    Ok(config)
}

pub fn server_crypto(
    certificate: &[u8],
    private_key: &[u8],
    limits: &Limits,
    wide: bool,
) -> Result<Arc<dyn quinn_proto::crypto::ServerConfig>, String> {
    let crypto = tls::server_config(certificate, private_key, ALPN)?;
    let quic = QuicServerConfig::try_from(crypto).map_err(|error| error.to_string())?;
    Ok(Arc::new(Announcing::new(quic, announced(limits.windows(wide), limits.datagram_cap_bytes))))
}

pub fn server_transport(limits: &Limits, wide: bool) -> Result<TransportConfig, String> {
    let mut transport = limits.transport(limits.windows(wide), limits.datagram_cap_bytes)?;
    transport
        .receive_window(size(limits.greeting_credit_bytes))
        .max_concurrent_bidi_streams(size(limits.greeting_streams));
    Ok(transport)
}

/// `secret`: a server's private key. It makes connection ids and reset tokens that the same server still knows after a
/// restart, so that its clients hear at once that their connections are gone (RFC 9000 section 10.3).
pub fn endpoint_config(limits: &Limits, secret: Option<&[u8]>, seed: Option<u64>) -> Result<EndpointConfig, String> {
    let mut config = EndpointConfig::default();
    if let Some(secret) = secret {
        let reset_key = lasting_secret(secret, "finback stateless reset");
        let id_key = hmac::Key::new(hmac::HMAC_SHA256, &lasting_secret(secret, "finback connection ids"));
        config
            .reset_key(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset_key)))
            // Many clients ask at the same time after a restart. An answer is smaller than its question.
            .min_reset_interval(Duration::ZERO)
            .cid_generator(move || Box::new(SignedIds::new(id_key.clone())));
    }
    if let Some(seed) = seed {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        config.rng_seed(Some(bytes));
    }
    config.max_udp_payload_size(limits.datagram_cap_bytes).map_err(|error| error.to_string())?;
    Ok(config)
}

fn announced(windows: Windows, datagram_bytes: u16) -> Announced {
    Announced { stream_window: size(windows.start), datagram_bytes: datagram_bytes.into() }
}

pub fn size(bytes: u64) -> VarInt {
    VarInt::from_u64(bytes).unwrap_or(VarInt::MAX)
}

pub fn handshake_timeout(limits: &Limits) -> Duration {
    Duration::from_secs_f64(limits.handshake_timeout_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;

    fn limits(floor: u64, cap: u64) -> Limits {
        Limits {
            stream_window_floor_bytes: floor,
            stream_window_cap_bytes: cap,
            send_cap_bytes: MIB,
            control_window_bytes: 64 * KIB,
            max_streams: 256,
            greeting_streams: 16,
            greeting_credit_bytes: 256 * KIB,
            max_connections: 1024,
            retry_above_handshakes: 64,
            handshake_timeout_s: 5.0,
            idle_timeout_s: 30.0,
            datagram_cap_bytes: 16 * 1024,
            congestion_control: "cubic".into(),
        }
    }

    const SHAPES: [(u64, u64); 7] = [
        (256 * KIB, 8 * MIB),
        (256 * KIB, 2 * MIB),
        (256 * KIB, 256 * KIB),
        (64 * KIB, 65 * KIB),
        (1, 8 * MIB),
        (1000, 1000),
        (512 * KIB, 256 * KIB),
    ];

    #[test]
    fn a_wide_connection_has_few_streams_that_grow_and_another_many_that_do_not() {
        let limits = limits(MIB, 8 * MIB);
        let (wide, narrow) = (limits.windows(true), limits.windows(false));
        assert_eq!((wide.start, wide.stream, wide.streams), (2 * MIB, 8 * MIB, 32));
        assert_eq!((narrow.start, narrow.stream, narrow.streams), (MIB, MIB, 256));
    }

    #[test]
    fn a_wide_connection_is_granted_no_more_than_another_one() {
        for (floor, cap) in SHAPES {
            let limits = limits(floor, cap);
            let [wide, narrow] = [true, false].map(|wide| limits.windows(wide));
            assert!(wide.streams * wide.stream <= narrow.streams * narrow.stream, "{floor} {cap}");
            assert!(wide.streams >= 2 && narrow.streams == limits.max_streams, "{floor} {cap}");
        }
    }

    #[test]
    fn windows_stay_within_the_cap_and_tell_of_themselves() {
        for (floor, cap) in SHAPES {
            for wide in [true, false] {
                let windows = limits(floor, cap).windows(wide);
                assert!(windows.start <= windows.stream && windows.stream <= cap, "{floor} {cap}");
                // Else a peer that has used up the start would wait for ever.
                assert!(windows.start > windows.told_at(), "{floor} {cap}");
            }
        }
    }

    #[test]
    fn what_is_handed_over_unread_is_little_and_makes_nothing_grow() {
        for (floor, cap) in SHAPES {
            let limits = limits(floor, cap);
            let delivered = limits.delivered_bytes();
            assert!(0 < delivered && delivered <= DELIVERED_BYTES && delivered <= floor, "{floor} {cap}");
            let windows = limits.windows(true);
            assert!(windows.start == windows.stream || delivered < windows.told_at(), "{floor} {cap}");
        }
    }

    #[test]
    fn the_connection_has_room_for_all_streams_and_what_it_has_not_told_yet() {
        for (floor, cap) in SHAPES {
            let limits = limits(floor, cap);
            for windows in [limits.windows(true), limits.windows(false)] {
                let window = windows.connection(&limits).into_inner();
                let told_at_least = window - window / TOLD_PARTS;
                assert!(told_at_least >= windows.streams * windows.stream + limits.control_window_bytes);
            }
        }
    }

    #[test]
    fn sizes_beyond_what_a_varint_holds_are_the_largest() {
        assert_eq!(size(7), VarInt::from_u32(7));
        assert_eq!(size(u64::MAX), VarInt::MAX);
    }

    #[test]
    fn settings_that_cannot_be_are_refused_in_words() {
        let mut slow = limits(KIB, KIB);
        slow.idle_timeout_s = 1e300;
        assert!(slow.transport(slow.windows(true), 1200).is_err());
        let mut vegas = limits(KIB, KIB);
        vegas.congestion_control = "vegas".into();
        assert!(vegas.transport(vegas.windows(true), 1200).unwrap_err().contains("vegas"));
        let mut tiny = limits(KIB, KIB);
        tiny.datagram_cap_bytes = 1199;
        assert!(endpoint_config(&tiny, None, None).is_err());
    }
}

//! What happens on a connection, as the port has it, before Python hears of it.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{ConnectionError, TransportError};

pub enum Event {
    Connected {
        address: SocketAddr,
        started_at: Instant,
    },
    /// Consecutive bytes of one stream.
    Data {
        stream: u64,
        chunks: Vec<Bytes>,
        end: bool,
    },
    Reset {
        stream: u64,
        code: u64,
    },
    Stopped {
        stream: u64,
        code: u64,
    },
    Writable {
        stream: u64,
    },
    StreamsAvailable,
    PingAnswered,
    Closed(Ending),
}

/// How a connection ended. Which cause of the error table that is, is decided in Python, for both engines alike.
pub struct Ending {
    pub kind: Kind,
    pub code: u64,
    pub reason: String,
    pub by_peer: bool,
    /// Whether the handshake was complete before.
    pub established: bool,
}

#[derive(Clone, Copy)]
pub enum Kind {
    /// `code` is of the error table.
    Application,
    /// `code` is of RFC 9000 section 20.
    Transport,
    TimedOut,
    /// A stateless reset: the peer knows nothing of the connection.
    Forgotten,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Transport => "transport",
            Self::TimedOut => "timed_out",
            Self::Forgotten => "forgotten",
        }
    }
}

impl Ending {
    pub fn local(code: u64, reason: &str, established: bool) -> Self {
        Self { kind: Kind::Application, code, reason: reason.into(), by_peer: false, established }
    }

    pub fn timed_out(established: bool) -> Self {
        Self { kind: Kind::TimedOut, code: 0, reason: String::new(), by_peer: false, established }
    }

    pub fn of(error: ConnectionError, established: bool) -> Self {
        let text = error.to_string();
        let (kind, code, reason, by_peer) = match error {
            ConnectionError::ApplicationClosed(close) => {
                (Kind::Application, close.error_code.into_inner(), lossy(&close.reason), true)
            }
            ConnectionError::ConnectionClosed(close) => {
                (Kind::Transport, close.error_code.into(), lossy(&close.reason), true)
            }
            ConnectionError::TransportError(TransportError { code, reason, .. }) => {
                (Kind::Transport, code.into(), reason, false)
            }
            ConnectionError::TimedOut => return Self::timed_out(established),
            ConnectionError::Reset => (Kind::Forgotten, 0, text, true),
            ConnectionError::VersionMismatch => (Kind::Transport, 0, text, true),
            ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => (Kind::Transport, 0, text, false),
        };
        Self { kind, code, reason, by_peer, established }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quinn_proto::{ApplicationClose, ConnectionClose, TransportErrorCode, VarInt};

    fn shape(error: ConnectionError) -> (&'static str, u64, String, bool) {
        let ending = Ending::of(error, true);
        assert!(ending.established || ending.kind.name() == "timed_out");
        (ending.kind.name(), ending.code, ending.reason, ending.by_peer)
    }

    #[test]
    fn an_ending_keeps_who_said_what() {
        let close = ApplicationClose { error_code: VarInt::from_u32(0x42), reason: Bytes::from_static(b"go\xff") };
        let expected = ("application", 0x42, "go\u{fffd}".to_owned(), true);
        assert_eq!(shape(ConnectionError::ApplicationClosed(close)), expected);

        let close = ConnectionClose {
            error_code: TransportErrorCode::CONNECTION_REFUSED,
            frame_type: None,
            reason: Bytes::from_static(b"full"),
        };
        assert_eq!(shape(ConnectionError::ConnectionClosed(close)), ("transport", 2, "full".to_owned(), true));

        let error = TransportError::from(TransportErrorCode::FLOW_CONTROL_ERROR);
        let (kind, code, _, by_peer) = shape(ConnectionError::TransportError(error));
        assert_eq!((kind, code, by_peer), ("transport", 3, false));
    }

    #[test]
    fn silence_and_a_stateless_reset_are_what_they_are() {
        assert_eq!(shape(ConnectionError::TimedOut), ("timed_out", 0, String::new(), false));
        let (kind, _, reason, by_peer) = shape(ConnectionError::Reset);
        assert_eq!((kind, by_peer), ("forgotten", true));
        assert!(!reason.is_empty(), "in words");
        for error in [ConnectionError::VersionMismatch, ConnectionError::CidsExhausted, ConnectionError::LocallyClosed]
        {
            let (kind, code, reason, _) = shape(error);
            assert_eq!((kind, code), ("transport", 0));
            assert!(!reason.is_empty(), "in words");
        }
    }
}

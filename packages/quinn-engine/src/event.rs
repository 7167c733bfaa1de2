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

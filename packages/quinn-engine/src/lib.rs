//! quinn's sans-IO QUIC core as an engine of finback's tunnel: the port of `tunnel.engine.port`, natively.
//!
//! Rules:
//! - No socket, no thread, no clock: time is passed in, datagrams go in and come out in batches.
//! - The state stands behind a lock that is held only while no Python code can run. So a thread that asks for `stats` in
//!   the middle of a call never meets a state that is half changed, and nobody ever waits for the lock.
//! - No panic leaves here: it becomes an EngineError with the error table's cause `internal`.

mod address;
mod announced;
mod clock;
mod congestion;
mod connection;
mod core;
mod event;
mod ids;
mod python;
mod qlog;
mod settings;
mod tls;

#[pyo3::pymodule]
mod quinn_engine {
    #[pymodule_export]
    use crate::python::{Endpoint, EngineError};

    /// Rises with every change of what this crate and `tunnel.engine` say to each other; `tunnel.engine.quinn` has the same.
    #[pymodule_export]
    const API: u32 = 2;
}

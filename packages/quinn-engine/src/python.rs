//! The boundary: Python's arguments in, the port's dataclasses out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use pyo3::buffer::PyBuffer;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use rustls::pki_types::{CertificateDer, ServerName};

use crate::address;
use crate::clock::Clock;
use crate::connection::Connection;
use crate::core::{Core, Role};
use crate::event::Event;
use crate::qlog;
use crate::settings::{ALPN, Limits, endpoint_config, server_config};
use crate::tls::{self, Authority, Trust};

create_exception!(
    quinn_engine,
    EngineError,
    PyException,
    "A fault of the engine itself: (label of the error table's cause, what happened)."
);

/// The classes and functions of Python's that events are made with.
struct Classes {
    transmit: Py<PyAny>,
    connected: Py<PyAny>,
    data: Py<PyAny>,
    reset: Py<PyAny>,
    stopped: Py<PyAny>,
    writable: Py<PyAny>,
    streams_available: Py<PyAny>,
    ping_answered: Py<PyAny>,
    stats: Py<PyAny>,
    packets: Py<PyAny>,
    /// (kind, code, reason, by_peer, established) -> Closed
    closed: Py<PyAny>,
}

impl Classes {
    fn of(port: &Bound<'_, PyAny>, closed: Py<PyAny>) -> PyResult<Self> {
        let class = |name: &str| port.getattr(name).map(Bound::unbind);
        Ok(Self {
            transmit: class("Transmit")?,
            connected: class("Connected")?,
            data: class("Data")?,
            reset: class("Reset")?,
            stopped: class("Stopped")?,
            writable: class("Writable")?,
            streams_available: class("StreamsAvailable")?,
            ping_answered: class("PingAnswered")?,
            stats: class("Stats")?,
            packets: class("Packets")?,
            closed,
        })
    }
}

/// Of an endpoint, besides limits and role.
struct Options<'a> {
    secret: Option<&'a [u8]>,
    seed: Option<u64>,
    path_mtu: Option<Py<PyAny>>,
    qlog: Option<qlog::Settings>,
}

#[pyclass(frozen, module = "quinn_engine")]
pub struct Endpoint {
    core: Mutex<Core>,
    clock: Clock,
    classes: Classes,
    path_mtu: Option<Py<PyAny>>,
}

#[pymethods]
impl Endpoint {
    #[classattr]
    #[allow(non_upper_case_globals)]
    const name: &'static str = "quinn";

    /// `authorities`: (DER, valid from, valid until) each, in seconds since 1970. Without them and a pin nobody is
    /// verified.
    #[staticmethod]
    #[pyo3(signature = (port, closed, limits, server_name, *, authorities=None, pin_sha256=None, path_mtu=None, seed=None, qlog=None))]
    #[allow(clippy::too_many_arguments)]
    fn client(
        port: &Bound<'_, PyAny>,
        closed: Py<PyAny>,
        limits: Limits,
        server_name: String,
        authorities: Option<Vec<(Vec<u8>, u64, u64)>>,
        pin_sha256: Option<Vec<u8>>,
        path_mtu: Option<Py<PyAny>>,
        seed: Option<u64>,
        qlog: Option<qlog::Settings>,
    ) -> PyResult<Self> {
        ServerName::try_from(server_name.as_str()).map_err(value_error)?;
        let trust = match (authorities, pin_sha256) {
            (_, Some(pin)) => Trust::Pin(pin),
            (Some(authorities), None) => Trust::Authorities(authorities.into_iter().map(authority).collect()),
            (None, None) => Trust::Anybody,
        };
        let crypto = tls::client_config(trust, ALPN).map(Box::new).map_err(PyValueError::new_err)?;
        let role = Role::Client { crypto, server_name };
        Self::make(port, closed, limits, role, Options { secret: None, seed, path_mtu, qlog })
    }

    /// `certificate` and `private_key` are PEM.
    #[staticmethod]
    #[pyo3(signature = (port, closed, limits, certificate, private_key, *, seed=None, qlog=None))]
    fn server(
        port: &Bound<'_, PyAny>,
        closed: Py<PyAny>,
        limits: Limits,
        certificate: &[u8],
        private_key: &[u8],
        seed: Option<u64>,
        qlog: Option<qlog::Settings>,
    ) -> PyResult<Self> {
        let config = |wide| server_config(certificate, private_key, &limits, wide).map(Arc::new);
        let wide = config(true).map_err(PyValueError::new_err)?;
        let narrow = config(false).map_err(PyValueError::new_err)?;
        let options = Options { secret: Some(private_key), seed, path_mtu: None, qlog };
        Self::make(port, closed, limits, Role::Server { wide, narrow }, options)
    }

    fn __repr__(&self) -> PyResult<String> {
        self.guarded(|core| core.summary())
    }

    fn connect(&self, py: Python<'_>, address: &Bound<'_, PyTuple>, now: f64) -> PyResult<u64> {
        let path_mtu: Option<u64> = match &self.path_mtu {
            Some(ask) => ask.call1(py, (address,))?.extract(py)?,
            None => None,
        };
        let path_mtu = path_mtu.map(|bytes| bytes.min(u16::MAX.into()) as u16);
        let remote = address::parse(address)?;
        let (number, notices) = self.guarded(|core| {
            let number = core.connect(remote, path_mtu, self.clock.instant(now));
            (number, core.notices())
        })?;
        log(py, notices)?;
        Ok(number)
    }

    fn receive(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        segment_size: usize,
        address: &Bound<'_, PyTuple>,
        now: f64,
    ) -> PyResult<()> {
        let remote = address::parse(address)?;
        let now = self.clock.instant(now);
        let notices = with_bytes(data, |bytes| {
            self.guarded(|core| {
                core.receive(bytes, segment_size, remote, now);
                core.notices()
            })
        })?;
        log(py, notices)
    }

    fn poll_transmit<'py>(&self, py: Python<'py>, now: f64) -> PyResult<Option<Bound<'py, PyAny>>> {
        let now = self.clock.instant(now);
        let Some(transmit) = self.guarded(|core| core.poll_transmit(now))? else {
            return Ok(None);
        };
        let data = PyBytes::new(py, &transmit.data);
        self.guarded(|core| core.buffer = transmit.data)?;
        let address = address::tuple(py, transmit.address)?;
        let made = self.classes.transmit.bind(py).call1((data, transmit.segment_size, address))?;
        Ok(Some(made))
    }

    fn poll_event<'py>(&self, py: Python<'py>) -> PyResult<Option<(u64, Bound<'py, PyAny>)>> {
        let Some((number, event)) = self.guarded(Core::poll_event)? else {
            return Ok(None);
        };
        Ok(Some((number, self.event(py, event)?)))
    }

    fn get_timer(&self) -> PyResult<Option<f64>> {
        self.guarded(|core| core.get_timer().map(|at| self.clock.seconds(at)))
    }

    fn handle_timer(&self, now: f64) -> PyResult<()> {
        self.guarded(|core| core.handle_timer(self.clock.instant(now)))
    }

    fn accept(&self, connection: u64) -> PyResult<()> {
        self.call(connection, Connection::accept)
    }

    fn refuse_strangers(&self) -> PyResult<()> {
        self.guarded(Core::refuse_strangers)
    }

    fn use_certificate(&self, certificate: &[u8], private_key: &[u8]) -> PyResult<()> {
        self.guarded(|core| core.use_certificate(certificate, private_key))?.map_err(PyValueError::new_err)
    }

    fn open(&self, connection: u64) -> PyResult<Option<u64>> {
        self.call(connection, Connection::open)
    }

    fn send(&self, connection: u64, stream: u64, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        with_bytes(data, |bytes| self.call(connection, |one| one.send(stream, bytes)))
    }

    fn finish(&self, connection: u64, stream: u64) -> PyResult<()> {
        self.call(connection, |one| one.finish(stream))
    }

    fn reset(&self, connection: u64, stream: u64, code: u64) -> PyResult<()> {
        self.call(connection, |one| one.reset(stream, code))
    }

    fn stop(&self, connection: u64, stream: u64, code: u64) -> PyResult<()> {
        self.call(connection, |one| one.stop(stream, code))
    }

    fn consumed(&self, connection: u64, stream: u64, count: u64) -> PyResult<()> {
        self.call(connection, |one| one.consumed(stream, count))
    }

    fn ping(&self, connection: u64) -> PyResult<()> {
        self.call(connection, Connection::ping)
    }

    fn close(&self, connection: u64, code: u64, reason: &str) -> PyResult<()> {
        self.guarded(|core| core.call(connection, |one, now| one.close(code, reason, now)).unwrap_or_default())
    }

    fn stats<'py>(&self, py: Python<'py>, connection: u64) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(facts) = self.guarded(|core| core.facts(connection))? else {
            return Ok(None);
        };
        let path = facts.stats.path;
        let made = self.classes.stats.bind(py).call1((
            path.rtt.as_secs_f64(),
            path.cwnd,
            path.current_mtu,
            self.clock.seconds(facts.last_received_at),
            facts.buffered_send_bytes,
            facts.flow_control_waits,
        ))?;
        Ok(Some(made))
    }

    fn packets<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (packets, retries) = self.guarded(|core| (core.packets(), core.retries()))?;
        self.classes.packets.bind(py).call1((packets.sent, packets.received, packets.lost, retries))
    }
}

impl Endpoint {
    fn make(
        port: &Bound<'_, PyAny>,
        closed: Py<PyAny>,
        limits: Limits,
        role: Role,
        options: Options<'_>,
    ) -> PyResult<Self> {
        let clock = Clock::new();
        let config = endpoint_config(&limits, options.secret, options.seed).map_err(PyValueError::new_err)?;
        let qlog = options.qlog.map(qlog::Directory::new);
        Ok(Self {
            core: Mutex::new(Core::new(config, role, limits, qlog, clock.instant(0.0))),
            clock,
            classes: Classes::of(port, closed)?,
            path_mtu: options.path_mtu,
        })
    }

    /// Runs `work` on the state. No Python code may run in it.
    fn guarded<T>(&self, work: impl FnOnce(&mut Core) -> T) -> PyResult<T> {
        caught(&self.core, work).map_err(|text| EngineError::new_err(("internal", text)))
    }

    /// A call on a connection that has ended does nothing.
    fn call<T: Default>(&self, connection: u64, work: impl FnOnce(&mut Connection) -> T) -> PyResult<T> {
        self.guarded(|core| core.call(connection, |one, _| work(one)).unwrap_or_default())
    }

    fn event<'py>(&self, py: Python<'py>, event: Event) -> PyResult<Bound<'py, PyAny>> {
        let classes = &self.classes;
        match event {
            Event::Data { stream, chunks, end } => classes.data.bind(py).call1((stream, joined(py, &chunks)?, end)),
            Event::Writable { stream } => classes.writable.bind(py).call1((stream,)),
            Event::Reset { stream, code } => classes.reset.bind(py).call1((stream, code)),
            Event::Stopped { stream, code } => classes.stopped.bind(py).call1((stream, code)),
            Event::StreamsAvailable => classes.streams_available.bind(py).call0(),
            Event::PingAnswered => classes.ping_answered.bind(py).call0(),
            Event::Connected { address, started_at } => {
                let address = address::tuple(py, address)?;
                classes.connected.bind(py).call1((address, self.clock.seconds(started_at)))
            }
            Event::Closed(ending) => classes.closed.bind(py).call1((
                ending.kind.name(),
                ending.code,
                ending.reason,
                ending.by_peer,
                ending.established,
            )),
        }
    }
}

fn log(py: Python<'_>, warnings: Vec<String>) -> PyResult<()> {
    for line in warnings {
        py.import("logging")?.call_method1("getLogger", ("tunnel.engine.quinn",))?.call_method1("warning", (line,))?;
    }
    Ok(())
}

/// What a panic said, instead of the panic. The state can be asked again afterwards.
fn caught<S, T>(state: &Mutex<S>, work: impl FnOnce(&mut S) -> T) -> Result<T, String> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    catch_unwind(AssertUnwindSafe(|| work(&mut state))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("the engine panicked").to_owned()
    })
}

/// Copied once, into the bytes that Python gets.
fn joined<'py>(py: Python<'py>, chunks: &[Bytes]) -> PyResult<Bound<'py, PyBytes>> {
    let size = chunks.iter().map(Bytes::len).sum();
    PyBytes::new_with(py, size, |mut rest| {
        for chunk in chunks {
            let (here, behind) = rest.split_at_mut(chunk.len());
            here.copy_from_slice(chunk);
            rest = behind;
        }
        Ok(())
    })
}

/// Lends the bytes of a bytes object, a memoryview and the like.
fn with_bytes<T>(data: &Bound<'_, PyAny>, work: impl FnOnce(&[u8]) -> PyResult<T>) -> PyResult<T> {
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return work(bytes.as_bytes());
    }
    let buffer = PyBuffer::<u8>::get(data)?;
    if !buffer.is_c_contiguous() || buffer.len_bytes() == 0 {
        return work(&buffer.to_vec(data.py())?);
    }
    // SAFETY: the buffer is contiguous and held until the end of this function. Nobody writes to it meanwhile: that takes
    // Python code, and `work` runs none.
    let bytes = unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes()) };
    work(bytes)
}

fn authority((der, valid_from, valid_until): (Vec<u8>, u64, u64)) -> Authority {
    Authority { certificate: CertificateDer::from(der), valid_from, valid_until }
}

fn value_error(error: impl ToString) -> PyErr {
    PyValueError::new_err(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_words_and_the_state_can_be_asked_again() {
        let state = Mutex::new(1);
        assert_eq!(caught(&state, |_| panic!("plain")), Err::<(), _>("plain".to_owned()));
        assert_eq!(caught(&state, |number| panic!("number {number}")), Err::<(), _>("number 1".to_owned()));
        assert_eq!(caught(&state, |_| std::panic::panic_any(7)), Err::<(), _>("the engine panicked".to_owned()));
        assert_eq!(caught(&state, |number| *number + 1), Ok(2));
    }
}

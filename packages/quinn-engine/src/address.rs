//! Socket addresses: Python's tuples are (host, port), or (host, port, flow, scope) where these two say something.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

pub fn parse(address: &Bound<'_, PyTuple>) -> PyResult<SocketAddr> {
    let host = address.get_item(0)?;
    let host: &str = host.extract()?;
    let port: u16 = address.get_item(1)?.extract()?;
    let bare = host.split('%').next().unwrap_or(host);
    let ip: IpAddr = bare.parse().map_err(|_| PyValueError::new_err(format!("{host:?} is no IP address")))?;
    match ip {
        IpAddr::V6(ip) if address.len() == 4 => {
            let flow = address.get_item(2)?.extract()?;
            let scope = address.get_item(3)?.extract()?;
            Ok(SocketAddrV6::new(ip, port, flow, scope).into())
        }
        ip => Ok(SocketAddr::new(ip, port)),
    }
}

pub fn tuple<'py>(py: Python<'py>, address: SocketAddr) -> PyResult<Bound<'py, PyTuple>> {
    match address {
        SocketAddr::V6(v6) if v6.flowinfo() != 0 || v6.scope_id() != 0 => {
            (text(*v6.ip()), v6.port(), v6.flowinfo(), v6.scope_id()).into_pyobject(py)
        }
        SocketAddr::V6(v6) => (text(*v6.ip()), v6.port()).into_pyobject(py),
        SocketAddr::V4(v4) => (v4.ip().to_string(), v4.port()).into_pyobject(py),
    }
}

fn text(ip: Ipv6Addr) -> String {
    ip.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of an expression of Python's, and back.
    fn there_and_back(source: &std::ffi::CStr) -> PyResult<(SocketAddr, String)> {
        Python::initialize();
        Python::attach(|py| {
            let given = py.eval(source, None, None)?;
            let address = parse(given.cast::<PyTuple>()?)?;
            Ok((address, tuple(py, address)?.to_string()))
        })
    }

    #[test]
    fn addresses_come_back_in_their_shortest_form() {
        for (source, address, back) in [
            (c"('192.0.2.1', 443)", "192.0.2.1:443", "('192.0.2.1', 443)"),
            (c"('2001:DB8:0::1', 443)", "[2001:db8::1]:443", "('2001:db8::1', 443)"),
            (c"('2001:db8::1', 443, 0, 0)", "[2001:db8::1]:443", "('2001:db8::1', 443)"),
            (c"('fe80::1%eth0', 443, 0, 3)", "[fe80::1%3]:443", "('fe80::1', 443, 0, 3)"),
            (c"('fe80::1', 443, 7, 0)", "[fe80::1]:443", "('fe80::1', 443, 7, 0)"),
            (c"('::ffff:192.0.2.1', 443, 0, 0)", "[::ffff:192.0.2.1]:443", "('::ffff:192.0.2.1', 443)"),
        ] {
            let (parsed, again) = there_and_back(source).unwrap();
            assert_eq!((parsed.to_string().as_str(), again.as_str()), (address, back));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for source in [c"('example.org', 443)", c"('192.0.2.1', 65536)", c"('192.0.2.1', -1)", c"('192.0.2.1',)", c"()"]
        {
            assert!(there_and_back(source).is_err(), "{source:?}");
        }
    }
}

//! qlog of a connection: what quinn did, packet by packet, as JSON text sequences, which qvis opens.
//!
//! Rules:
//! - What is in the directory counts, whoever wrote it: what is asked for and forgotten fills no disk, however often the
//!   program starts. A file is capped too, and then ends between two records.
//! - No file is ever overwritten or added to.
//! - A disk that is full ends the recording, never the tunnel. It is said once, as a notice for the log.

use std::ffi::OsStr;
use std::fs::{File, read_dir};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use pyo3::FromPyObject;
use quinn_proto::{ConnectionId, QlogConfig, QlogStream};
use serde_json::{Value, json};

const RECORD_SEPARATOR: u8 = 0x1e;
const SUFFIX: &str = "sqlog";

/// The attributes of `tunnel.engine.settings.Qlog`, by their names.
#[derive(FromPyObject)]
pub struct Settings {
    directory: PathBuf,
    started: String,
    files_max: usize,
    file_bytes_max: usize,
}

/// Lines for the log: nothing can be logged from in here.
#[derive(Clone, Default)]
struct Notices(Arc<Mutex<Vec<String>>>);

impl Notices {
    fn add(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where the files of one endpoint are made.
pub struct Directory {
    settings: Settings,
    full: bool,
    notices: Notices,
}

impl Directory {
    pub fn new(settings: Settings) -> Self {
        Self { settings, full: false, notices: Notices::default() }
    }

    /// What there is to be logged, once.
    pub fn notices(&self) -> Vec<String> {
        self.notices.take()
    }

    /// For the connection that begins now, with this id of the client's choice. None where there are files enough, or none
    /// can be made.
    pub fn stream(&mut self, role: &'static str, id: ConnectionId, now: Instant) -> Option<QlogStream> {
        let Settings { directory, started, files_max, file_bytes_max } = &self.settings;
        let there = read_dir(directory).map_or(0, |entries| {
            entries.flatten().filter(|entry| entry.path().extension() == Some(OsStr::new(SUFFIX))).count()
        });
        let full = there >= *files_max;
        if full && !self.full {
            let path = directory.display();
            self.notices.add(format!("qlog {path}: it holds {there} files, and gets no more until some are removed"));
        }
        self.full = full;
        if full {
            return None;
        }
        let path = directory.join(format!("{started}-{role}-{id}.{SUFFIX}"));
        let name = path.display().to_string();
        let sink = File::create_new(path).map_err(|error| self.notices.add(format!("qlog {name}: {error}"))).ok()?;
        let writer = Capped {
            sink: Some(sink),
            name,
            left: *file_bytes_max,
            record: Vec::new(),
            of: Of { role, id: id.to_string(), began_ms: epoch_ms() },
            notices: self.notices.clone(),
        };
        let mut config = QlogConfig::default();
        config.writer(Box::new(writer)).title(Some("finback".into())).start_time(now);
        config.into_stream()
    }
}

fn epoch_ms() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64() * 1000.0)
}

/// What quinn does not say of a connection.
struct Of {
    role: &'static str,
    id: String,
    began_ms: f64,
}

impl Of {
    /// quinn's record as the main schema of qlog 0.3 wants it, and qvis: whose it is and since when; lengths in `raw`,
    /// times in ms, and one connection, not one more for each id that it has had.
    fn put_right(&self, record: &mut Value) {
        let Some(record) = record.as_object_mut() else { return };
        if let Some(trace) = record.get_mut("trace").and_then(Value::as_object_mut) {
            trace.insert("vantage_point".into(), json!({"name": "quinn", "type": self.role}));
            let times = json!({"ODCID": self.id, "time_format": "relative", "reference_time": self.began_ms});
            trace.insert("common_fields".into(), times);
        }
        record.remove("group_id");
        let Some(data) = record.get_mut("data").and_then(Value::as_object_mut) else { return };
        if let Some(length) = data.get_mut("header").and_then(|header| header.as_object_mut()?.remove("length")) {
            data.insert("raw".into(), json!({"length": length}));
        }
        for name in ["min_rtt", "smoothed_rtt", "latest_rtt", "rtt_variance"] {
            if let Some(time) = data.get_mut(name) {
                *time = time.as_f64().map(|seconds| seconds * 1000.0).into();
            }
        }
    }
}

/// Passes whole records on, as long as there is room.
struct Capped<Sink> {
    sink: Option<Sink>,
    name: String,
    left: usize,
    record: Vec<u8>,
    of: Of,
    notices: Notices,
}

impl<Sink: Write> Capped<Sink> {
    fn pass_on(&mut self, record: &[u8]) -> io::Result<()> {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        let mut value: Value = serde_json::from_slice(record.strip_prefix(&[RECORD_SEPARATOR]).unwrap_or(record))?;
        self.of.put_right(&mut value);
        let line = format!("{}{value}\n", char::from(RECORD_SEPARATOR));
        self.left = self.left.checked_sub(line.len()).ok_or_else(|| io::Error::other("it is as large as it may be"))?;
        sink.write_all(line.as_bytes())
    }
}

impl<Sink: Write> Write for Capped<Sink> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.record.extend_from_slice(data);
        if data.ends_with(b"\n") {
            let record = std::mem::take(&mut self.record);
            if let Err(error) = self.pass_on(&record) {
                self.sink = None;
                self.notices.add(format!("qlog {} ends here: {error}", self.name));
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capped(left: usize) -> Capped<Vec<u8>> {
        let of = Of { role: "client", id: "c1d".into(), began_ms: 1e12 };
        let record = Vec::new();
        Capped { sink: Some(Vec::new()), name: "a".into(), left, record, of, notices: Notices::default() }
    }

    fn put_right(mut record: Value) -> Value {
        capped(0).of.put_right(&mut record);
        record
    }

    #[test]
    fn a_record_is_there_whole_or_not_at_all() {
        for (left, expected) in [(10, "\x1e[1]\n\x1e[2]\n"), (9, "\x1e[1]\n")] {
            let mut capped = capped(left);
            let notices = capped.notices.clone();
            let mut written = Vec::new();
            for piece in ["\x1e[1", "]\n", "\x1e[2]\n", "\x1e[3]\n"] {
                capped.write_all(piece.as_bytes()).unwrap();
                written = capped.sink.clone().unwrap_or(written);
            }
            assert_eq!(String::from_utf8(written).unwrap(), expected);
            assert_eq!(notices.take(), ["qlog a ends here: it is as large as it may be"]);
        }
    }

    #[test]
    fn a_trace_says_whose_it_is_and_since_when() {
        let head = put_right(json!({"qlog_version": "0.3", "trace": {"vantage_point": {"type": "unknown"}}}));
        assert_eq!(head["qlog_version"], "0.3");
        assert_eq!(head["trace"]["vantage_point"], json!({"name": "quinn", "type": "client"}));
        let common = json!({"ODCID": "c1d", "time_format": "relative", "reference_time": 1e12});
        assert_eq!(head["trace"]["common_fields"], common);
    }

    #[test]
    fn events_have_lengths_and_times_where_qvis_looks_for_them() {
        let sent =
            json!({"time": 1.0, "name": "a:b", "data": {"header": {"packet_number": 1, "length": 9}}, "group_id": "x"});
        let expected =
            json!({"time": 1.0, "name": "a:b", "data": {"header": {"packet_number": 1}, "raw": {"length": 9}}});
        assert_eq!(put_right(sent), expected);
        let metrics = json!({"data": {"min_rtt": 0.5, "bytes_in_flight": 7}});
        assert_eq!(put_right(metrics), json!({"data": {"min_rtt": 500.0, "bytes_in_flight": 7}}));
    }
}

//! qlog of a connection: what quinn did, packet by packet, as JSON text sequences, which qvis opens.
//!
//! Rules:
//! - A file is capped, and so is the number of files: what is asked for and forgotten fills no disk. A capped file ends
//!   between two records.
//! - A disk that is full ends the recording, never the tunnel.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use quinn_proto::{QlogConfig, QlogStream};

const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;
const FILES_MAX: usize = 64;

/// Where the files of one endpoint are made.
pub struct Directory {
    path: PathBuf,
    files: usize,
}

impl Directory {
    pub fn new(path: PathBuf) -> Self {
        Self { path, files: 0 }
    }

    /// A file `NAME.sqlog`; None where there are enough of them, or none can be made.
    pub fn stream(&mut self, name: &str, now: Instant) -> Option<QlogStream> {
        if self.files == FILES_MAX {
            return None;
        }
        self.files += 1;
        let file = File::create(self.path.join(format!("{name}.sqlog"))).ok()?;
        let mut config = QlogConfig::default();
        let writer = Box::new(Capped { sink: file, left: FILE_BYTES_MAX, record: Vec::new() });
        config.writer(writer).title(Some(format!("finback {name}"))).start_time(now);
        config.into_stream()
    }
}

/// Passes whole records on, as long as there is room.
struct Capped<Sink> {
    sink: Sink,
    left: usize,
    record: Vec<u8>,
}

impl<Sink: Write> Write for Capped<Sink> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.record.extend_from_slice(data);
        if data.ends_with(b"\n") {
            let fits = self.record.len() <= self.left;
            let written = fits && self.sink.write_all(&self.record).is_ok();
            self.left = if written { self.left - self.record.len() } else { 0 };
            self.record.clear();
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

    #[test]
    fn a_record_is_there_whole_or_not_at_all() {
        let mut capped = Capped { sink: Vec::new(), left: 12, record: Vec::new() };
        for piece in ["\x1e{1", "}\n", "\x1e{234567}\n", "\x1e{8}\n"] {
            capped.write_all(piece.as_bytes()).unwrap();
        }
        assert_eq!(capped.sink, b"\x1e{1}\n");
    }
}

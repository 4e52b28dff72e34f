//! Prints time, endpoints and length of every packet of a capture, and what could not be decoded.
//!
//!     cargo run --release -p etcbench-capture --example packets -- traffic.pcapng.gz

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use etcbench_capture::{CaptureError, CaptureReader};

fn print(path: &Path) -> Result<(), CaptureError> {
    let mut reader = CaptureReader::open(path)?;
    while let Some(packet) = reader.next_packet()? {
        let (seconds, nanoseconds) =
            (packet.timestamp.div_euclid(1_000_000_000), packet.timestamp.rem_euclid(1_000_000_000));
        println!("{seconds}.{nanoseconds:09} {} -> {} {} bytes", packet.source, packet.destination, packet.wire_length);
    }
    let summary = reader.summary();
    for (reason, count) in &summary.skipped {
        eprintln!("{count} packets left out: {}", reason.sentence());
    }
    Ok(())
}

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: packets CAPTURE");
        return ExitCode::from(2);
    };
    match print(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

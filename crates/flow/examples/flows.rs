//! Prints the flows of a capture as CSV: endpoints, duration in seconds, and a few of the statistics.
//!
//!     cargo run --release -p etcbench-flow --example flows -- traffic.pcap

use std::path::PathBuf;
use std::process::ExitCode;

use etcbench_flow::{FlowOptions, STATISTIC_NAMES, assemble_capture};

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: flows CAPTURE");
        return ExitCode::from(2);
    };
    let shown = ["duration", "packets_per_second", "bytes_per_second"];
    let columns: Vec<usize> =
        shown.iter().filter_map(|name| STATISTIC_NAMES.iter().position(|other| other == name)).collect();
    println!("source,destination,{}", shown.join(","));
    let read = assemble_capture(&path, &FlowOptions::default(), &mut |flow| {
        print!("{},{}", flow.five_tuple.source, flow.five_tuple.destination);
        columns.iter().for_each(|&column| print!(",{}", flow.statistics[column]));
        println!();
    });
    if let Err(error) = read {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    ExitCode::SUCCESS
}

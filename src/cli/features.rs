//! `etcbench features`: the flows of any captures as a table.

use std::path::PathBuf;

use clap::Args;

use super::Verdict;
use crate::capture::{CaptureSummary, Tunnels};
use crate::dataset::{FlowProvenance, LabelledFlow, Labels};
use crate::feature::{StoreHeader, write_store};
use crate::flow::{FlowOptions, STATISTIC_NAMES, assemble_capture};

/// `etcbench features`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench features capture.pcap -o flows.parquet
  etcbench features *.pcapng --idle-timeout 15 --packets 16 -o flows.parquet
  etcbench features 'VPN-PCAPS-01.zip!vpn_aim_chat1a.pcap' -o flows.parquet
  etcbench features gre.pcap.gz --tunnels inner -o flows.parquet")]
pub struct FeaturesArguments {
    /// Captures, pcap or pcapng, also compressed (gzip, bzip2, xz, zstd) or in a zip archive (archive.zip!capture.pcap).
    #[arg(required = true)]
    captures: Vec<PathBuf>,
    /// The Parquet file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// A packet later than this after the flow's last packet begins a new flow, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = FlowOptions::default().idle_timeout)]
    idle_timeout: f64,
    /// A packet later than this after the flow's first packet begins a new flow, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = FlowOptions::default().active_timeout)]
    active_timeout: f64,
    /// Which packet of a tunnel (GRE, IP in IP, VXLAN, GTP-U, Teredo) makes the flow: `outer`, the one that carries,
    /// or `inner`, the one that is carried.
    #[arg(long, value_name = "WHICH", default_value = "outer", value_parser = tunnels)]
    tunnels: Tunnels,
    /// How many first packets of a flow are kept with their bytes.
    #[arg(long, value_name = "N", default_value_t = FlowOptions::default().kept_packets)]
    packets: usize,
    /// How many first bytes of each kept packet are kept, from the IP header on.
    #[arg(long, value_name = "M", default_value_t = FlowOptions::default().kept_bytes)]
    bytes: usize,
}

/// What the store calls captures that belong to no dataset.
const DATASET: &str = "captures";

fn tunnels(name: &str) -> Result<Tunnels, String> {
    match name {
        "outer" => Ok(Tunnels::Outer),
        "inner" => Ok(Tunnels::Inner),
        _ => Err("it is `outer` or `inner`".to_owned()),
    }
}

/// Writes the flows and says per capture what was read and what was skipped.
pub fn features(arguments: &FeaturesArguments) -> anyhow::Result<Verdict> {
    let options = FlowOptions {
        idle_timeout: arguments.idle_timeout,
        active_timeout: arguments.active_timeout,
        tunnels: arguments.tunnels,
        kept_packets: arguments.packets,
        kept_bytes: arguments.bytes,
        ..FlowOptions::default()
    };
    options.validate()?;
    let mut flows = Vec::new();
    for path in &arguments.captures {
        let mut in_capture = Vec::new();
        let summary = assemble_capture(path, &options, &mut |flow| in_capture.push(flow))?;
        tell(path, &summary, in_capture.len());
        flows.extend(in_capture.into_iter().enumerate().map(|(number, flow)| LabelledFlow {
            provenance: FlowProvenance {
                capture: path.display().to_string(),
                number: number as u32,
                five_tuple: flow.five_tuple,
                start: flow.start,
                end: flow.end,
            },
            labels: Labels::new(),
            flow,
        }));
    }
    let header = StoreHeader {
        datasets: vec![DATASET.to_owned()],
        label_columns: Vec::new(),
        statistic_names: STATISTIC_NAMES.iter().map(|&name| name.to_owned()).collect(),
        flow_options: options,
    };
    let count = write_store(&arguments.output, &header, &flows)?;
    say!("{count} flows in {}", arguments.output.display());
    Ok(Verdict::Done)
}

fn tell(path: &std::path::Path, summary: &CaptureSummary, flows: usize) {
    tell!("{}: {flows} flows; {summary}", path.display());
}

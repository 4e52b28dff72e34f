//! `etcbench split-flows`: the flows of captures as separate capture files, as SplitCap writes them.

use std::path::PathBuf;

use clap::Args;

use super::features::{direction, tunnels};
use super::{Verdict, output, progress};
use crate::capture::{CaptureReader, CaptureSource, ReaderOptions, Tunnels};
use crate::dataset::capture_stem;
use crate::feature::{FlowCaptureFolder, FlowCaptureOptions};
use crate::flow::{FlowOptions, Pairing};
use crate::storage::counted;

/// `etcbench split-flows`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench split-flows capture.pcap -o sessions
  etcbench split-flows captures/chat/*.pcap -o chat-sessions --minimum-packets 3
  etcbench split-flows capture.pcap -o directions --direction unidirectional
  etcbench split-flows capture.pcapng -o five-tuples --idle-timeout 1e9 --active-timeout 1e9

Files are named like those of SplitCap: CAPTURE.pcap.TCP_10-0-0-1_40000_10-0-0-2_443.pcap, from the sender of the flow's
first packet, with dashes in addresses; a later flow of the same five-tuple ends in _2.pcap, _3.pcap and so on. With both
timeouts at their maximum, as in the last example, there is one file per five-tuple, as SplitCap writes it. Packets
are those of the capture, byte for byte from the link layer on, with their times. Files have times in microseconds if the
capture is a pcap with microseconds, and in nanoseconds otherwise. Packets that are not TCP or UDP belong to no flow.")]
pub(super) struct SplitFlowsArguments {
    /// Captures, pcap or pcapng, optionally compressed (gzip, bzip2, xz, zstd) or in a zip archive
    /// (archive.zip!capture.pcap); `-` is standard input.
    #[arg(required = true)]
    captures: Vec<PathBuf>,
    /// The folder to write, which must not exist.
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    /// Whether the two directions of a five-tuple form one flow (`bidirectional`, a session) or two (`unidirectional`).
    #[arg(long, value_name = "WHICH", default_value = "bidirectional", value_parser = direction)]
    direction: Pairing,
    /// Start a new flow if a packet follows the flow's last packet after more than this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = FlowOptions::default().idle_timeout)]
    idle_timeout: f64,
    /// Start a new flow if a packet follows the flow's first packet after more than this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = FlowOptions::default().active_timeout)]
    active_timeout: f64,
    /// Which packet of a tunnel (GRE, IP in IP, VXLAN, GTP-U, Teredo) defines the flow: the `outer` packet, or the
    /// `inner` one that it carries; the whole packet is written either way.
    #[arg(long, value_name = "WHICH", default_value = "outer", value_parser = tunnels)]
    tunnels: Tunnels,
    /// Leave out flows with fewer packets.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    minimum_packets: u64,
    /// Write only this many first packets of a flow; all by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    maximum_packets: Option<u64>,
}

/// Number of flows from which the last write to the disk takes noticeable time.
const MANY: u64 = 1000;

/// Writes the flows, and reports for each capture what was read and skipped.
pub(super) fn split_flows(arguments: &SplitFlowsArguments) -> anyhow::Result<Verdict> {
    let folder = &arguments.output;
    anyhow::ensure!(
        !crate::storage::is_standard_output(folder),
        "flows are written to a folder of captures; name one with -o"
    );
    let maximum_packets = arguments.maximum_packets.unwrap_or(u64::MAX);
    anyhow::ensure!(
        arguments.minimum_packets <= maximum_packets,
        "--minimum-packets {} is more than --maximum-packets {maximum_packets}, so no flow would be complete; the \
         first leaves out flows, the second shortens them",
        arguments.minimum_packets
    );
    let flow = FlowOptions {
        direction: arguments.direction,
        idle_timeout: arguments.idle_timeout,
        active_timeout: arguments.active_timeout,
        tunnels: arguments.tunnels,
        ..FlowOptions::default()
    };
    let captures = output::captures(&arguments.captures, None)?;
    let options = FlowCaptureOptions { flow, minimum_packets: arguments.minimum_packets, maximum_packets };
    let mut written = FlowCaptureFolder::new(folder, options)?;
    let progress = progress::for_standard_error();
    progress.begin("captures", captures.len() as u64);
    let (mut flows, mut packets, mut too_short) = (0, 0, 0);
    for path in &captures {
        let options = ReaderOptions { tunnels: arguments.tunnels, ..ReaderOptions::default() };
        let reader = CaptureReader::open_with(&CaptureSource::from(path.as_path()), &options)?;
        let name = path.display().to_string();
        let one = written.add(reader, capture_stem(&name), &mut |read| progress.note(&counted(read, "packet")))?;
        progress.advance(1);
        progress.warn(&format!("{name}: {}; {}", counted(one.flows, "flow"), one.summary));
        (flows, packets, too_short) = (flows + one.flows, packets + one.packets, too_short + one.too_short);
    }
    if flows > MANY {
        progress.note(&format!("writing {} to the disk", counted(flows, "file")));
    }
    written.finish()?;
    progress.end();
    let left_out = match too_short {
        0 => String::new(),
        _ => format!("; {} with fewer packets left out", counted(too_short, "flow")),
    };
    say!("{} of {} in {}{left_out}", counted(packets, "packet"), counted(flows, "flow"), folder.display());
    Ok(Verdict::Done)
}

//! `etcbench features`: the flows of any captures as a table.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use clap::{Args, ValueEnum};
use rayon::prelude::*;

use super::{TOO_MANY_FLOWS, Verdict, output, progress};
use crate::capture::{CaptureReader, CaptureSource, CaptureSummary, ReaderOptions, Tunnels};
use crate::dataset::{FlowProvenance, LabelledFlow, Labels};
use crate::declarative::did_you_mean;
use crate::feature::{Mask, MaskMethod, StoreError, StoreHeader, mask_flow, stream_csv, stream_store};
use crate::flow::{Flow, FlowOptions, NumberedFlow, Pairing, STATISTIC_NAMES, assemble_as_completed};
use crate::progress::Progress;

/// `etcbench features`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench features capture.pcap -o flows.parquet
  etcbench features captures/*.pcap                      # only what they hold
  etcbench features *.pcapng --idle-timeout 15 --packets 16 -o flows.parquet
  etcbench features 'VPN-PCAPS-01.zip!vpn_aim_chat1a.pcap' -o flows.parquet
  etcbench features gre.pcap.gz --tunnels inner -o flows.parquet
  etcbench features capture.pcap --masks ip_addresses,ports --mask-method randomise -o flows.csv
  tcpdump -i eth0 -c 10000 -w - | etcbench features - --format csv -o -

  python: pandas.read_parquet(\"flows.parquet\")  or  polars.read_parquet(\"flows.parquet\")

A row is a flow, in the order of the captures and in that in which flows end; sort by `capture` and `number` for the order
of their first packets. results/FORMAT.md says what every column means.")]
pub(super) struct FeaturesArguments {
    /// Captures, pcap or pcapng, also compressed (gzip, bzip2, xz, zstd) or in a zip archive (archive.zip!capture.pcap); `-`
    /// is standard input.
    #[arg(required = true)]
    captures: Vec<PathBuf>,
    /// The file to write; `-` is standard output. Without it, the captures are read and their flows counted.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How flows are written; by the output's name where not given: CSV where it ends in .csv, else Parquet.
    #[arg(long, value_name = "FORMAT", value_enum, requires = "output")]
    format: Option<Format>,
    /// Whether the two directions of a five-tuple make one flow (`bidirectional`) or two (`unidirectional`).
    #[arg(long, value_name = "WHICH", default_value = "bidirectional", value_parser = direction)]
    direction: Pairing,
    /// A packet later than this after the flow's last packet begins a new flow, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = FlowOptions::default().idle_timeout)]
    idle_timeout: f64,
    /// A packet later than this after the flow's first packet begins a new flow, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = FlowOptions::default().active_timeout)]
    active_timeout: f64,
    /// A gap longer than this splits a flow's time into active and idle periods, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = FlowOptions::default().activity_timeout)]
    activity_timeout: f64,
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
    /// Leave out the statistics of a flow, which are most of the table: addresses, times and packets remain.
    #[arg(long)]
    no_statistics: bool,
    /// Fields to mask in the packets' bytes, separated by commas: ip_addresses, ports, ip_identification, ttl,
    /// checksums, tcp_sequence_numbers, tcp_timestamps, tls_server_name, tls_random, tls_session_id. Other columns,
    /// such as the addresses, stay.
    #[arg(long, value_name = "FIELDS", value_delimiter = ',', value_parser = mask)]
    masks: Vec<Mask>,
    /// What takes the place of masked fields: `zero`, or `randomise`, random values that are consistent within a flow.
    #[arg(long, value_name = "METHOD", default_value = "zero", value_parser = mask_method)]
    mask_method: MaskMethod,
    /// Seed of `--mask-method randomise`.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Comma-separated values with a header; bytes are hexadecimal.
    Csv,
    /// Apache Parquet.
    Parquet,
}

/// What the store calls captures that belong to no dataset.
const DATASET: &str = "captures";
/// Captures up to this many bytes in all are read side by side and held until it is their turn to be written.
const SIDE_BY_SIDE: u64 = 64 << 20;
/// Flows that wait for the writer.
const WAITING_FLOWS: usize = 4096;

fn one_of<T: Copy>(name: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let names = || choices.iter().map(|(name, _)| *name);
    choices.iter().find(|(other, _)| *other == name).map(|(_, choice)| *choice).ok_or_else(|| {
        format!("it is one of {}{}", names().collect::<Vec<_>>().join(", "), did_you_mean(name, names()))
    })
}

fn tunnels(name: &str) -> Result<Tunnels, String> {
    one_of(name, &[("outer", Tunnels::Outer), ("inner", Tunnels::Inner)])
}

fn direction(name: &str) -> Result<Pairing, String> {
    one_of(name, &[("bidirectional", Pairing::Bidirectional), ("unidirectional", Pairing::Unidirectional)])
}

fn mask(name: &str) -> Result<Mask, String> {
    one_of(name, &Mask::ALL.map(|mask| (mask.name(), mask)))
}

fn mask_method(name: &str) -> Result<MaskMethod, String> {
    one_of(name, &[("zero", MaskMethod::Zero), ("randomise", MaskMethod::Randomise)])
}

/// What is done with every capture.
struct Job<'a> {
    arguments: &'a FeaturesArguments,
    captures: Vec<PathBuf>,
    options: FlowOptions,
}

impl Job<'_> {
    /// Gives the flows of a capture as they are complete.
    fn read(
        &self,
        path: &Path,
        sink: &mut dyn FnMut(LabelledFlow),
        progress: &mut dyn FnMut(u64),
    ) -> anyhow::Result<CaptureSummary> {
        let reader_options = ReaderOptions { tunnels: self.options.tunnels, ..ReaderOptions::default() };
        let reader = CaptureReader::open_with(&CaptureSource::from(path), &reader_options)?;
        let capture = path.display().to_string();
        let mut unnumbered = 0_u64;
        let mut add = |NumberedFlow { number, mut flow }: NumberedFlow| {
            let FeaturesArguments { masks, mask_method, seed, .. } = self.arguments;
            if !masks.is_empty() {
                mask_flow(&mut flow, masks, *mask_method, *seed);
            }
            let Flow { five_tuple, start, end, .. } = flow;
            let Ok(number) = u32::try_from(number) else {
                unnumbered += 1;
                return;
            };
            let provenance = FlowProvenance { capture: capture.clone(), number, five_tuple, start, end, packet: None };
            sink(LabelledFlow { provenance, labels: Labels::new(), flow });
        };
        let summary = assemble_as_completed(reader, &self.options, &mut add, progress)?;
        anyhow::ensure!(unnumbered == 0, "{capture}: {TOO_MANY_FLOWS}");
        Ok(summary)
    }
}

/// What the writer is sent: a flow, or that there will be no more because reading failed.
type Sent = Result<LabelledFlow, Stopped>;
struct Stopped;

/// Writes the flows and says per capture what was read and what was skipped.
pub(super) fn features(arguments: &FeaturesArguments) -> anyhow::Result<Verdict> {
    let options = FlowOptions {
        direction: arguments.direction,
        idle_timeout: arguments.idle_timeout,
        active_timeout: arguments.active_timeout,
        activity_timeout: arguments.activity_timeout,
        kept_packets: arguments.packets,
        kept_bytes: arguments.bytes,
        tunnels: arguments.tunnels,
        statistics: !arguments.no_statistics,
    };
    options.validate()?;
    let captures = output::captures(&arguments.captures, arguments.output.as_deref())?;
    let written_to = arguments.output.as_deref().map(output::announce);
    let is_csv = |path: &PathBuf| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let format = arguments.format.unwrap_or(match &arguments.output {
        Some(path) if is_csv(path) => Format::Csv,
        _ => Format::Parquet,
    });
    if output::is_standard_output() && format == Format::Parquet && std::io::stdout().is_terminal() {
        anyhow::bail!("Parquet is nothing for a terminal to show; add --format csv, or name a file with -o");
    }
    let header = StoreHeader {
        datasets: vec![DATASET.to_owned()],
        label_columns: Vec::new(),
        statistic_names: if options.statistics {
            STATISTIC_NAMES.iter().map(|&name| name.to_owned()).collect()
        } else {
            Vec::new()
        },
        flow_options: options.clone(),
    };
    let job = Job { arguments, captures, options };
    let progress = progress::for_standard_error();
    let (sender, receiver) = sync_channel(WAITING_FLOWS);
    let (read, written) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| match &arguments.output {
            Some(output) => write(output, format, &header, receiver),
            None => Ok(receiver.into_iter().count() as u64),
        });
        let read = read_all(&job, &sender, progress.as_ref());
        if read.is_err() {
            // Nothing half-written: the writer drops its file.
            let _ = sender.send(Err(Stopped));
        }
        drop(sender);
        (read, writer.join())
    });
    // When the writer failed, reading stopped because of it.
    let written = written.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    match read {
        Ok(()) | Err(ReadError::WriterGone) => {}
        Err(ReadError::Capture(error)) => return Err(error),
    }
    match written_to {
        Some(output) => say!("{} flows in {output}", written?),
        None => say!("{} flows", written?),
    }
    Ok(Verdict::Done)
}

fn write(output: &Path, format: Format, header: &StoreHeader, receiver: Receiver<Sent>) -> Result<u64, StoreError> {
    let mut next = || match receiver.recv() {
        Ok(Ok(flow)) => Ok(Some(flow)),
        Ok(Err(Stopped)) => Err(std::io::Error::other("a capture could not be read")),
        Err(_) => Ok(None),
    };
    match format {
        Format::Csv => stream_csv(output, header, &mut next),
        Format::Parquet => stream_store(output, header, &mut next),
    }
}

/// Why reading stopped.
enum ReadError {
    Capture(anyhow::Error),
    WriterGone,
}

/// Sends the flows of all captures in order: small captures are read side by side, large ones one after another,
/// each by all threads.
fn read_all(job: &Job<'_>, sender: &SyncSender<Sent>, progress: &dyn Progress) -> Result<(), ReadError> {
    let captures = &job.captures;
    progress.begin("captures", captures.len() as u64);
    let mut rest = &captures[..];
    while !rest.is_empty() {
        let (together, later) = rest.split_at(side_by_side(rest));
        rest = later;
        if let [path] = together {
            let mut flows: u64 = 0;
            let mut gone = false;
            let summary = job.read(
                path,
                &mut |flow| {
                    flows += 1;
                    gone = gone || sender.send(Ok(flow)).is_err();
                },
                &mut |packets| progress.note(&format!("{packets} packets")),
            );
            if gone {
                return Err(ReadError::WriterGone);
            }
            tell(path, &summary.map_err(ReadError::Capture)?, flows, progress);
            continue;
        }
        let read: Vec<_> = together
            .par_iter()
            .with_max_len(1)
            .map(|path| {
                let mut flows = Vec::new();
                job.read(path, &mut |flow| flows.push(flow), &mut |_| {}).map(|summary| (summary, flows))
            })
            .collect();
        for (path, read) in together.iter().zip(read) {
            let (summary, flows) = read.map_err(ReadError::Capture)?;
            tell(path, &summary, flows.len() as u64, progress);
            for flow in flows {
                sender.send(Ok(flow)).map_err(|_| ReadError::WriterGone)?;
            }
        }
    }
    progress.end();
    Ok(())
}

/// How many of the first captures are read side by side: as many as are small enough together, and at least one.
fn side_by_side(captures: &[PathBuf]) -> usize {
    let mut total: u64 = 0;
    let small = captures.iter().take_while(|path| {
        // A member of an archive has no size that is known before it is read.
        total = total.saturating_add(std::fs::metadata(path).map_or(SIDE_BY_SIDE, |file| file.len()));
        total <= SIDE_BY_SIDE
    });
    small.count().max(1)
}

fn tell(path: &Path, summary: &CaptureSummary, flows: u64, progress: &dyn Progress) {
    progress.advance(1);
    progress.warn(&format!("{}: {flows} flows; {summary}", path.display()));
}

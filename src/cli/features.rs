//! `etcbench features`: the flows of any captures, or of an experiment, as a table.

use std::path::{Path, PathBuf};

use clap::Args;
use rayon::prelude::*;

use super::features_output::{Format, Written};
use super::hand_over::{self, Counter, Taker};
use super::leaks::Divided;
use super::run::{Seeds, parse_seeds};
use super::{TOO_MANY_FLOWS, Verdict, output, progress};
use crate::capture::{CaptureReader, CaptureSource, CaptureSummary, ReaderOptions, Tunnels};
use crate::dataset::{FlowProvenance, LabelledFlow, Labels};
use crate::declarative::did_you_mean;
use crate::experiment::{self, DividedFlows};
use crate::feature::{Columns, Mask, MaskMethod, StoreCompression, StoreHeader, Tool, mask_flow};
use crate::flow::{Flow, FlowOptions, NumberedFlow, Pairing, STATISTIC_NAMES, assemble_as_completed};
use crate::progress::Progress;
use crate::storage::counted;

/// `etcbench features`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench features capture.pcap -o flows.parquet
  etcbench features capture.pcap --compression zstd:9 -o flows.parquet    # smaller, and takes longer to write
  etcbench features captures/*.pcap                      # only count their flows
  etcbench features *.pcapng --idle-timeout 15 --packets 16 -o flows.parquet
  etcbench features 'VPN-PCAPS-01.zip!vpn_aim_chat1a.pcap' -o flows.parquet
  etcbench features gre.pcap.gz --tunnels inner -o flows.parquet
  etcbench features capture.pcap --masks ip_addresses,ports --mask-method randomise -o flows.csv
  etcbench features data/mine/*.pcap --relative-to data/mine -o flows.parquet    # captures named as in splits
  etcbench features capture.pcap --columns cicflowmeter -o flows.csv
  etcbench features capture.pcap --format nprint --payload-bytes 64 -o packets.csv
  etcbench features --experiment table2 --variants random_split --seeds 1 -o table2.parquet  # labels, class and part
  etcbench features --experiment table2 --variants random_split --seeds 1 --format png -o images
  tcpdump -i eth0 -c 10000 -w - | etcbench features - --format csv -o -

  python: pandas.read_parquet(\"flows.parquet\")  or  polars.read_parquet(\"flows.parquet\")

A row is a flow, in the order of the captures and then in the order in which flows end; sort by `capture` and
`number` for the order of their first packets. results/FORMAT.md documents every column.")]
pub(super) struct FeaturesArguments {
    /// Captures, pcap or pcapng, optionally compressed (gzip, bzip2, xz, zstd) or in a zip archive
    /// (archive.zip!capture.pcap); `-` is standard input.
    #[arg(required_unless_present = "experiment")]
    captures: Vec<PathBuf>,
    /// The file to write; `-` is standard output. If omitted, the captures are read and their flows counted.
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Output format; by default determined by the output's name: CSV for .csv, Arrow for .arrow or .feather, NumPy
    /// arrays for .npz, otherwise Parquet.
    #[arg(long, value_name = "FORMAT", value_enum, requires = "output")]
    pub(super) format: Option<Format>,
    /// How columns of Parquet are compressed: none, snappy, zstd (zstd:1) or zstd:LEVEL up to 22; zstd by default.
    #[arg(long, value_name = "CODEC", requires = "output")]
    pub(super) compression: Option<StoreCompression>,
    /// Column names: `own`, or those of a flow meter for the features that it defines in the same way (cicflowmeter,
    /// nfstream, argus); results/FORMAT.md lists these and where the tool's own values differ.
    #[arg(long, value_name = "TOOL", default_value = "own", value_parser = columns, requires = "output")]
    pub(super) columns: Columns,
    /// Name captures by their paths relative to this folder, as datasets, splits and predictions do.
    #[arg(long, value_name = "FOLDER", conflicts_with = "experiment")]
    relative_to: Option<PathBuf>,
    /// Write the flows that an experiment uses (given by name, such as table2, or file) instead of captures, with their
    /// labels, class and part.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["captures", "direction", "idle_timeout", "active_timeout",
        "activity_timeout", "tunnels"], requires = "output")]
    experiment: Option<String>,
    /// The experiment's dataset, if not the file's own. Repeat for several.
    #[arg(long, value_name = "NAME", requires = "experiment")]
    data: Vec<String>,
    /// The experiment's size, if not the file's own.
    #[arg(long, value_name = "NAME", requires = "experiment")]
    size: Option<String>,
    /// Override any key of the experiment. Repeat for several.
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "experiment")]
    assignments: Vec<String>,
    /// Number of the experiment's seeds (0, 1, ...), or a list such as 3,5,8; each has a column of parts.
    #[arg(long, value_name = "N|LIST", value_parser = parse_seeds, requires = "experiment")]
    seeds: Option<Seeds>,
    /// The variant of the experiment, such as random_split.
    #[arg(long = "variants", value_name = "NAME", requires = "experiment")]
    variant: Option<String>,
    /// Whether the two directions of a five-tuple form one flow (`bidirectional`) or two (`unidirectional`).
    #[arg(long, value_name = "WHICH", default_value = "bidirectional", value_parser = direction)]
    direction: Pairing,
    /// Start a new flow if a packet follows the flow's last packet after more than this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = FlowOptions::default().idle_timeout)]
    idle_timeout: f64,
    /// Start a new flow if a packet follows the flow's first packet after more than this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = FlowOptions::default().active_timeout)]
    active_timeout: f64,
    /// Split a flow's time into active and idle periods at gaps longer than this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = FlowOptions::default().activity_timeout)]
    activity_timeout: f64,
    /// Which packet of a tunnel (GRE, IP in IP, VXLAN, GTP-U, Teredo and others) defines the flow: the `outer` packet, or
    /// the `inner` one that it carries.
    #[arg(long, value_name = "WHICH", default_value = "outer", value_parser = tunnels)]
    tunnels: Tunnels,
    /// Number of first packets of a flow that are kept with their bytes; 6 by default.
    #[arg(long, value_name = "N")]
    pub(super) packets: Option<usize>,
    /// Number of first bytes kept of each packet, from the IP header on; 248 by default, and as many as an image needs
    /// with `--format png`.
    #[arg(long, value_name = "M")]
    pub(super) bytes: Option<usize>,
    /// Number of payload bytes per packet that have columns with `--format nprint`; none by default.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(super) payload_bytes: usize,
    /// Leave out the flow statistics, which are most of the table: addresses, times and packets remain.
    #[arg(long)]
    pub(super) no_statistics: bool,
    /// Fields to mask in the packets' bytes, separated by commas: ip_addresses, ports, ip_identification, ttl,
    /// checksums, tcp_sequence_numbers, tcp_timestamps, tls_server_name, tls_random, tls_session_id. Other columns,
    /// such as the addresses, are not masked.
    #[arg(long, value_name = "FIELDS", value_delimiter = ',', value_parser = mask)]
    masks: Vec<Mask>,
    /// How masked fields are replaced: by `zero`, or `randomise`, random values that are consistent within a flow.
    #[arg(long, value_name = "METHOD", default_value = "zero", value_parser = mask_method)]
    mask_method: MaskMethod,
    /// Seed of `--mask-method randomise`.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Name in the store for captures that belong to no dataset.
const DATASET: &str = "captures";
/// Captures up to this many bytes in total are read in parallel and kept in memory until it is their turn to be
/// written.
const SIDE_BY_SIDE: u64 = 64 << 20;

fn one_of<T: Copy>(name: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let names = || choices.iter().map(|(name, _)| *name);
    choices.iter().find(|(other, _)| *other == name).map(|(_, choice)| *choice).ok_or_else(|| {
        format!("it must be one of {}{}", names().collect::<Vec<_>>().join(", "), did_you_mean(name, names()))
    })
}

pub(super) fn tunnels(name: &str) -> Result<Tunnels, String> {
    one_of(name, &[("outer", Tunnels::Outer), ("inner", Tunnels::Inner)])
}

pub(super) fn direction(name: &str) -> Result<Pairing, String> {
    one_of(name, &[("bidirectional", Pairing::Bidirectional), ("unidirectional", Pairing::Unidirectional)])
}

fn columns(name: &str) -> Result<Columns, String> {
    let tools = Tool::ALL.map(|tool| (tool.name(), Columns::Of(tool)));
    one_of(name, &[&[("own", Columns::Own)], &tools[..]].concat())
}

fn mask(name: &str) -> Result<Mask, String> {
    one_of(name, &Mask::ALL.map(|mask| (mask.name(), mask)))
}

fn mask_method(name: &str) -> Result<MaskMethod, String> {
    one_of(name, &[("zero", MaskMethod::Zero), ("randomise", MaskMethod::Randomise)])
}

/// How to process every capture.
struct Job<'a> {
    arguments: &'a FeaturesArguments,
    captures: Vec<PathBuf>,
    options: FlowOptions,
}

impl Job<'_> {
    /// Passes on the flows of a capture as they are completed.
    fn read(
        &self,
        path: &Path,
        sink: &mut dyn FnMut(LabelledFlow),
        progress: &mut dyn FnMut(u64),
    ) -> anyhow::Result<CaptureSummary> {
        let decompress_ahead = rayon::current_num_threads() > 1;
        let reader_options =
            ReaderOptions { tunnels: self.options.tunnels, decompress_ahead, ..ReaderOptions::default() };
        let reader = CaptureReader::open_with(&CaptureSource::from(path), &reader_options)?;
        let capture = match &self.arguments.relative_to {
            Some(folder) => within(path, folder)?,
            None => path.display().to_string(),
        };
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

/// Returns a capture's path relative to a folder, with `/` as separator; for a member of an archive, `!` and its name
/// follow.
fn within(path: &Path, folder: &Path) -> anyhow::Result<String> {
    let source = CaptureSource::from(path);
    let (file, root) = (source.file.canonicalize()?, folder.canonicalize()?);
    let Ok(rest) = file.strip_prefix(&root) else {
        anyhow::bail!("{}: not in {}, the folder given with --relative-to", path.display(), folder.display());
    };
    let parts: Vec<String> = rest.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let member = source.member.map_or(String::new(), |member| format!("!{member}"));
    Ok(format!("{}{member}", parts.join("/")))
}

/// Writes the flows of an experiment.
fn of_experiment(project: &Path, name: &str, arguments: &FeaturesArguments) -> anyhow::Result<Verdict> {
    let written = Written::new(arguments)?;
    let written_to = arguments.output.as_deref().map(output::announce).unwrap_or_default();
    let divided = Divided {
        experiment: name.into(),
        data: arguments.data.clone(),
        size: arguments.size.clone(),
        assignments: arguments.assignments.clone(),
        seeds: arguments.seeds.clone(),
        variants: arguments.variant.iter().cloned().collect(),
    };
    let experiment = divided.read(project)?;
    let least = written.kept(arguments);
    let progress = progress::for_standard_error();
    let settings = Divided::settings(project);
    let DividedFlows { mut header, mut flows, splits, has_packets } =
        experiment::divided_flows(&experiment, &settings, least, progress.as_ref())?;
    if !has_packets && (matches!(written.format, Format::Nprint | Format::Png) || !arguments.masks.is_empty()) {
        anyhow::bail!(
            "the dataset is published without packets from the IP header on, but this format and masks need them"
        );
    }
    if let (Columns::Of(tool), true) = (written.columns, header.statistic_names.len() < STATISTIC_NAMES.len()) {
        anyhow::bail!(
            "--columns {}: some statistics of the dataset's flows are unknown (its times are invented or not \
             published, or its flows truncated); use --columns own, which leaves these out",
            tool.name()
        );
    }
    if splits > 1 && written.format == Format::Png {
        anyhow::bail!("there are {splits} splits, but a folder of images has only one; choose one with --seeds");
    }
    for flow in &mut flows {
        if !arguments.masks.is_empty() {
            mask_flow(&mut flow.flow, &arguments.masks, arguments.mask_method, arguments.seed);
        }
        if arguments.no_statistics {
            flow.flow.statistics.clear();
        }
    }
    if arguments.no_statistics {
        header.statistic_names.clear();
    }
    let mut flows = flows.into_iter();
    let count = written.write(&header, &mut || Ok(flows.next()))?;
    say!("{} in {written_to}", counted(count, "flow"));
    Ok(Verdict::Done)
}

/// Writes the flows, and reports for each capture what was read and skipped.
pub(super) fn features(project: &Path, arguments: &FeaturesArguments) -> anyhow::Result<Verdict> {
    if let Some(name) = &arguments.experiment {
        return of_experiment(project, name, arguments);
    }
    let written = Written::new(arguments)?;
    let (kept_packets, kept_bytes) = written.kept(arguments);
    let options = FlowOptions {
        direction: arguments.direction,
        idle_timeout: arguments.idle_timeout,
        active_timeout: arguments.active_timeout,
        activity_timeout: arguments.activity_timeout,
        kept_packets,
        kept_bytes,
        tunnels: arguments.tunnels,
        statistics: !arguments.no_statistics,
    };
    options.validate()?;
    let captures = output::captures(&arguments.captures, arguments.output.as_deref())?;
    let written_to = arguments.output.as_deref().map(output::announce);
    let header = StoreHeader {
        datasets: vec![DATASET.to_owned()],
        label_columns: Vec::new(),
        added_columns: Vec::new(),
        statistic_names: if options.statistics {
            STATISTIC_NAMES.iter().map(|&name| name.to_owned()).collect()
        } else {
            Vec::new()
        },
        flow_options: options.clone(),
    };
    let job = Job { arguments, captures, options };
    let progress = progress::for_standard_error();
    let (read, count) = match &arguments.output {
        None => {
            let counter = Counter::default();
            (read_all(&job, &counter, progress.as_ref()), Ok(counter.count()))
        }
        Some(_) => std::thread::scope(|scope| {
            let (batches, mut received) = hand_over::channel();
            let (written, header) = (&written, &header);
            let writer = scope.spawn(move || written.write(header, &mut || received.next_flow()));
            let read = read_all(&job, &batches, progress.as_ref());
            if read.is_err() {
                batches.stop();
            }
            drop(batches);
            // If the writer failed, that is also why reading stopped.
            (read, writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        }),
    };
    match read {
        Ok(()) | Err(ReadError::WriterGone) => {}
        Err(ReadError::Capture(error)) => return Err(error),
    }
    match written_to {
        Some(output) => say!("{} in {output}", counted(count?, "flow")),
        None => say!("{}", counted(count?, "flow")),
    }
    Ok(Verdict::Done)
}

/// Why reading stopped.
enum ReadError {
    Capture(anyhow::Error),
    WriterGone,
}

/// Sends the flows of all captures in order: small captures are read in parallel, large ones one after another, each by
/// all threads.
fn read_all(job: &Job<'_>, taker: &dyn Taker, progress: &dyn Progress) -> Result<(), ReadError> {
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
                    gone = gone || !taker.take(flow);
                },
                &mut |packets| {
                    // A capture that is still being written may pause here.
                    taker.pass_on();
                    progress.note(&counted(packets, "packet"));
                },
            );
            if gone || !taker.pass_on() {
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
            if !flows.into_iter().all(|flow| taker.take(flow)) || !taker.pass_on() {
                return Err(ReadError::WriterGone);
            }
        }
    }
    progress.end();
    Ok(())
}

/// Returns how many of the next captures are read in parallel: as many as are small enough together, and at least one.
fn side_by_side(captures: &[PathBuf]) -> usize {
    let mut total: u64 = 0;
    let small = captures.iter().take_while(|path| {
        // The size of a member of an archive is unknown before it is read.
        total = total.saturating_add(std::fs::metadata(path).map_or(SIDE_BY_SIDE, |file| file.len()));
        total <= SIDE_BY_SIDE
    });
    small.count().max(1)
}

fn tell(path: &Path, summary: &CaptureSummary, flows: u64, progress: &dyn Progress) {
    progress.advance(1);
    progress.warn(&format!("{}: {}; {summary}", path.display(), counted(flows, "flow")));
}

//! `etcbench classify`: classifies the flows of any captures with a trained model.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::live::classify_live;
use super::{TOO_MANY_FLOWS, Verdict, output, progress, with_models};
use crate::capture::{CaptureReader, CaptureSource, ReaderOptions, Transport};
use crate::dataset::{FlowProvenance, LabelledFlow, Labels};
use crate::flow::{Flow, NumberedFlow, STATISTIC_NAMES, assemble_as_completed};
use crate::model::{Classification, ModelDescription, TrainedModel};
use crate::progress::{Progress, Silent};
use crate::report::{Cell, Column, Table};
use crate::storage::{self, counted};

/// `etcbench classify`.
#[derive(Args)]
#[command(after_help = with_models("Examples:
  etcbench run experiments/ustc-traffic.toml --models {OTHER} --seeds 1 --save-models
  etcbench classify results/ustc-traffic-.../models/random_split-{OTHER}-bytes-seed0.safetensors new.pcap
  etcbench classify MODEL captures/*.pcap.gz --format jsonl -o flows.jsonl
  etcbench classify MODEL capture.pcapng --probabilities | csvlook
  tcpdump -i eth0 -U -w - | etcbench classify MODEL -

Writes one line per flow, in the order of the captures and then in the order in which flows end, and a summary to
standard error. Standard input is treated as a capture that is still being written: a flow gets a line as soon as the
packets that the model reads have arrived (`event` is \"decision\"), and another when it ends (\"end\"); Ctrl-C ends
the capture. With `--decide-after end` there is one line per flow,as for a file.
Flows and features are built as in training, as recorded in the model's file. A flow that training would have left
out has no class, and `note` shows why. results/FORMAT.md documents every column."))]
pub(super) struct ClassifyArguments {
    /// A model saved by `etcbench run --save-models`.
    model: PathBuf,
    /// Captures, pcap or pcapng, optionally compressed (gzip, bzip2, xz, zstd) or in a zip archive
    /// (archive.zip!capture.pcap); `-` is standard input.
    #[arg(required = true)]
    captures: Vec<PathBuf>,
    /// The file to write, atomically; standard output by default or if it is `-`.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Output format; by default determined by the output's name, otherwise CSV.
    #[arg(long, value_name = "FORMAT", value_enum)]
    format: Option<Format>,
    /// When a flow is decided; by default after `packets` for standard input, and at its `end` otherwise.
    #[arg(long, value_name = "WHEN", value_enum)]
    decide_after: Option<DecideAfter>,
    /// Write the probability of every class, not only of the most likely one.
    #[arg(long)]
    probabilities: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DecideAfter {
    /// As soon as the packets that the model reads have arrived, or at the end of a flow with fewer packets.
    Packets,
    /// When the flow ends: by its timeouts, or with the capture.
    End,
}

/// Why a line is written.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// The flow can be decided, but has not ended.
    Decision,
    /// The flow has ended.
    End,
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::End => "end",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object per line.
    Jsonl,
}

/// One line of output; `results/FORMAT.md` documents its fields.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Event>,
    flow_id: String,
    source: String,
    destination: String,
    transport: &'static str,
    start: i64,
    end: i64,
    packets: u64,
    bytes: u64,
    class: Option<&'a str>,
    probability: Option<f32>,
    note: Option<&'static str>,
}

const COLUMNS: [&str; 11] = [
    "flow_id",
    "source",
    "destination",
    "transport",
    "start",
    "end",
    "packets",
    "bytes",
    "class",
    "probability",
    "note",
];

/// Writes a line per flow of every capture and prints a summary.
pub(super) fn classify(arguments: &ClassifyArguments) -> anyhow::Result<Verdict> {
    let model = TrainedModel::read(&arguments.model)?;
    let format = arguments.format.unwrap_or(match arguments.output.as_deref().and_then(Path::extension) {
        Some(extension) if extension == "jsonl" => Format::Jsonl,
        _ => Format::Csv,
    });
    let captures = output::captures(&arguments.captures, arguments.output.as_deref())?;
    let is_live = |path: &Path| path == Path::new("/dev/stdin");
    let decide_after = arguments.decide_after.unwrap_or(match captures.iter().any(|path| is_live(path)) {
        true => DecideAfter::Packets,
        false => DecideAfter::End,
    });
    let early = decide_after == DecideAfter::Packets;
    // Lines to standard output are written immediately rather than after all captures are read.
    let file = arguments.output.as_deref().filter(|path| !storage::is_standard_output(path));
    let progress = progress::for_standard_error();
    let mut summary = Summary::new(model.description());
    let mut write = |output: &mut dyn Write| -> anyhow::Result<()> {
        let mut lines = Lines::new(output, format, &model, (arguments.probabilities, early))?;
        progress.begin("captures", captures.len() as u64);
        for path in &captures {
            if early || is_live(path) {
                classify_live(path, early, &model, &mut lines, &mut summary, progress.as_ref())?;
            } else {
                classify_capture(path, &model, &mut lines, &mut summary, progress.as_ref())?;
            }
            progress.advance(1);
        }
        progress.end();
        Ok(())
    };
    match file {
        None => match write(&mut std::io::BufWriter::new(std::io::stdout().lock())) {
            Err(error) if is_broken_pipe(&error) => return Ok(Verdict::Done),
            written => written?,
        },
        Some(path) => {
            let mut failed = None;
            let written = storage::write_whole_with(path, |file| {
                write(file).map_err(|error| {
                    failed = Some(error);
                    std::io::Error::other("stopped")
                })
            });
            if let Some(error) = failed {
                return Err(error);
            }
            written.with_context(|| path.display().to_string())?;
        }
    }
    tell!("{}", summary.table().to_markdown());
    Ok(Verdict::Done)
}

/// Extracts the I/O error of the output, so that a closed pipe is recognized.
fn of_writing(error: csv::Error) -> std::io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => std::io::Error::other(format!("{other:?}")),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Classifies flows as they are completed, some hundred at a time, so memory only holds the active ones.
fn classify_capture(
    path: &Path,
    model: &TrainedModel,
    lines: &mut Lines<'_>,
    summary: &mut Summary,
    progress: &dyn Progress,
) -> anyhow::Result<()> {
    let options = &model.description().flow;
    let reader_options = ReaderOptions { tunnels: options.tunnels, ..ReaderOptions::default() };
    let reader = CaptureReader::open_with(&CaptureSource::from(path), &reader_options)?;
    let capture = path.display().to_string();
    let most = model.flows_at_a_time();
    let mut waiting: Vec<LabelledFlow> = Vec::with_capacity(most);
    let mut flows: u64 = 0;
    let mut failed = None;
    let mut ask = |waiting: &mut Vec<LabelledFlow>| -> anyhow::Result<()> {
        for (flow, answer) in waiting.iter().zip(model.classify(waiting, &Silent)?) {
            summary.add(&answer);
            lines.write(Event::End, flow, &answer)?;
        }
        waiting.clear();
        Ok(lines.flush()?)
    };
    let mut add = |flow: NumberedFlow| {
        if failed.is_some() {
            return;
        }
        flows += 1;
        match labelled(flow, &capture) {
            Ok(flow) => waiting.push(flow),
            Err(error) => failed = Some(error),
        }
        if waiting.len() >= most {
            failed = ask(&mut waiting).err();
        }
    };
    let read =
        assemble_as_completed(reader, options, &mut add, &mut |packets| progress.note(&counted(packets, "packet")));
    if let Some(error) = failed {
        return Err(error);
    }
    let read = read?;
    ask(&mut waiting)?;
    progress.warn(&format!("{capture}: {}; {read}", counted(flows, "flow")));
    Ok(())
}

/// Converts a flow of a capture to the form that models classify.
pub(super) fn labelled(NumberedFlow { number, flow }: NumberedFlow, capture: &str) -> anyhow::Result<LabelledFlow> {
    let Flow { five_tuple, start, end, .. } = flow;
    let number = u32::try_from(number).map_err(|_| anyhow::anyhow!("{capture}: {TOO_MANY_FLOWS}"))?;
    let provenance = FlowProvenance { capture: capture.to_owned(), number, five_tuple, start, end, packet: None };
    Ok(LabelledFlow { provenance, labels: Labels::new(), flow })
}

/// Writes lines in one of the formats.
pub(super) struct Lines<'a> {
    rows: Rows<'a>,
    model: &'a TrainedModel,
    probabilities: bool,
    /// Whether lines include their event.
    events: bool,
}

enum Rows<'a> {
    Csv(Box<csv::Writer<&'a mut dyn Write>>),
    Jsonl(&'a mut dyn Write),
}

impl<'a> Lines<'a> {
    fn new(
        output: &'a mut dyn Write,
        format: Format,
        model: &'a TrainedModel,
        (probabilities, events): (bool, bool),
    ) -> anyhow::Result<Self> {
        let rows = match format {
            Format::Jsonl => Rows::Jsonl(output),
            Format::Csv => {
                let mut header: Vec<String> = events.then(|| "event".to_owned()).into_iter().collect();
                header.extend(COLUMNS.map(str::to_owned));
                if probabilities {
                    header.extend(model.description().classes.iter().map(|class| format!("probability_{class}")));
                }
                let mut writer = csv::Writer::from_writer(output);
                writer.write_record(&header).map_err(of_writing)?;
                Rows::Csv(Box::new(writer))
            }
        };
        Ok(Self { rows, model, probabilities, events })
    }

    /// Flushes, so that whoever follows the output sees every line.
    pub(super) fn flush(&mut self) -> std::io::Result<()> {
        match &mut self.rows {
            Rows::Csv(writer) => writer.flush(),
            Rows::Jsonl(output) => output.flush(),
        }
    }

    pub(super) fn write(&mut self, event: Event, flow: &LabelledFlow, answer: &Classification) -> anyhow::Result<()> {
        let classes = &self.model.description().classes;
        let statistic = |name: &str| {
            let column = STATISTIC_NAMES.iter().position(|other| *other == name);
            column.map_or(0, |column| flow.flow.statistics[column] as u64)
        };
        let (class, probability, note) = match answer {
            Classification::Probabilities(values) => {
                let best = likeliest(values);
                (Some(classes[best].as_str()), Some(values[best]), None)
            }
            Classification::Unusable(reason) => (None, None, Some(reason.name())),
        };
        let provenance = &flow.provenance;
        let event = self.events.then_some(event);
        let line = Line {
            event,
            flow_id: provenance.flow_id(),
            source: provenance.five_tuple.source.to_string(),
            destination: provenance.five_tuple.destination.to_string(),
            transport: match provenance.five_tuple.transport {
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
            },
            start: provenance.start,
            end: provenance.end,
            packets: statistic("packets"),
            bytes: statistic("bytes"),
            class,
            probability,
            note,
        };
        match &mut self.rows {
            Rows::Jsonl(output) => {
                let mut object = serde_json::to_value(&line)?;
                if let (true, Classification::Probabilities(values), Some(object)) =
                    (self.probabilities, answer, object.as_object_mut())
                {
                    let all = classes.iter().cloned().zip(values.iter().map(|&value| value.into()));
                    object.insert("probabilities".to_owned(), serde_json::Value::Object(all.collect()));
                }
                serde_json::to_writer(&mut *output, &object).map_err(std::io::Error::from)?;
                Ok(output.write_all(b"\n")?)
            }
            Rows::Csv(writer) => {
                let text = |value: Option<String>| value.unwrap_or_default();
                let mut fields: Vec<String> = event.map(|event| event.name().to_owned()).into_iter().collect();
                fields.extend([
                    line.flow_id,
                    line.source,
                    line.destination,
                    line.transport.to_owned(),
                    line.start.to_string(),
                    line.end.to_string(),
                    line.packets.to_string(),
                    line.bytes.to_string(),
                    text(class.map(str::to_owned)),
                    text(probability.map(|value| value.to_string())),
                    text(note.map(str::to_owned)),
                ]);
                if self.probabilities {
                    fields.extend((0..classes.len()).map(|class| match answer {
                        Classification::Probabilities(values) => values[class].to_string(),
                        Classification::Unusable(_) => String::new(),
                    }));
                }
                Ok(writer.write_record(&fields).map_err(of_writing)?)
            }
        }
    }
}

/// Returns the class with the highest probability, the lowest class if tied, as in evaluation.
fn likeliest(probabilities: &[f32]) -> usize {
    (1..probabilities.len())
        .fold(0, |best, class| if probabilities[class] > probabilities[best] { class } else { best })
}

/// Flows counted by class.
pub(super) struct Summary {
    title: String,
    /// For each class its name, number of flows, and the sum of the probabilities assigned to it.
    classes: Vec<(String, u64, f64)>,
    unusable: std::collections::BTreeMap<&'static str, u64>,
}

impl Summary {
    fn new(model: &ModelDescription) -> Self {
        let title = format!(
            "Flows by class, predicted by {} on {} of {} ({}, {}, seed {})",
            model.model.name(),
            model.input.name(),
            model.experiment,
            model.dataset,
            model.variant,
            model.seed
        );
        let classes = model.classes.iter().map(|name| (name.clone(), 0, 0.0)).collect();
        Self { title, classes, unusable: Default::default() }
    }

    pub(super) fn add(&mut self, answer: &Classification) {
        match answer {
            Classification::Probabilities(values) => {
                let best = likeliest(values);
                self.classes[best].1 += 1;
                self.classes[best].2 += f64::from(values[best]);
            }
            Classification::Unusable(reason) => *self.unusable.entry(reason.name()).or_default() += 1,
        }
    }

    fn table(&self) -> Table {
        let total: u64 = self.classes.iter().map(|(_, flows, _)| flows).sum();
        let mut table = Table {
            title: self.title.clone(),
            columns: vec![
                Column::text("class", "class"),
                Column::number("flows", "flows"),
                Column::number("share", "share"),
                Column::number("mean_probability", "mean probability"),
            ],
            ..Table::default()
        };
        for (name, flows, sum) in self.classes.iter().filter(|(_, flows, _)| *flows > 0) {
            table.rows.push(vec![
                Cell::Text(name.clone()),
                Cell::number(*flows as f64, 0),
                Cell::number(*flows as f64 / total as f64, 3),
                Cell::number(sum / *flows as f64, 3),
            ]);
        }
        table.notes.push(format!("{} classified.", counted(total, "flow")));
        for (reason, flows) in &self.unusable {
            table.notes.push(format!("{} not classified: {reason}.", counted(*flows, "flow")));
        }
        table.notes.push(
            "The model only knows its classes: a flow of any other kind is assigned the most likely of them, and a \
             high probability does not mean that it belongs there."
                .to_owned(),
        );
        table
    }
}

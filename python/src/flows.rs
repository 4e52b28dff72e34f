//! Flows of captures as a table, and their classification by a trained model.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, Int64Builder, StringBuilder, UInt16Builder, UInt32Builder};
use arrow_array::types::{Float32Type, Int64Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, ArrowPrimitiveType, Float64Array, PrimitiveArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use etcbench::capture::{CaptureReader, CaptureSummary, Transport};
use etcbench::dataset::{FlowProvenance, LabelledFlow, Labels};
use etcbench::feature::{Mask, MaskMethod, mask_flow};
use etcbench::flow::{FlowOptions, NumberedFlow, PacketDirection, Pairing, STATISTIC_NAMES, assemble_as_completed};
use etcbench::model::{Classification, TrainedModel};
use etcbench::progress::Silent;
use pyo3::prelude::*;
use rayon::prelude::*;

use crate::captures::{Sink, one_of, stream, tunnels};
use crate::raised;
use crate::table::Stream;

/// Number of flows in a batch.
const BATCH: usize = 1024;

/// Flows of a capture, with their classifications if there is a model.
struct Rows<'a> {
    flows: &'a [LabelledFlow],
    answers: &'a [Classification],
}

/// Builds one column from rows.
type OneColumn = Box<dyn Fn(&Rows<'_>) -> ArrayRef + Send + Sync>;

/// Builds several columns from rows in one pass.
type Make = Box<dyn Fn(&Rows<'_>) -> Vec<ArrayRef> + Send + Sync>;

/// The columns of a table, which build its batches. Columns that read the same part of a flow are built together: a
/// batch of flows is larger than a CPU cache, and every pass over it is memory-bound.
struct Columns(Vec<(Vec<Field>, Make)>);

impl Columns {
    fn add(&mut self, name: impl Into<String>, kind: DataType, nullable: bool, make: OneColumn) {
        self.0.push((vec![Field::new(name, kind, nullable)], Box::new(move |rows| vec![make(rows)])));
    }

    /// Adds a column of text that `write` writes.
    fn text(
        &mut self,
        name: &str,
        write: impl Fn(&LabelledFlow, &mut StringBuilder) -> std::fmt::Result + Send + Sync + 'static,
    ) {
        let make = move |rows: &Rows<'_>| {
            let mut builder = StringBuilder::with_capacity(rows.flows.len(), 16 * rows.flows.len());
            for flow in rows.flows {
                // Writing to a string builder cannot fail.
                let _ = write(flow, &mut builder);
                builder.append_value("");
            }
            Arc::new(builder.finish()) as ArrayRef
        };
        self.add(name, DataType::Utf8, false, Box::new(make));
    }

    fn number<T: ArrowPrimitiveType>(
        &mut self,
        name: &str,
        value: impl Fn(&LabelledFlow) -> T::Native + Send + Sync + 'static,
    ) {
        let make = move |rows: &Rows<'_>| {
            Arc::new(PrimitiveArray::<T>::from_iter_values(rows.flows.iter().map(&value))) as ArrayRef
        };
        self.add(name, T::DATA_TYPE, false, Box::new(make));
    }

    fn statistics(&mut self) {
        let name = |name: &&str| Field::new(format!("statistic_{name}"), DataType::Float64, false);
        let make = |rows: &Rows<'_>| {
            let mut columns: Vec<Vec<f64>> =
                STATISTIC_NAMES.iter().map(|_| Vec::with_capacity(rows.flows.len())).collect();
            for flow in rows.flows {
                for (column, &value) in columns.iter_mut().zip(&flow.flow.statistics) {
                    column.push(value);
                }
            }
            columns.into_iter().map(|column| Arc::new(Float64Array::from(column)) as ArrayRef).collect()
        };
        self.0.push((STATISTIC_NAMES.iter().map(name).collect(), Box::new(make)));
    }

    /// Adds the columns of the kept packet `k`, null if a flow has fewer packets.
    fn packet(&mut self, k: usize) {
        let kinds = [
            ("bytes", DataType::Binary),
            ("time_ns", DataType::Int64),
            ("wire_length", DataType::UInt32),
            ("direction", DataType::Utf8),
            ("transport_offset", DataType::UInt16),
            ("payload_offset", DataType::UInt16),
        ];
        let fields = kinds.map(|(name, kind)| Field::new(format!("packet_{k}_{name}"), kind, true)).to_vec();
        let make = move |rows: &Rows<'_>| {
            let count = rows.flows.len();
            let packets = || rows.flows.iter().map(|flow| flow.flow.packets.get(k));
            let size = packets().flatten().map(|packet| packet.bytes.len()).sum();
            let mut bytes = BinaryBuilder::with_capacity(count, size);
            let (mut time, mut length) = (Int64Builder::with_capacity(count), UInt32Builder::with_capacity(count));
            let mut direction = StringBuilder::with_capacity(count, 8 * count);
            let [mut transport, mut payload] = [(); 2].map(|()| UInt16Builder::with_capacity(count));
            for packet in packets() {
                bytes.append_option(packet.map(|packet| &packet.bytes));
                time.append_option(packet.map(|packet| packet.timestamp));
                length.append_option(packet.map(|packet| packet.wire_length));
                direction.append_option(packet.map(|packet| match packet.direction {
                    PacketDirection::Forward => "forward",
                    PacketDirection::Backward => "backward",
                }));
                transport.append_option(packet.map(|packet| packet.layout.transport_offset));
                payload.append_option(packet.map(|packet| packet.layout.payload_offset));
            }
            vec![
                Arc::new(bytes.finish()) as ArrayRef,
                Arc::new(time.finish()),
                Arc::new(length.finish()),
                Arc::new(direction.finish()),
                Arc::new(transport.finish()),
                Arc::new(payload.finish()),
            ]
        };
        self.0.push((fields, Box::new(make)));
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.0.iter().flat_map(|(fields, _)| fields.clone()).collect::<Vec<_>>()))
    }

    fn batch(&self, schema: &SchemaRef, rows: &Rows<'_>) -> Result<RecordBatch, arrow_schema::ArrowError> {
        let arrays: Vec<Vec<ArrayRef>> = self.0.par_iter().map(|(_, make)| make(rows)).collect();
        RecordBatch::try_new(schema.clone(), arrays.concat())
    }

    /// Returns the columns of `etcbench features`, except `dataset`; results/FORMAT.md describes them.
    fn of_flows(options: &FlowOptions) -> Self {
        let mut columns = Self(Vec::new());
        columns.text("capture", |flow, text| text.write_str(&flow.provenance.capture));
        columns.number::<UInt32Type>("number", |flow| flow.provenance.number);
        columns.text("source_address", |flow, text| write!(text, "{}", flow.provenance.five_tuple.source.ip()));
        columns.number::<UInt16Type>("source_port", |flow| flow.provenance.five_tuple.source.port());
        columns
            .text("destination_address", |flow, text| write!(text, "{}", flow.provenance.five_tuple.destination.ip()));
        columns.number::<UInt16Type>("destination_port", |flow| flow.provenance.five_tuple.destination.port());
        columns.text("transport", |flow, text| text.write_str(transport(flow.provenance.five_tuple.transport)));
        columns.number::<Int64Type>("start_ns", |flow| flow.provenance.start);
        columns.number::<Int64Type>("end_ns", |flow| flow.provenance.end);
        if options.statistics {
            columns.statistics();
        }
        columns.number::<UInt32Type>("packet_count", |flow| flow.flow.packets.len() as u32);
        (0..options.kept_packets).for_each(|k| columns.packet(k));
        columns
    }

    /// Returns the columns of `etcbench classify`.
    fn of_answers(classes: &[String], probabilities: bool) -> Self {
        let mut columns = Self(Vec::new());
        let statistic = |name: &str| {
            let column = STATISTIC_NAMES.iter().position(|other| *other == name).unwrap_or_default();
            move |flow: &LabelledFlow| flow.flow.statistics[column] as u64
        };
        columns.text("flow_id", |flow, text| text.write_str(&flow.provenance.flow_id()));
        columns.text("source", |flow, text| write!(text, "{}", flow.provenance.five_tuple.source));
        columns.text("destination", |flow, text| write!(text, "{}", flow.provenance.five_tuple.destination));
        columns.text("transport", |flow, text| text.write_str(transport(flow.provenance.five_tuple.transport)));
        columns.number::<Int64Type>("start", |flow| flow.provenance.start);
        columns.number::<Int64Type>("end", |flow| flow.provenance.end);
        columns.number::<UInt64Type>("packets", statistic("packets"));
        columns.number::<UInt64Type>("bytes", statistic("bytes"));
        let names = classes.to_vec();
        let class = move |rows: &Rows<'_>| {
            let values = rows.answers.iter().map(|answer| likeliest(answer).map(|(class, _)| names[class].as_str()));
            Arc::new(StringArray::from_iter(values)) as ArrayRef
        };
        columns.add("class", DataType::Utf8, true, Box::new(class));
        let probability = |rows: &Rows<'_>| {
            let values = rows.answers.iter().map(|answer| likeliest(answer).map(|(_, value)| value));
            Arc::new(PrimitiveArray::<Float32Type>::from_iter(values)) as ArrayRef
        };
        columns.add("probability", DataType::Float32, true, Box::new(probability));
        let note = |rows: &Rows<'_>| {
            let values = rows.answers.iter().map(|answer| match answer {
                Classification::Probabilities(_) => None,
                Classification::Unusable(reason) => Some(reason.name()),
            });
            Arc::new(StringArray::from_iter(values)) as ArrayRef
        };
        columns.add("note", DataType::Utf8, true, Box::new(note));
        for (index, name) in classes.iter().enumerate().filter(|_| probabilities) {
            let one = move |rows: &Rows<'_>| {
                let values = rows.answers.iter().map(|answer| match answer {
                    Classification::Probabilities(values) => Some(values[index]),
                    Classification::Unusable(_) => None,
                });
                Arc::new(PrimitiveArray::<Float32Type>::from_iter(values)) as ArrayRef
            };
            columns.add(format!("probability_{name}"), DataType::Float32, true, Box::new(one));
        }
        columns
    }
}

/// Returns the name of a transport protocol.
pub(crate) fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

/// Returns the class with the highest probability, the lowest class on ties, as in evaluation.
fn likeliest(answer: &Classification) -> Option<(usize, f32)> {
    let Classification::Probabilities(values) = answer else { return None };
    let best = (1..values.len()).fold(0, |best, class| if values[class] > values[best] { class } else { best });
    Some((best, values[best]))
}

/// Passes the flows of a capture to `give`, up to `most` at a time.
fn read_flows(
    path: &Path,
    reader: CaptureReader,
    options: &FlowOptions,
    most: usize,
    mut change: impl FnMut(&mut etcbench::flow::Flow),
    mut give: impl FnMut(&[LabelledFlow]),
) -> anyhow::Result<CaptureSummary> {
    let capture = path.display().to_string();
    let mut waiting: Vec<LabelledFlow> = Vec::new();
    let mut unnumbered = false;
    let mut add = |NumberedFlow { number, mut flow }: NumberedFlow| {
        let Ok(number) = u32::try_from(number) else {
            unnumbered = true;
            return;
        };
        change(&mut flow);
        let (five_tuple, start, end) = (flow.five_tuple, flow.start, flow.end);
        let provenance = FlowProvenance { capture: capture.clone(), number, five_tuple, start, end, packet: None };
        waiting.push(LabelledFlow { provenance, labels: Labels::new(), flow });
        if waiting.len() >= most {
            give(&waiting);
            waiting.clear();
        }
    };
    let summary = assemble_as_completed(reader, options, &mut add, &mut |_| {})?;
    anyhow::ensure!(
        !unnumbered,
        "{capture}: more than 4,294,967,295 flows in one capture; split it, for example by time"
    );
    if !waiting.is_empty() {
        give(&waiting);
    }
    Ok(summary)
}

/// Returns the flows of captures as a stream; `etcbench.flows` documents the arguments.
#[pyfunction]
#[pyo3(signature = (captures, *, direction, idle_timeout, active_timeout, activity_timeout, tunnels, packets, bytes, statistics, masks, mask_method, seed))]
#[expect(clippy::too_many_arguments, reason = "arguments are passed by name")]
pub(crate) fn flows(
    captures: Vec<PathBuf>,
    direction: &str,
    idle_timeout: Option<f64>,
    active_timeout: Option<f64>,
    activity_timeout: Option<f64>,
    tunnels: &str,
    packets: Option<usize>,
    bytes: Option<usize>,
    statistics: bool,
    masks: Vec<String>,
    mask_method: &str,
    seed: u64,
) -> PyResult<Stream> {
    let pairings = [("bidirectional", Pairing::Bidirectional), ("unidirectional", Pairing::Unidirectional)];
    let methods = [("zero", MaskMethod::Zero), ("randomise", MaskMethod::Randomise)];
    let defaults = FlowOptions::default();
    let options = FlowOptions {
        direction: one_of("direction", direction, &pairings).map_err(raised)?,
        tunnels: self::tunnels(tunnels).map_err(raised)?,
        idle_timeout: idle_timeout.unwrap_or(defaults.idle_timeout),
        active_timeout: active_timeout.unwrap_or(defaults.active_timeout),
        activity_timeout: activity_timeout.unwrap_or(defaults.activity_timeout),
        kept_packets: packets.unwrap_or(defaults.kept_packets),
        kept_bytes: bytes.unwrap_or(defaults.kept_bytes),
        statistics,
    };
    options.validate().map_err(raised)?;
    let known = Mask::ALL.map(|mask| (mask.name(), mask));
    let masks: Vec<Mask> =
        masks.iter().map(|name| one_of("mask", name, &known)).collect::<Result<_, _>>().map_err(raised)?;
    let method = one_of("mask_method", mask_method, &methods).map_err(raised)?;
    let columns = Columns::of_flows(&options);
    let schema = columns.schema();
    let tunnels = options.tunnels;
    let state = (options, columns, schema.clone());
    stream(captures, tunnels, schema, state, move |path, reader, (options, columns, schema), sink: &Sink| {
        let mut count: u64 = 0;
        let change = |flow: &mut etcbench::flow::Flow| {
            if !masks.is_empty() {
                mask_flow(flow, &masks, method, seed);
            }
        };
        let summary = read_flows(path, reader, options, BATCH, change, |flows| {
            count += flows.len() as u64;
            sink.send(columns.batch(schema, &Rows { flows, answers: &[] }));
        })?;
        Ok(format!("{count} flows; {summary}"))
    })
}

/// Returns the flows of captures, classified by a trained model, as a stream; `etcbench.classify` documents the
/// arguments.
#[pyfunction]
#[pyo3(signature = (model, captures, *, probabilities))]
pub(crate) fn classify(
    py: Python<'_>,
    model: PathBuf,
    captures: Vec<PathBuf>,
    probabilities: bool,
) -> PyResult<Stream> {
    let model = py.detach(|| TrainedModel::read(&model)).map_err(raised)?;
    let columns = Columns::of_answers(&model.description().classes, probabilities);
    let schema = columns.schema();
    let tunnels = model.description().flow.tunnels;
    let state = (std::sync::Mutex::new(model), columns, schema.clone());
    stream(captures, tunnels, schema, state, |path, reader, (model, columns, schema), sink| {
        let model = model.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut count: u64 = 0;
        let mut failed = None;
        let options = &model.description().flow;
        let summary = read_flows(
            path,
            reader,
            options,
            model.flows_at_a_time(),
            |_| {},
            |flows| {
                if failed.is_some() {
                    return;
                }
                count += flows.len() as u64;
                match model.classify(flows, &Silent) {
                    Ok(answers) => sink.send(columns.batch(schema, &Rows { flows, answers: &answers })),
                    Err(error) => failed = Some(error),
                }
            },
        );
        if let Some(error) = failed {
            return Err(error.into());
        }
        Ok(format!("{count} flows; {}", summary?))
    })
}

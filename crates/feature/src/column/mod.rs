//! The columns of the feature store: names, types, and conversions between flows and rows.

mod write;

use std::net::SocketAddr;

use parquet::basic::{ConvertedType, Repetition, Type as Physical};
use parquet::column::reader::{ColumnReader, get_typed_column_reader};
use parquet::data_type::{ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::Result as ParquetResult;
use parquet::schema::types::{ColumnDescriptor, Type};

pub(super) use write::{statistics, write};

use super::store::StoreHeader;
use super::tool::{Tool, ToolColumn};
use etcbench_capture::{HeaderLayout, Transport};
use etcbench_dataset::{FlowProvenance, LabelledFlow, Labels};
use etcbench_flow::{FiveTuple, Flow, FlowPacket, PacketDirection};

/// Number of fixed columns: those before the labels, and the packet count after the statistics.
const FIXED: usize = 11;
const PER_PACKET: usize = 6;

/// A column, by its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Dataset,
    Capture,
    Number,
    SourceAddress,
    SourcePort,
    DestinationAddress,
    DestinationPort,
    Transport,
    Start,
    End,
    Label(usize),
    /// A column added by an experiment: the class, or a part.
    Added(usize),
    Statistic(usize),
    /// A column with a tool's own name.
    Tool(Tool, usize),
    PacketCount,
    PacketBytes(usize),
    PacketTime(usize),
    PacketWireLength(usize),
    PacketDirection(usize),
    PacketTransportOffset(usize),
    PacketPayloadOffset(usize),
}

/// The columns of a table of flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// All columns of etcbench.
    Own,
    /// The flow's identification, its labels, and the columns of a tool, with the tool's names.
    Of(Tool),
}

impl Columns {
    /// Returns the columns in order.
    pub(super) fn fields(self, header: &StoreHeader) -> Vec<Field> {
        match self {
            Columns::Own => Field::all(header),
            Columns::Of(tool) => {
                let labels = (0..header.label_columns.len()).map(Field::Label);
                let added = (0..header.added_columns.len()).map(Field::Added);
                let own = [Field::Dataset, Field::Capture, Field::Number].into_iter().chain(labels).chain(added);
                own.chain((0..tool.columns().len()).map(|place| Field::Tool(tool, place))).collect()
            }
        }
    }
}

/// Prefix that distinguishes added columns from label columns among a flow's labels.
const ADDED: &str = "added: ";

/// Returns the key of an added column's value among a flow's labels.
pub fn added_key(column: &str) -> String {
    format!("{ADDED}{column}")
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bytes(Vec<u8>),
    Integer(i64),
    Double(f64),
}

fn text(value: &str) -> Value {
    Value::Bytes(value.as_bytes().to_vec())
}

impl Field {
    /// Returns the number of columns of a store, or `None` if it overflows.
    pub(crate) fn count(header: &StoreHeader) -> Option<usize> {
        let packets = header.flow_options.kept_packets.checked_mul(PER_PACKET)?;
        packets
            .checked_add(FIXED + header.label_columns.len() + header.added_columns.len() + header.statistic_names.len())
    }

    /// Returns all columns in order.
    pub(crate) fn all(header: &StoreHeader) -> Vec<Field> {
        use Field::*;
        let mut fields = vec![
            Dataset,
            Capture,
            Number,
            SourceAddress,
            SourcePort,
            DestinationAddress,
            DestinationPort,
            Transport,
            Start,
            End,
        ];
        fields.extend((0..header.label_columns.len()).map(Label));
        fields.extend((0..header.added_columns.len()).map(Added));
        fields.extend((0..header.statistic_names.len()).map(Statistic));
        fields.push(PacketCount);
        for k in 0..header.flow_options.kept_packets {
            fields.extend([
                PacketBytes(k),
                PacketTime(k),
                PacketWireLength(k),
                PacketDirection(k),
                PacketTransportOffset(k),
                PacketPayloadOffset(k),
            ]);
        }
        fields
    }

    pub(crate) fn name(self, header: &StoreHeader) -> String {
        match self {
            Field::Dataset => "dataset".to_owned(),
            Field::Capture => "capture".to_owned(),
            Field::Number => "number".to_owned(),
            Field::SourceAddress => "source_address".to_owned(),
            Field::SourcePort => "source_port".to_owned(),
            Field::DestinationAddress => "destination_address".to_owned(),
            Field::DestinationPort => "destination_port".to_owned(),
            Field::Transport => "transport".to_owned(),
            Field::Start => "start_ns".to_owned(),
            Field::End => "end_ns".to_owned(),
            Field::Label(index) => format!("label_{}", header.label_columns[index]),
            Field::Added(index) => header.added_columns[index].clone(),
            Field::Statistic(index) => format!("statistic_{}", header.statistic_names[index]),
            Field::Tool(..) => self.of_tool().map_or_else(String::new, |column| column.name.to_owned()),
            Field::PacketCount => "packet_count".to_owned(),
            Field::PacketBytes(k) => format!("packet_{k}_bytes"),
            Field::PacketTime(k) => format!("packet_{k}_time_ns"),
            Field::PacketWireLength(k) => format!("packet_{k}_wire_length"),
            Field::PacketDirection(k) => format!("packet_{k}_direction"),
            Field::PacketTransportOffset(k) => format!("packet_{k}_transport_offset"),
            Field::PacketPayloadOffset(k) => format!("packet_{k}_payload_offset"),
        }
    }

    /// Returns the physical type, the annotation, and whether the column is nullable.
    pub(crate) fn kind(self) -> (Physical, ConvertedType, bool) {
        use ConvertedType::{NONE, UINT_16, UINT_32, UTF8};
        if let Some(column) = self.of_tool() {
            let (physical, converted) = column.kind();
            return (physical, converted, false);
        }
        match self {
            Field::Dataset | Field::Capture | Field::SourceAddress | Field::DestinationAddress | Field::Transport => {
                (Physical::BYTE_ARRAY, UTF8, false)
            }
            Field::Number | Field::PacketCount => (Physical::INT32, UINT_32, false),
            Field::SourcePort | Field::DestinationPort => (Physical::INT32, UINT_16, false),
            Field::Start | Field::End => (Physical::INT64, NONE, false),
            Field::Label(_) | Field::Added(_) | Field::PacketDirection(_) => (Physical::BYTE_ARRAY, UTF8, true),
            Field::Statistic(_) | Field::Tool(..) => (Physical::DOUBLE, NONE, false),
            Field::PacketBytes(_) => (Physical::BYTE_ARRAY, NONE, true),
            Field::PacketTime(_) => (Physical::INT64, NONE, true),
            Field::PacketWireLength(_) => (Physical::INT32, UINT_32, true),
            Field::PacketTransportOffset(_) | Field::PacketPayloadOffset(_) => (Physical::INT32, UINT_16, true),
        }
    }

    /// Returns the tool's column, if this is one.
    fn of_tool(self) -> Option<&'static ToolColumn> {
        match self {
            Field::Tool(tool, place) => tool.columns().get(place),
            _ => None,
        }
    }

    /// Returns whether values repeat enough for a dictionary to be worthwhile.
    pub(crate) fn repeats(self) -> bool {
        match self {
            Field::Start | Field::End | Field::Statistic(_) | Field::PacketBytes(_) | Field::PacketTime(_) => false,
            Field::Tool(..) => self.is_text(),
            _ => true,
        }
    }

    /// Returns whether the column's bytes are text.
    pub(crate) fn is_text(self) -> bool {
        self.kind().1 == ConvertedType::UTF8
    }

    /// Returns whether a file's column matches this one.
    pub(crate) fn fits(self, header: &StoreHeader, column: &ColumnDescriptor) -> bool {
        let (physical, _, optional) = self.kind();
        column.path().parts() == [self.name(header)]
            && column.physical_type() == physical
            && column.max_def_level() == i16::from(optional)
            && column.max_rep_level() == 0
    }

    /// Returns the cell of a flow that passed [`check`].
    pub(crate) fn value(self, header: &StoreHeader, row: &LabelledFlow) -> Value {
        let (provenance, flow) = (&row.provenance, &row.flow);
        let packet = |k: usize, value: &dyn Fn(&FlowPacket) -> Value| flow.packets.get(k).map_or(Value::Null, value);
        match self {
            Field::Dataset => text(dataset_of(header, &provenance.capture).unwrap_or_default()),
            Field::Capture => text(&provenance.capture),
            Field::Number => Value::Integer(i64::from(provenance.number)),
            Field::SourceAddress => text(&provenance.five_tuple.source.ip().to_string()),
            Field::SourcePort => Value::Integer(i64::from(provenance.five_tuple.source.port())),
            Field::DestinationAddress => text(&provenance.five_tuple.destination.ip().to_string()),
            Field::DestinationPort => Value::Integer(i64::from(provenance.five_tuple.destination.port())),
            Field::Transport => text(transport_name(provenance.five_tuple.transport)),
            Field::Start => Value::Integer(provenance.start),
            Field::End => Value::Integer(provenance.end),
            Field::Label(index) => {
                row.labels.get(&header.label_columns[index]).map_or(Value::Null, |value| text(value))
            }
            Field::Added(index) => {
                let value = row.labels.get(&added_key(&header.added_columns[index]));
                value.map_or(Value::Null, |value| text(value))
            }
            Field::Statistic(index) => Value::Double(flow.statistics[index]),
            Field::Tool(..) => self.of_tool().map_or(Value::Null, |column| column.value(row)),
            Field::PacketCount => Value::Integer(flow.packets.len() as i64),
            Field::PacketBytes(k) => packet(k, &|packet| Value::Bytes(packet.bytes.clone())),
            Field::PacketTime(k) => packet(k, &|packet| Value::Integer(packet.timestamp)),
            Field::PacketWireLength(k) => packet(k, &|packet| Value::Integer(i64::from(packet.wire_length))),
            Field::PacketDirection(k) => packet(k, &|packet| text(direction_name(packet.direction))),
            Field::PacketTransportOffset(k) => {
                packet(k, &|packet| Value::Integer(i64::from(packet.layout.transport_offset)))
            }
            Field::PacketPayloadOffset(k) => {
                packet(k, &|packet| Value::Integer(i64::from(packet.layout.payload_offset)))
            }
        }
    }
}

fn direction_name(direction: PacketDirection) -> &'static str {
    match direction {
        PacketDirection::Forward => "forward",
        PacketDirection::Backward => "backward",
    }
}

pub(super) fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

fn dataset_of<'a>(header: &'a StoreHeader, capture: &str) -> Option<&'a str> {
    match header.datasets.as_slice() {
        [only] => Some(only),
        several => {
            let prefix = capture.split_once('/')?.0;
            several.iter().find(|name| *name == prefix).map(String::as_str)
        }
    }
}

/// Checks that a flow fits the header, so that storing it loses nothing.
pub(super) fn check(header: &StoreHeader, row: &LabelledFlow) -> Result<(), String> {
    let (id, flow) = (row.provenance.flow_id(), &row.flow);
    if dataset_of(header, &row.provenance.capture).is_none() {
        return Err(format!("flow {id} belongs to none of the datasets {}", header.datasets.join(", ")));
    }
    let is_added = |column: &str| {
        column.strip_prefix(ADDED).is_some_and(|column| header.added_columns.iter().any(|added| added == column))
    };
    let unknown = |column: &&String| !header.label_columns.contains(column) && !is_added(column);
    if let Some(column) = row.labels.keys().find(unknown) {
        return Err(format!("flow {id} has label column `{column}`, which is not in the header"));
    }
    let (found, named) = (flow.statistics.len(), header.statistic_names.len());
    if found != named {
        return Err(format!("flow {id} has {found} statistics, but the header lists {named}"));
    }
    if flow.packets.len() > header.flow_options.kept_packets {
        return Err(format!("flow {id} has more packets than `kept_packets`"));
    }
    let tuple = row.provenance.five_tuple;
    let same = flow.five_tuple == tuple && (flow.start, flow.end) == (row.provenance.start, row.provenance.end);
    if !same || flow.packets.iter().any(|packet| packet.layout.transport != tuple.transport) {
        return Err(format!("flow {id} contradicts its provenance"));
    }
    Ok(())
}

/// Returns the schema of a store.
pub(super) fn schema(header: &StoreHeader, columns: &[Field]) -> ParquetResult<Type> {
    let mut fields = Vec::new();
    for field in columns {
        let (physical, converted, optional) = field.kind();
        let repetition = if optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let name = field.name(header);
        let column = Type::primitive_type_builder(&name, physical).with_repetition(repetition);
        fields.push(std::sync::Arc::new(column.with_converted_type(converted).build()?));
    }
    Type::group_type_builder("flow").with_fields(fields).build()
}

/// Reads one column of a row group, including nulls.
pub(super) fn read(column: ColumnReader, field: &Field, rows: usize) -> ParquetResult<Vec<Value>> {
    let (physical, _, optional) = field.kind();
    match physical {
        Physical::BYTE_ARRAY => {
            read_typed::<ByteArrayType>(column, optional, rows, |value| Value::Bytes(value.data().to_vec()))
        }
        Physical::INT64 => read_typed::<Int64Type>(column, optional, rows, Value::Integer),
        Physical::DOUBLE => read_typed::<DoubleType>(column, optional, rows, Value::Double),
        _ => read_typed::<Int32Type>(column, optional, rows, |value| Value::Integer(i64::from(value as u32))),
    }
}

fn read_typed<T: DataType>(
    column: ColumnReader,
    optional: bool,
    rows: usize,
    convert: impl Fn(T::T) -> Value,
) -> ParquetResult<Vec<Value>> {
    let mut reader = get_typed_column_reader::<T>(column);
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    reader.read_records(rows, optional.then_some(&mut levels), None, &mut values)?;
    let mut values = values.into_iter().map(convert);
    if !optional {
        return Ok(values.collect());
    }
    Ok(levels
        .into_iter()
        .map(|level| if level == 0 { Value::Null } else { values.next().unwrap_or(Value::Null) })
        .collect())
}

/// A row's cells in column order, with typed accessors.
struct Row<'a> {
    header: &'a StoreHeader,
    cells: std::iter::Zip<std::slice::Iter<'a, Field>, std::vec::IntoIter<Value>>,
}

impl Row<'_> {
    fn fault(&self, field: Field) -> String {
        format!("column `{}` contains an invalid value", field.name(self.header))
    }

    fn next(&mut self) -> Result<(Field, Value), String> {
        self.cells.next().map(|(field, value)| (*field, value)).ok_or_else(|| "a row has too few columns".to_owned())
    }

    fn optional_text(&mut self) -> Result<Option<String>, String> {
        match self.next()? {
            (_, Value::Null) => Ok(None),
            (field, Value::Bytes(bytes)) => String::from_utf8(bytes).map(Some).map_err(|_| self.fault(field)),
            (field, _) => Err(self.fault(field)),
        }
    }

    fn parsed<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Result<T, String> {
        let (field, value) = self.next()?;
        let parsed = match &value {
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok().and_then(parse),
            _ => None,
        };
        parsed.ok_or_else(|| self.fault(field))
    }

    fn integer<T: TryFrom<i64>>(&mut self) -> Result<T, String> {
        match self.next()? {
            (field, Value::Integer(value)) => T::try_from(value).map_err(|_| self.fault(field)),
            (field, _) => Err(self.fault(field)),
        }
    }

    fn endpoint(&mut self) -> Result<SocketAddr, String> {
        let address = self.parsed(|text| text.parse().ok())?;
        Ok(SocketAddr::new(address, self.integer()?))
    }
}

/// Builds a flow from a row.
pub(super) fn assemble(header: &StoreHeader, fields: &[Field], values: Vec<Value>) -> Result<LabelledFlow, String> {
    let mut row = Row { header, cells: fields.iter().zip(values) };
    row.next()?; // `dataset` follows from the capture.
    let capture = row.parsed(|text| Some(text.to_owned()))?;
    let number = row.integer()?;
    let (source, destination) = (row.endpoint()?, row.endpoint()?);
    let transport =
        row.parsed(|text| [Transport::Tcp, Transport::Udp].into_iter().find(|one| transport_name(*one) == text))?;
    let five_tuple = FiveTuple { source, destination, transport };
    let (start, end) = (row.integer()?, row.integer()?);
    let mut labels = Labels::new();
    for column in &header.label_columns {
        if let Some(value) = row.optional_text()? {
            labels.insert(column.clone(), value);
        }
    }
    for column in &header.added_columns {
        if let Some(value) = row.optional_text()? {
            labels.insert(added_key(column), value);
        }
    }
    let mut statistics = Vec::with_capacity(header.statistic_names.len());
    for _ in &header.statistic_names {
        match row.next()? {
            (_, Value::Double(value)) => statistics.push(value),
            (field, _) => return Err(row.fault(field)),
        }
    }
    let count: usize = row.integer()?;
    if count > header.flow_options.kept_packets {
        return Err("column `packet_count` exceeds `kept_packets`".to_owned());
    }
    let mut packets = Vec::with_capacity(count);
    for _ in 0..count {
        let bytes = match row.next()? {
            (_, Value::Bytes(bytes)) => bytes,
            (field, _) => return Err(row.fault(field)),
        };
        let (timestamp, wire_length) = (row.integer()?, row.integer()?);
        let direction = row.parsed(|text| match text {
            "forward" => Some(PacketDirection::Forward),
            "backward" => Some(PacketDirection::Backward),
            _ => None,
        })?;
        let layout = HeaderLayout { transport_offset: row.integer()?, payload_offset: row.integer()?, transport };
        packets.push(FlowPacket { direction, timestamp, wire_length, bytes, layout });
    }
    Ok(LabelledFlow {
        provenance: FlowProvenance { capture, number, five_tuple, start, end, packet: None },
        labels,
        flow: Flow { five_tuple, start, end, packets, statistics },
    })
}

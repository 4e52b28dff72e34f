//! Our statistics under the names that flow meters use, if the definitions agree: maps each column of a tool to a
//! quantity of our flows. The tables of the tools are in separate files; a test keeps `results/FORMAT.md` consistent
//! with them.
//!
//! A tool's known bugs are not reproduced: if its documentation and its code differ, a column follows the
//! documentation. Flows are ours, assembled with the options of the command, so they end where ours end.

mod argus;
mod cicflowmeter;
mod nfstream;

use parquet::basic::{ConvertedType, Type as Physical};

use super::column::Value;
use etcbench_capture::Transport;
use etcbench_dataset::LabelledFlow;
use etcbench_flow::STATISTIC_NAMES;

/// A flow meter whose column names are supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// CICFlowMeter 4.
    Cicflowmeter,
    /// NFStream 6.
    Nfstream,
    /// Argus 5, with the column names of its client `ra`.
    Argus,
}

impl Tool {
    /// All tools.
    pub const ALL: [Tool; 3] = [Tool::Cicflowmeter, Tool::Nfstream, Tool::Argus];

    /// Returns the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Cicflowmeter => "cicflowmeter",
            Tool::Nfstream => "nfstream",
            Tool::Argus => "argus",
        }
    }

    /// Returns the columns that are written, in the tool's order.
    pub(super) fn columns(self) -> &'static [ToolColumn] {
        match self {
            Tool::Cicflowmeter => cicflowmeter::COLUMNS,
            Tool::Nfstream => nfstream::COLUMNS,
            Tool::Argus => argus::COLUMNS,
        }
    }

    /// Returns the columns that are not written, with the reason.
    #[cfg(test)]
    fn left_out(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Tool::Cicflowmeter => cicflowmeter::LEFT_OUT,
            Tool::Nfstream => nfstream::LEFT_OUT,
            Tool::Argus => argus::LEFT_OUT,
        }
    }
}

/// A column of a tool.
pub(super) struct ToolColumn {
    /// The tool's name for it.
    pub name: &'static str,
    quantity: Quantity,
    /// How and why the tool's own values differ; empty if they do not.
    #[cfg_attr(not(test), allow(dead_code, reason = "used by the test that checks the documentation's table"))]
    differs: &'static str,
}

/// The quantity of a flow in a column. Statistics are identified by their index in [`STATISTIC_NAMES`].
#[derive(Debug, Clone, Copy)]
enum Quantity {
    SourceAddress,
    SourcePort,
    DestinationAddress,
    DestinationPort,
    /// 6 or 17.
    Protocol,
    /// `tcp` or `udp`.
    Transport,
    /// 4 or 6.
    IpVersion,
    /// Time of the first packet, in seconds since the Unix epoch.
    StartSeconds,
    /// Time of the last packet, in seconds since the Unix epoch.
    EndSeconds,
    /// Time of the first packet, in whole units of this many nanoseconds since the Unix epoch.
    Start(i64),
    /// Time of the last packet, in the same units.
    End(i64),
    /// Difference between the last and the first packet's times, both in whole units of this many nanoseconds.
    Duration(i64),
    /// A statistic times a factor.
    Times(usize, f64),
    /// The sum of two statistics.
    Sum(usize, usize),
    /// The square of a statistic.
    Square(usize),
    /// A statistic per second of the flow's duration; 0 for flows without duration.
    PerSecond(usize),
}

/// Returns the index of a statistic, at compile time.
const fn place(name: &str) -> usize {
    let mut at = 0;
    while at < STATISTIC_NAMES.len() {
        let (one, other) = (STATISTIC_NAMES[at].as_bytes(), name.as_bytes());
        let mut byte = 0;
        while byte < one.len() && byte < other.len() && one[byte] == other[byte] {
            byte += 1;
        }
        if byte == one.len() && byte == other.len() {
            return at;
        }
        at += 1;
    }
    panic!("no statistic has this name")
}

const fn column(name: &'static str, quantity: Quantity) -> ToolColumn {
    ToolColumn { name, quantity, differs: "" }
}

/// An unchanged statistic.
const fn same(name: &'static str, statistic: &str) -> ToolColumn {
    times(name, statistic, 1.0)
}

const fn times(name: &'static str, statistic: &str, factor: f64) -> ToolColumn {
    column(name, Quantity::Times(place(statistic), factor))
}

/// The sum of a count over both directions.
const fn sum(name: &'static str, first: &str, second: &str) -> ToolColumn {
    column(name, Quantity::Sum(place(first), place(second)))
}

impl ToolColumn {
    const fn but(self, differs: &'static str) -> ToolColumn {
        ToolColumn { differs, ..self }
    }

    /// Returns the physical type and the annotation; columns are never null.
    pub(super) fn kind(&self) -> (Physical, ConvertedType) {
        match self.quantity {
            Quantity::SourceAddress | Quantity::DestinationAddress | Quantity::Transport => {
                (Physical::BYTE_ARRAY, ConvertedType::UTF8)
            }
            Quantity::SourcePort | Quantity::DestinationPort | Quantity::Protocol | Quantity::IpVersion => {
                (Physical::INT32, ConvertedType::UINT_16)
            }
            Quantity::Start(_) | Quantity::End(_) | Quantity::Duration(_) => (Physical::INT64, ConvertedType::NONE),
            _ => (Physical::DOUBLE, ConvertedType::NONE),
        }
    }

    /// Returns the cell of a flow that has all statistics.
    pub(super) fn value(&self, row: &LabelledFlow) -> Value {
        let provenance = &row.provenance;
        let tuple = &provenance.five_tuple;
        let statistics = &row.flow.statistics;
        let text = |text: String| Value::Bytes(text.into_bytes());
        let seconds = |time: i64| Value::Double(time as f64 / 1e9);
        match self.quantity {
            Quantity::SourceAddress => text(tuple.source.ip().to_string()),
            Quantity::SourcePort => Value::Integer(tuple.source.port().into()),
            Quantity::DestinationAddress => text(tuple.destination.ip().to_string()),
            Quantity::DestinationPort => Value::Integer(tuple.destination.port().into()),
            Quantity::Protocol => Value::Integer(match tuple.transport {
                Transport::Tcp => 6,
                Transport::Udp => 17,
            }),
            Quantity::Transport => text(super::column::transport_name(tuple.transport).to_owned()),
            Quantity::IpVersion => Value::Integer(if tuple.source.is_ipv4() { 4 } else { 6 }),
            Quantity::StartSeconds => seconds(provenance.start),
            Quantity::EndSeconds => seconds(provenance.end),
            Quantity::Start(unit) => Value::Integer(provenance.start.div_euclid(unit)),
            Quantity::End(unit) => Value::Integer(provenance.end.div_euclid(unit)),
            Quantity::Duration(unit) => {
                Value::Integer(provenance.end.div_euclid(unit) - provenance.start.div_euclid(unit))
            }
            Quantity::Times(place, factor) => Value::Double(statistics[place] * factor),
            Quantity::Sum(one, other) => Value::Double(statistics[one] + statistics[other]),
            Quantity::Square(place) => Value::Double(statistics[place] * statistics[place]),
            Quantity::PerSecond(place) => {
                let duration = statistics[const { self::place("duration") }];
                Value::Double(if duration > 0.0 { statistics[place] / duration } else { 0.0 })
            }
        }
    }

    /// Returns the corresponding quantity of ours, for the documentation.
    #[cfg(test)]
    fn ours(&self) -> String {
        let name = |place: usize| STATISTIC_NAMES[place];
        let unit = |unit: i64| if unit == 1_000 { "whole microseconds" } else { "whole milliseconds" };
        match self.quantity {
            Quantity::SourceAddress => "`source_address`".to_owned(),
            Quantity::SourcePort => "`source_port`".to_owned(),
            Quantity::DestinationAddress => "`destination_address`".to_owned(),
            Quantity::DestinationPort => "`destination_port`".to_owned(),
            Quantity::Protocol => "`transport` as 6 or 17".to_owned(),
            Quantity::Transport => "`transport`".to_owned(),
            Quantity::IpVersion => "4 or 6".to_owned(),
            Quantity::StartSeconds => "`start_ns` in seconds".to_owned(),
            Quantity::EndSeconds => "`end_ns` in seconds".to_owned(),
            Quantity::Start(of) => format!("`start_ns` in {}", unit(of)),
            Quantity::End(of) => format!("`end_ns` in {}", unit(of)),
            Quantity::Duration(of) => format!("`end_ns` - `start_ns`, each in {}", unit(of)),
            Quantity::Times(place, 1.0) => format!("`{}`", name(place)),
            Quantity::Times(place, factor) => format!("`{}` x {factor}", name(place)),
            Quantity::Sum(one, other) => format!("`{}` + `{}`", name(one), name(other)),
            Quantity::Square(place) => format!("`{}` squared", name(place)),
            Quantity::PerSecond(place) => format!("`{}` / `duration`", name(place)),
        }
    }
}

#[cfg(test)]
#[path = "../tool_tests.rs"]
mod tests;

//! CICFlowMeter 4 (Lashkari et al.): names from its `FlowFeature.java`, definitions from its `BasicFlow.java`. Its
//! lengths are those of payloads, its times are in microseconds.

use super::{Quantity, ToolColumn, column, place, same, sum, times};

const MICROSECONDS: f64 = 1e6;
const ZERO: &str = "NaN or Infinity there for a flow without duration, 0 here";
const TWICE: &str = "its code counts the first packet's length twice";
const PADDING: &str = "its code counts the padding of short Ethernet frames as payload";
const FIRST_ALONE: &str = "its code counts the first packet of the flow alone";

pub(super) const COLUMNS: &[ToolColumn] = &[
    column("Src IP", Quantity::SourceAddress),
    column("Src Port", Quantity::SourcePort),
    column("Dst IP", Quantity::DestinationAddress),
    column("Dst Port", Quantity::DestinationPort),
    column("Protocol", Quantity::Protocol),
    column("Flow Duration", Quantity::Duration(1_000)),
    same("Total Fwd Packet", "forward_packets"),
    same("Total Bwd packets", "backward_packets"),
    same("Total Length of Fwd Packet", "forward_payload_bytes").but(PADDING),
    same("Total Length of Bwd Packet", "backward_payload_bytes").but(PADDING),
    same("Fwd Packet Length Max", "forward_payload_length_max").but(PADDING),
    same("Fwd Packet Length Min", "forward_payload_length_min").but(PADDING),
    same("Fwd Packet Length Mean", "forward_payload_length_mean").but(PADDING),
    same("Fwd Packet Length Std", "forward_payload_length_std").but(PADDING),
    same("Bwd Packet Length Max", "backward_payload_length_max").but(PADDING),
    same("Bwd Packet Length Min", "backward_payload_length_min").but(PADDING),
    same("Bwd Packet Length Mean", "backward_payload_length_mean").but(PADDING),
    same("Bwd Packet Length Std", "backward_payload_length_std").but(PADDING),
    column("Flow Bytes/s", Quantity::PerSecond(place("payload_bytes"))).but(ZERO),
    same("Flow Packets/s", "packets_per_second").but(ZERO),
    times("Flow IAT Mean", "flow_interarrival_mean", MICROSECONDS),
    times("Flow IAT Std", "flow_interarrival_std", MICROSECONDS),
    times("Flow IAT Max", "flow_interarrival_max", MICROSECONDS),
    times("Flow IAT Min", "flow_interarrival_min", MICROSECONDS),
    times("Fwd IAT Total", "forward_interarrival_total", MICROSECONDS),
    times("Fwd IAT Mean", "forward_interarrival_mean", MICROSECONDS),
    times("Fwd IAT Std", "forward_interarrival_std", MICROSECONDS),
    times("Fwd IAT Max", "forward_interarrival_max", MICROSECONDS),
    times("Fwd IAT Min", "forward_interarrival_min", MICROSECONDS),
    times("Bwd IAT Total", "backward_interarrival_total", MICROSECONDS),
    times("Bwd IAT Mean", "backward_interarrival_mean", MICROSECONDS),
    times("Bwd IAT Std", "backward_interarrival_std", MICROSECONDS),
    times("Bwd IAT Max", "backward_interarrival_max", MICROSECONDS),
    times("Bwd IAT Min", "backward_interarrival_min", MICROSECONDS),
    same("Fwd PSH Flags", "forward_psh").but(FIRST_ALONE),
    same("Bwd PSH Flags", "backward_psh").but(FIRST_ALONE),
    same("Fwd URG Flags", "forward_urg").but(FIRST_ALONE),
    same("Bwd URG Flags", "backward_urg").but(FIRST_ALONE),
    same("Fwd Packets/s", "forward_packets_per_second"),
    same("Bwd Packets/s", "backward_packets_per_second"),
    same("Packet Length Min", "payload_length_min").but(PADDING),
    same("Packet Length Max", "payload_length_max").but(PADDING),
    same("Packet Length Mean", "payload_length_mean").but(TWICE),
    same("Packet Length Std", "payload_length_std").but(TWICE),
    column("Packet Length Variance", Quantity::Square(place("payload_length_std"))).but(TWICE),
    sum("FIN Flag Count", "forward_fin", "backward_fin"),
    sum("SYN Flag Count", "forward_syn", "backward_syn"),
    sum("RST Flag Count", "forward_rst", "backward_rst"),
    sum("PSH Flag Count", "forward_psh", "backward_psh"),
    sum("ACK Flag Count", "forward_ack", "backward_ack"),
    sum("URG Flag Count", "forward_urg", "backward_urg"),
    sum("CWR Flag Count", "forward_cwr", "backward_cwr"),
    sum("ECE Flag Count", "forward_ece", "backward_ece"),
    same("Down/Up Ratio", "down_up_packet_ratio").but("its code rounds down to a whole number"),
    same("Average Packet Size", "payload_length_mean").but(TWICE),
    same("Fwd Segment Size Avg", "forward_payload_length_mean").but(PADDING),
    same("Bwd Segment Size Avg", "backward_payload_length_mean").but(PADDING),
    same("FWD Init Win Bytes", "forward_initial_window"),
    same("Bwd Init Win Bytes", "backward_initial_window").but("its code has the window of the last packet"),
    same("Fwd Act Data Pkts", "forward_packets_with_payload").but("its code leaves out the first packet"),
    times("Active Mean", "active_mean", MICROSECONDS).but(LAST_PERIOD),
    times("Active Std", "active_std", MICROSECONDS).but(LAST_PERIOD),
    times("Active Max", "active_max", MICROSECONDS).but(LAST_PERIOD),
    times("Active Min", "active_min", MICROSECONDS).but(LAST_PERIOD),
    times("Idle Mean", "idle_mean", MICROSECONDS),
    times("Idle Std", "idle_std", MICROSECONDS),
    times("Idle Max", "idle_max", MICROSECONDS),
    times("Idle Min", "idle_min", MICROSECONDS),
];

const LAST_PERIOD: &str = "its code leaves out the last active period";

#[cfg(test)]
pub(super) const LEFT_OUT: &[(&str, &str)] = &[
    ("Flow ID", "the columns `capture` and `number` are ours; its own turns endpoints by the order of addresses"),
    ("Timestamp", "local time without a zone there; `start_ns` is ours"),
    (
        "Fwd Header Length, Bwd Header Length, Fwd Seg Size Min",
        "transport headers alone there, ours with the IP header",
    ),
    (
        "Fwd Bytes/Bulk Avg, Fwd Packet/Bulk Avg, Fwd Bulk Rate Avg, Bwd Bytes/Bulk Avg, Bwd Packet/Bulk Avg, \
         Bwd Bulk Rate Avg",
        "bulks are not measured here",
    ),
    (
        "Subflow Fwd Packets, Subflow Fwd Bytes, Subflow Bwd Packets, Subflow Bwd Bytes",
        "subflows are not measured here",
    ),
    ("Label", "labels are columns of their own, `label_NAME`"),
];

//! Argus 5 (QoSient), with the column names of its client `ra` and the definitions of its manual. Its lengths are those
//! of frames including the link layer, so its columns of bytes, loads and packet sizes differ from ours; its columns of
//! application bytes match.

use super::{Quantity, ToolColumn, column, same, times};

const MILLISECONDS: f64 = 1e3;
const OURS: &str = "its records also end by its own status timers; with one record a flow they agree";

pub(super) const COLUMNS: &[ToolColumn] = &[
    column("StartTime", Quantity::StartSeconds).but("seconds since the Unix epoch, as `ra -u` prints"),
    column("LastTime", Quantity::EndSeconds).but("seconds since the Unix epoch, as `ra -u` prints"),
    same("Dur", "duration").but(OURS),
    column("Proto", Quantity::Transport),
    column("SrcAddr", Quantity::SourceAddress),
    column("Sport", Quantity::SourcePort).but("a number, as `ra -n` prints"),
    column("DstAddr", Quantity::DestinationAddress),
    column("Dport", Quantity::DestinationPort).but("a number, as `ra -n` prints"),
    same("TotPkts", "packets").but(OURS),
    same("SrcPkts", "forward_packets").but(OURS),
    same("DstPkts", "backward_packets").but(OURS),
    same("TotAppBytes", "payload_bytes").but(OURS),
    same("SAppBytes", "forward_payload_bytes").but(OURS),
    same("DAppBytes", "backward_payload_bytes").but(OURS),
    times("SIntPkt", "forward_interarrival_mean", MILLISECONDS),
    times("SIntPktMax", "forward_interarrival_max", MILLISECONDS),
    times("SIntPktMin", "forward_interarrival_min", MILLISECONDS),
    times("DIntPkt", "backward_interarrival_mean", MILLISECONDS),
    times("DIntPktMax", "backward_interarrival_max", MILLISECONDS),
    times("DIntPktMin", "backward_interarrival_min", MILLISECONDS),
];

#[cfg(test)]
pub(super) const LEFT_OUT: &[(&str, &str)] = &[
    (
        "TotBytes, SrcBytes, DstBytes, Load, SrcLoad, DstLoad, sMeanPktSz, dMeanPktSz, sMaxPktSz, dMaxPktSz, sMinPktSz, \
      dMinPktSz",
        "of frames with their link layer there, of IP packets here",
    ),
    ("Rate, SrcRate, DstRate", "of all packets but the first there, of all here"),
    ("Dir, State, Flgs", "words for what Argus saw of a connection's state"),
    ("SrcWin, DstWin, sTos, dTos, sTtl, dTtl, TcpRtt, Loss", "not kept here, or of the last packet there"),
];

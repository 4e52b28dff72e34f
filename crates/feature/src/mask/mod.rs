//! Masks: fields that identify the endpoints or the flow rather than the application are zeroed or replaced before a
//! packet's bytes are extracted. Lengths and bytes outside the fields never change. The first fragment of a datagram is
//! assumed to contain the whole transport header, and later fragments none of it.
//!
//! Link-layer addresses need no mask: bytes begin at the IP header. For the outer flow of a tunnel, the packets inside
//! are payload and remain unchanged; for the inner flow, bytes begin at the inner IP header. QUIC Initial packets
//! contain a TLS hello encrypted with a key that anyone can derive from them; nothing here is decrypted, so the TLS
//! masks do not affect QUIC (or DTLS). An experiment that must not see server names at all should exclude UDP port 443
//! or use only headers. Certificates that TLS 1.2 sends in clear text also remain.

mod randomise;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use etcbench_capture::{FieldGroup, FieldRange, PacketField};
use etcbench_flow::Flow;

use randomise::Randomiser;

/// A group of related packet fields to mask in a packet's bytes; the table of packet fields defines its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// Source and destination address of the IP header; also those in IPv4 options (routes and timestamps), IPv6
    /// routing headers (types 0, 2 and 4) and the home address option.
    IpAddresses,
    /// Source and destination port.
    Ports,
    /// IPv4 identification; for IPv6, the flow label and the identification of a fragment header.
    IpIdentification,
    /// IPv4 time to live, IPv6 hop limit.
    Ttl,
    /// Checksums of the IPv4, TCP and UDP headers: they depend on addresses and ports.
    Checksums,
    /// TCP sequence and acknowledgement number, and those in selective acknowledgements (RFC 2018).
    TcpSequenceNumbers,
    /// Both values of the TCP timestamps option (RFC 7323).
    TcpTimestamps,
    /// The names in the server name extension of TLS ClientHellos over TCP (RFC 6066, section 3). If the kept bytes do
    /// not show where the extension is, the rest of the ClientHello is masked instead. A hello is recognized by its
    /// first ten bytes; flows that keep fewer payload bytes must be masked in another way.
    TlsServerName,
    /// The random of TLS ClientHellos and ServerHellos over TCP (RFC 8446, section 4.1.2).
    TlsRandom,
    /// The session identifier of TLS ClientHellos and ServerHellos over TCP.
    TlsSessionId,
}

/// Replacement for masked fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskMethod {
    /// Zeros.
    #[default]
    Zero,
    /// Random bytes specific to the flow: within a flow, equal values have equal replacements and different values
    /// different ones (so that the two endpoints remain distinct); replacements of different flows are unrelated. A
    /// truncated field counts as a separate value.
    Randomise,
}

impl Mask {
    /// All masks.
    pub const ALL: [Mask; 10] = [
        Mask::IpAddresses,
        Mask::Ports,
        Mask::IpIdentification,
        Mask::Ttl,
        Mask::Checksums,
        Mask::TcpSequenceNumbers,
        Mask::TcpTimestamps,
        Mask::TlsServerName,
        Mask::TlsRandom,
        Mask::TlsSessionId,
    ];

    /// Returns the name used in files and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Mask::IpAddresses => "ip_addresses",
            Mask::Ports => "ports",
            Mask::IpIdentification => "ip_identification",
            Mask::Ttl => "ttl",
            Mask::Checksums => "checksums",
            Mask::TcpSequenceNumbers => "tcp_sequence_numbers",
            Mask::TcpTimestamps => "tcp_timestamps",
            Mask::TlsServerName => "tls_server_name",
            Mask::TlsRandom => "tls_random",
            Mask::TlsSessionId => "tls_session_id",
        }
    }

    /// Returns the mask of a group of fields.
    pub const fn of(group: FieldGroup) -> Mask {
        match group {
            FieldGroup::IpAddresses => Mask::IpAddresses,
            FieldGroup::Ports => Mask::Ports,
            FieldGroup::IpIdentification => Mask::IpIdentification,
            FieldGroup::Ttl => Mask::Ttl,
            FieldGroup::Checksums => Mask::Checksums,
            FieldGroup::TcpSequenceNumbers => Mask::TcpSequenceNumbers,
            FieldGroup::TcpTimestamps => Mask::TcpTimestamps,
            FieldGroup::TlsServerName => Mask::TlsServerName,
            FieldGroup::TlsRandom => Mask::TlsRandom,
            FieldGroup::TlsSessionId => Mask::TlsSessionId,
        }
    }

    /// Returns the fields that the mask covers.
    fn fields(self) -> impl Iterator<Item = PacketField> {
        PacketField::ALL.into_iter().filter(move |field| field.group().map(Mask::of) == Some(self))
    }
}

/// Sets the fields to zero, or to replacements derived from the seed, in all of a flow's packets.
pub fn mask_flow(flow: &mut Flow, masks: &[Mask], method: MaskMethod, seed: u64) {
    let fields: Vec<(Mask, PacketField)> =
        masks.iter().flat_map(|&mask| mask.fields().map(move |field| (mask, field))).collect();
    let mut ranges: Vec<(Mask, FieldRange)> = Vec::new();
    for (packet, kept) in flow.packets.iter().enumerate() {
        for &(mask, field) in &fields {
            field.locate(kept.view(), |mut range| {
                range.packet = packet;
                ranges.push((mask, range));
            });
        }
    }
    if fields.iter().any(|(_, field)| field.is_of_hello()) {
        for range in flow.locate_hellos() {
            ranges.extend(fields.iter().find(|(_, field)| *field == range.field).map(|(mask, _)| (*mask, range)));
        }
    }
    let randomiser = match method {
        MaskMethod::Zero => None,
        MaskMethod::Randomise => Some(Randomiser::new(seed, &flow.five_tuple, flow.start)),
    };
    for (mask, range) in ranges {
        let part = &mut flow.packets[range.packet].bytes[range.range()];
        match &randomiser {
            None => part.iter_mut().enumerate().for_each(|(index, byte)| *byte &= !range.bits(index)),
            Some(randomiser) => randomiser.replace(mask, &range, part),
        }
    }
}

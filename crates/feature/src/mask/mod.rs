//! Masks: fields that identify the endpoints or the flow rather than the application are set to zero or replaced
//! before a packet's bytes are taken. Lengths never change, and neither does any byte outside the fields. The first
//! fragment of a datagram is taken to hold the whole transport header, and those after it none of it.
//!
//! Link addresses are no mask's business: bytes begin at the IP header. With the outer flow of a tunnel, the packets
//! inside are payload and stay as they are; with the inner flow, bytes begin at the inner IP header. QUIC's Initial
//! packets hold a TLS hello encrypted under a key that anyone can derive from them; nothing here decrypts, so the
//! TLS masks leave QUIC (and DTLS) alone, and an experiment that must not see server names at all leaves out
//! UDP port 443 or masks nothing but takes headers only. Certificates that TLS 1.2 sends in clear stay too.

mod field;
mod header;
mod randomise;
mod tls;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use etcbench_flow::Flow;

use field::Field;
use randomise::Randomiser;

/// A field, or a few that belong together, to mask in a packet's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// Source and destination address of the IP header; also those in IPv4 options (routes and timestamps), in IPv6
    /// routing headers (types 0, 2 and 4) and in the home address option.
    IpAddresses,
    /// Source and destination port.
    Ports,
    /// IPv4 identification; for IPv6 the flow label and the identification of a fragment header.
    IpIdentification,
    /// IPv4 time to live, IPv6 hop limit.
    Ttl,
    /// Checksums of the IPv4, TCP and UDP headers: they depend on addresses and ports.
    Checksums,
    /// TCP sequence and acknowledgement number, and those in selective acknowledgements (RFC 2018).
    TcpSequenceNumbers,
    /// Both values of the TCP timestamps option (RFC 7323).
    TcpTimestamps,
    /// The names in the server name extension of TLS ClientHellos over TCP (RFC 6066, section 3). Where the bytes
    /// that were kept do not show where the extension lies, the rest of the ClientHello is masked in its place.
    /// A hello is known by its first ten bytes; flows that keep fewer payload bytes than that must mask otherwise.
    TlsServerName,
    /// The random of TLS ClientHellos and ServerHellos over TCP (RFC 8446, section 4.1.2).
    TlsRandom,
    /// The session identifier of TLS ClientHellos and ServerHellos over TCP.
    TlsSessionId,
}

/// What takes a masked field's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskMethod {
    /// Zeros.
    #[default]
    Zero,
    /// Random bytes that are the flow's own: within a flow equal values get equal replacements and different values
    /// different ones (so that the two endpoints stay two), between flows they have nothing in common.
    /// A field that was cut counts as a value of its own.
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

    /// The name in files and messages.
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

    /// Whether the field lies in TLS hellos, which only the packets of a flow together show.
    const fn is_of_tls(self) -> bool {
        matches!(self, Mask::TlsServerName | Mask::TlsRandom | Mask::TlsSessionId)
    }
}

/// Sets the fields to zero, or to what the seed makes of them, in the bytes of all of a flow's packets.
pub fn mask_flow(flow: &mut Flow, masks: &[Mask], method: MaskMethod, seed: u64) {
    let mut fields: Vec<Field> = Vec::new();
    for (index, packet) in flow.packets.iter().enumerate() {
        masks.iter().for_each(|mask| header::find(*mask, index, packet, &mut fields));
    }
    if masks.iter().any(|mask| mask.is_of_tls()) {
        tls::find(&flow.packets, &mut fields);
        fields.retain(|field| masks.contains(&field.mask));
    }
    let randomiser = match method {
        MaskMethod::Zero => None,
        MaskMethod::Randomise => Some(Randomiser::new(seed, &flow.five_tuple, flow.start)),
    };
    for field in fields {
        let bytes = &mut flow.packets[field.packet].bytes;
        let end = bytes.len().min(field.start + field.length);
        if let Some(part) = bytes.get_mut(field.start..end) {
            match &randomiser {
                None => field.zero(part),
                Some(randomiser) => randomiser.replace(&field, part),
            }
        }
    }
}

//! Packets in nPrint's format (Holland et al. 2021): CSV with one row per packet and one column per bit of its headers,
//! -1 if a packet has no such bit. The format is that of `nprint -4 -6 -t -u -p BYTES`, with the flow's ID in place of
//! the leading address.
//!
//! For truncated packets, the bits that were not captured are also -1.

use std::borrow::Borrow;
use std::io::Write;
use std::path::Path;

use super::column::check;
use super::store::{StoreError, StoreHeader};
use etcbench_capture::Transport;
use etcbench_dataset::LabelledFlow;
use etcbench_flow::FlowPacket;
use etcbench_storage as storage;

/// The fields of each header with their sizes in bits, in nPrint's order and with its names.
const IPV4: &[(&str, usize)] = &[
    ("ipv4_ver", 4),
    ("ipv4_hl", 4),
    ("ipv4_tos", 8),
    ("ipv4_tl", 16),
    ("ipv4_id", 16),
    ("ipv4_rbit", 1),
    ("ipv4_dfbit", 1),
    ("ipv4_mfbit", 1),
    ("ipv4_foff", 13),
    ("ipv4_ttl", 8),
    ("ipv4_proto", 8),
    ("ipv4_cksum", 16),
    ("ipv4_src", 32),
    ("ipv4_dst", 32),
    ("ipv4_opt", 320),
];
const IPV6: &[(&str, usize)] = &[
    ("ipv6_ver", 4),
    ("ipv6_tc", 8),
    ("ipv6_fl", 20),
    ("ipv6_len", 16),
    ("ipv6_nh", 8),
    ("ipv6_hl", 8),
    ("ipv6_src", 128),
    ("ipv6_dst", 128),
];
const TCP: &[(&str, usize)] = &[
    ("tcp_sprt", 16),
    ("tcp_dprt", 16),
    ("tcp_seq", 32),
    ("tcp_ackn", 32),
    ("tcp_doff", 4),
    ("tcp_res", 3),
    ("tcp_ns", 1),
    ("tcp_cwr", 1),
    ("tcp_ece", 1),
    ("tcp_urg", 1),
    ("tcp_ackf", 1),
    ("tcp_psh", 1),
    ("tcp_rst", 1),
    ("tcp_syn", 1),
    ("tcp_fin", 1),
    ("tcp_wsize", 16),
    ("tcp_cksum", 16),
    ("tcp_urp", 16),
    ("tcp_opt", 320),
];
const UDP: &[(&str, usize)] = &[("udp_sport", 16), ("udp_dport", 16), ("udp_len", 16), ("udp_cksum", 16)];

/// Bytes of an IPv6 header without extensions; nPrint has no columns for extensions.
const IPV6_HEADER: usize = 40;

/// Writes the packets of the flows returned by `next`, until it returns `None`, in order, with `payload` bytes of each
/// payload. The file is written all or nothing.
///
/// # Errors
/// An I/O error, an error of `next`, or a flow that does not fit the header, as for the store.
pub fn stream_nprint<F: Borrow<LabelledFlow>>(
    path: &Path,
    header: &StoreHeader,
    payload: usize,
    next: &mut dyn FnMut() -> std::io::Result<Option<F>>,
) -> Result<u64, StoreError> {
    let mut count = 0;
    storage::write_whole_with(path, |file| {
        write!(file, "flow_id")?;
        let added: Vec<&String> = header.added_columns.iter().collect();
        for column in header.label_columns.iter().map(|column| format!("label_{column}")) {
            write!(file, ",{}", quoted(&column))?;
        }
        for column in &added {
            write!(file, ",{}", quoted(column))?;
        }
        for (name, bits) in [IPV4, IPV6, TCP, UDP, &[("payload_bit", 8 * payload)]].concat() {
            for bit in 0..bits {
                write!(file, ",{name}_{bit}")?;
            }
        }
        writeln!(file)?;
        let mut row = Vec::new();
        while let Some(flow) = next()? {
            let flow = flow.borrow();
            check(header, flow).map_err(std::io::Error::other)?;
            let mut front = quoted(&flow.provenance.flow_id());
            let keys = header.label_columns.iter().cloned().chain(added.iter().map(|column| super::added_key(column)));
            for key in keys {
                front.push(',');
                front.push_str(&quoted(flow.labels.get(&key).map_or("", String::as_str)));
            }
            for packet in &flow.flow.packets {
                row.clear();
                row.extend_from_slice(front.as_bytes());
                write_bits(packet, payload, &mut row);
                row.push(b'\n');
                file.write_all(&row)?;
            }
            count += 1;
        }
        Ok(())
    })
    .map_err(|source| StoreError::Write { file: path.display().to_string(), source })?;
    Ok(count)
}

/// Formats a text as a CSV field.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// Appends the bits of a packet, each preceded by a comma.
fn write_bits(packet: &FlowPacket, payload: usize, row: &mut Vec<u8>) {
    let bytes = without_padding(&packet.bytes);
    let part = |from: usize, to: usize| bytes.get(from.min(bytes.len())..to.min(bytes.len())).unwrap_or_default();
    let (transport_at, payload_at) =
        (usize::from(packet.layout.transport_offset), usize::from(packet.layout.payload_offset));
    let is_ipv6 = bytes.first().is_some_and(|first| first >> 4 == 6);
    let (ipv4, ipv6): (&[u8], &[u8]) =
        if is_ipv6 { (&[], part(0, transport_at.min(IPV6_HEADER))) } else { (part(0, transport_at), &[]) };
    let transport = part(transport_at, payload_at);
    let (tcp, udp): (&[u8], &[u8]) = match packet.layout.transport {
        Transport::Tcp => (transport, &[]),
        Transport::Udp => (&[], transport),
    };
    let data = part(payload_at, payload_at.saturating_add(payload));
    for (bytes, width) in [(ipv4, 60), (ipv6, IPV6_HEADER), (tcp, 60), (udp, 8), (data, payload)] {
        let length = bytes.len().min(width);
        for byte in &bytes[..length] {
            for bit in (0..8).rev() {
                row.extend_from_slice(if byte >> bit & 1 == 1 { b",1" } else { b",0" });
            }
        }
        for _ in 0..8 * (width - length) {
            row.extend_from_slice(b",-1");
        }
    }
}

/// Returns the bytes of an IP packet, without link-layer padding.
fn without_padding(bytes: &[u8]) -> &[u8] {
    let number =
        |place: usize| bytes.get(place..place + 2).map_or(0, |two| usize::from(two[0]) << 8 | usize::from(two[1]));
    let length = match bytes.first().map(|first| first >> 4) {
        Some(4) => number(2),
        Some(6) if number(4) > 0 => IPV6_HEADER + number(4),
        _ => 0,
    };
    // Packets captured before segmentation by the network card (offload) have no length.
    if length == 0 { bytes } else { &bytes[..length.min(bytes.len())] }
}

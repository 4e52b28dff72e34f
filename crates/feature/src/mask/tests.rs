//! Tests of masks on hand-crafted packets: the crafting code records where fields are, and nothing else may change.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Mask, MaskMethod, mask_flow};
use etcbench_capture::CaptureReader;
use etcbench_craft as craft;
use etcbench_flow::{Assembler, Flow, FlowOptions};

/// The bits of a field, counted from the packet's first bit, with its mask.
type Bits = (Mask, std::ops::Range<usize>);

/// A packet under construction, with the positions of its fields.
#[derive(Debug, Clone, Default)]
struct Crafted {
    bytes: Vec<u8>,
    fields: Vec<Bits>,
}

impl Crafted {
    fn plain(&mut self, bytes: &[u8]) -> &mut Crafted {
        self.bytes.extend(bytes);
        self
    }

    fn field(&mut self, mask: Mask, bytes: &[u8]) -> &mut Crafted {
        let start = self.bytes.len() * 8;
        self.bytes.extend(bytes);
        self.fields.push((mask, start..self.bytes.len() * 8));
        self
    }

    fn append(&mut self, other: &Crafted) -> &mut Crafted {
        let start = self.bytes.len() * 8;
        self.fields.extend(other.fields.iter().map(|(mask, bits)| (*mask, start + bits.start..start + bits.end)));
        self.bytes.extend(&other.bytes);
        self
    }

    fn part(&self, range: std::ops::Range<usize>) -> Crafted {
        let (start, end) = (range.start * 8, range.end * 8);
        let fields = self.fields.iter().filter(|(_, bits)| bits.start < end && bits.end > start);
        Crafted {
            fields: fields
                .map(|(mask, bits)| (*mask, bits.start.max(start) - start..bits.end.min(end) - start))
                .collect(),
            bytes: self.bytes[range].to_vec(),
        }
    }
}

const CLIENT: u8 = 1;
const SERVER: u8 = 2;

/// What varies between packets of a flow.
#[derive(Debug, Clone, Copy)]
struct Shape {
    ipv6: bool,
    /// IPv4 options, or extension headers of IPv6.
    extras: bool,
    udp: bool,
    tcp_options: bool,
}

/// An IP packet from one side to the other around a transport header and payload. `fragment` is the offset in bytes and
/// whether more fragments follow.
fn ip(shape: Shape, from: u8, identification: u16, fragment: Option<(u16, bool)>, payload: &Crafted) -> Crafted {
    let to = CLIENT + SERVER - from;
    let mut packet = Crafted::default();
    let protocol = if shape.udp { 17 } else { 6 };
    if shape.ipv6 {
        let address = |side: u8| [&[0x20, 1][..], &[side; 14]].concat();
        let mut headers = Crafted::default();
        let fragment_header = if fragment.is_some() { 44 } else { protocol };
        if shape.extras {
            // Hop-by-hop, destination options with a home address, routing of type 0 with one address, authentication.
            headers.plain(&[60, 0, 1, 4, 0, 0, 0, 0]);
            headers.plain(&[43, 2, 1, 2, 9, 9, 201, 16]).field(Mask::IpAddresses, &address(7));
            headers.plain(&[51, 2, 0, 1, 0, 0, 0, 0]).field(Mask::IpAddresses, &address(8));
            headers.plain(&[fragment_header, 4, 0, 0]).plain(&[0x77; 20]);
        }
        if let Some((offset, more)) = fragment {
            let field = (offset | u16::from(more)).to_be_bytes();
            headers.plain(&[protocol, 0, field[0], field[1]]);
            headers.field(Mask::IpIdentification, &[5, 6, (identification >> 8) as u8, identification as u8]);
        }
        let label = [0x61, 0x5a, identification as u8, 0x33];
        packet.plain(&label);
        packet.fields.push((Mask::IpIdentification, 12..32));
        packet.plain(&((headers.bytes.len() + payload.bytes.len()) as u16).to_be_bytes());
        packet.plain(&[if shape.extras { 0 } else { fragment_header }]).field(Mask::Ttl, &[60 + from]);
        packet.field(Mask::IpAddresses, &address(from)).field(Mask::IpAddresses, &address(to));
        packet.append(&headers).append(payload);
    } else {
        let mut options = Crafted::default();
        if shape.extras {
            // No-operation, a record route of two addresses, an address with a timestamp, router alert, end.
            options
                .plain(&[1, 7, 11, 4])
                .field(Mask::IpAddresses, &[10, 0, 0, 7])
                .field(Mask::IpAddresses, &[10, 0, 0, 8]);
            options.plain(&[68, 12, 5, 1]).field(Mask::IpAddresses, &[10, 0, 0, 9]).plain(&[1, 2, 3, 4]);
            options.plain(&[148, 4, 0, 0, 0, 0, 0, 0]);
        }
        let length = 20 + options.bytes.len() + payload.bytes.len();
        packet.plain(&[0x45 + (options.bytes.len() / 4) as u8, 0]).plain(&(length as u16).to_be_bytes());
        packet.field(Mask::IpIdentification, &identification.to_be_bytes());
        let (offset, more) = fragment.unwrap_or((0, false));
        packet.plain(&((offset / 8) | if more { 0x2000 } else { 0 }).to_be_bytes());
        packet.field(Mask::Ttl, &[60 + from]).plain(&[protocol]).field(Mask::Checksums, &[0xab, from]);
        packet.field(Mask::IpAddresses, &[10, 0, 0, from]).field(Mask::IpAddresses, &[10, 0, 0, to]);
        packet.append(&options).append(payload);
    }
    packet
}

fn ports(segment: &mut Crafted, from: u8) {
    let ports = if from == CLIENT { [50_000u16, 443] } else { [443, 50_000] };
    ports.iter().for_each(|port| {
        segment.field(Mask::Ports, &port.to_be_bytes());
    });
}

/// A TCP segment or UDP datagram around a payload.
fn transport(shape: Shape, from: u8, sequence: u32, flags: u8, payload: &Crafted) -> Crafted {
    let mut segment = Crafted::default();
    ports(&mut segment, from);
    if shape.udp {
        segment.plain(&((8 + payload.bytes.len()) as u16).to_be_bytes()).field(Mask::Checksums, &[0xca, from]);
    } else {
        let mut options = Crafted::default();
        if shape.tcp_options {
            options.plain(&[1, 1, 8, 10]).field(Mask::TcpTimestamps, &(sequence / 7).to_be_bytes());
            options.field(Mask::TcpTimestamps, &[8, 8, 8, from]).plain(&[3, 3, 7, 1, 5, 10]);
            options.field(Mask::TcpSequenceNumbers, &sequence.to_be_bytes());
            options.field(Mask::TcpSequenceNumbers, &[4, 4, 4, 4]).plain(&[0, 0]);
        }
        segment.field(Mask::TcpSequenceNumbers, &sequence.to_be_bytes());
        segment.field(Mask::TcpSequenceNumbers, &[9, 8, 7, from]);
        segment.plain(&[(5 + (options.bytes.len() / 4) as u8) << 4, flags, 1, 245]);
        segment.field(Mask::Checksums, &[0xbe, from]).plain(&[0, 0]).append(&options);
    }
    segment.append(payload);
    segment
}

/// A TLS handshake message.
fn message(kind: u8, body: &Crafted) -> Crafted {
    let mut message = Crafted::default();
    message.plain(&[kind]).plain(&(body.bytes.len() as u32).to_be_bytes()[1..]).append(body);
    message
}

fn client_hello(name: &str, session_id: usize, ciphers: usize) -> Crafted {
    let mut body = Crafted::default();
    body.plain(&[3, 3]).field(Mask::TlsRandom, &[0xa5; 32]).plain(&[session_id as u8]);
    body.field(Mask::TlsSessionId, &vec![0x51; session_id]);
    body.plain(&((2 * ciphers) as u16).to_be_bytes()).plain(&vec![0x13; 2 * ciphers]).plain(&[1, 0]);
    let mut extensions = Crafted::default();
    extensions.plain(&[0, 16, 0, 5, 0, 3, 2, b'h', b'2']);
    let length = name.len() as u16;
    extensions.plain(&[0, 0]).plain(&(length + 5).to_be_bytes()).plain(&(length + 3).to_be_bytes());
    extensions.plain(&[0]).plain(&length.to_be_bytes()).field(Mask::TlsServerName, name.as_bytes());
    extensions.plain(&[0, 43, 0, 3, 2, 3, 4]);
    body.plain(&(extensions.bytes.len() as u16).to_be_bytes()).append(&extensions);
    message(1, &body)
}

fn server_hello() -> Crafted {
    let mut body = Crafted::default();
    body.plain(&[3, 3]).field(Mask::TlsRandom, &[0x5a; 32]).plain(&[8]).field(Mask::TlsSessionId, &[0x51; 8]);
    body.plain(&[0x13, 1, 0, 0, 6, 0, 43, 0, 2, 3, 4]);
    message(2, &body)
}

/// Records of at most `size` content bytes each.
fn records(content_type: u8, content: &Crafted, size: usize) -> Crafted {
    let mut stream = Crafted::default();
    for start in (0..content.bytes.len()).step_by(size) {
        let part = content.part(start..content.bytes.len().min(start + size));
        stream.plain(&[content_type, 3, 1]).plain(&(part.bytes.len() as u16).to_be_bytes()).append(&part);
    }
    stream
}

fn plain(bytes: &[u8]) -> Crafted {
    Crafted { bytes: bytes.to_vec(), fields: Vec::new() }
}

/// The flow of these packets, as the capture reader and assembler produce it, with the recorded field positions.
fn flow(packets: &[Crafted], kept_bytes: usize) -> (Flow, Vec<Vec<Bits>>) {
    let frames: Vec<(i64, Vec<u8>)> =
        packets.iter().enumerate().map(|(place, packet)| (place as i64 * 1000, packet.bytes.clone())).collect();
    let file = craft::pcap(craft::Order::Little, false, 101, 65_535, &frames);
    let mut reader = CaptureReader::from_reader(std::io::Cursor::new(file), "mask").unwrap();
    let options = FlowOptions { kept_packets: packets.len(), kept_bytes, ..FlowOptions::default() };
    let mut assembler = Assembler::new(&options).unwrap();
    while let Some(packet) = reader.next_packet().unwrap() {
        assembler.push(&packet, &mut |_| panic!("one flow"));
    }
    assert_eq!(reader.summary().decoded, packets.len() as u64);
    let mut flows = Vec::new();
    assembler.finish(&mut |flow| flows.push(flow.flow));
    assert_eq!(flows.len(), 1);
    let flow = flows.remove(0);
    assert_eq!(flow.packets.len(), packets.len());
    for (kept, packet) in flow.packets.iter().zip(packets) {
        assert_eq!(kept.bytes, packet.bytes[..packet.bytes.len().min(kept_bytes)]);
    }
    (flow, packets.iter().map(|packet| packet.fields.clone()).collect())
}

fn bit(bytes: &[u8], place: usize) -> bool {
    bytes[place / 8] & (0x80 >> (place % 8)) != 0
}

/// Checks that each mask changes exactly its fields' bits in every packet, with both methods.
fn check(flow: &Flow, fields: &[Vec<Bits>]) -> Result<(), TestCaseError> {
    for mask in Mask::ALL {
        let mut zeroed = flow.clone();
        mask_flow(&mut zeroed, &[mask], MaskMethod::Zero, 1);
        let mut randomised = flow.clone();
        mask_flow(&mut randomised, &[mask], MaskMethod::Randomise, 1);
        let mut replacements: BTreeMap<Vec<bool>, Vec<bool>> = BTreeMap::new();
        for (index, original) in flow.packets.iter().enumerate() {
            let (zeroed, randomised) = (&zeroed.packets[index].bytes, &randomised.packets[index].bytes);
            prop_assert_eq!((zeroed.len(), randomised.len()), (original.bytes.len(), original.bytes.len()));
            let bits = original.bytes.len() * 8;
            let mut inside = vec![false; bits];
            for (_, range) in fields[index].iter().filter(|(other, _)| *other == mask) {
                for place in range.clone().filter(|place| *place < bits) {
                    inside[place] = true;
                    prop_assert!(!bit(zeroed, place), "{} in packet {index}, bit {place}", mask.name());
                }
                // Strings may be split anywhere; numbers are one value.
                if !matches!(mask, Mask::TlsServerName | Mask::TlsRandom | Mask::TlsSessionId) && range.end <= bits {
                    let value = |bytes: &[u8]| range.clone().map(|place| bit(bytes, place)).collect::<Vec<bool>>();
                    let replacement = value(randomised);
                    let known = replacements.entry(value(&original.bytes)).or_insert_with(|| replacement.clone());
                    prop_assert_eq!(known, &replacement, "{}: equal values, equal replacements", mask.name());
                }
            }
            for place in (0..bits).filter(|place| !inside[*place]) {
                let same = bit(zeroed, place) == bit(&original.bytes, place)
                    && bit(randomised, place) == bit(&original.bytes, place);
                prop_assert!(same, "{} changes bit {place} of packet {index}", mask.name());
            }
        }
        let mut different: Vec<&Vec<bool>> = replacements.values().collect();
        different.sort();
        different.dedup();
        prop_assert_eq!(different.len(), replacements.len(), "{}: different values stay different", mask.name());
    }
    Ok(())
}

fn shapes() -> impl Strategy<Value = Shape> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(ipv6, extras, udp, tcp_options)| Shape {
        ipv6,
        extras,
        udp,
        tcp_options,
    })
}

/// Checks a ClientHello in records and segments of given sizes, truncated to the kept bytes.
fn check_cut_hello(
    kept_bytes: usize,
    segment_size: usize,
    ciphers: usize,
    record_size: usize,
) -> Result<(), TestCaseError> {
    let shape = Shape { ipv6: false, extras: false, udp: false, tcp_options: false };
    let name = "secret.example.org";
    let hello = records(22, &client_hello(name, 32, ciphers), record_size);
    let stream = {
        let mut stream = hello.clone();
        stream.plain(&[23, 3, 3, 0, 200]).plain(&[0x66; 200]);
        stream
    };
    let packets: Vec<Crafted> = (0..stream.bytes.len())
        .step_by(segment_size)
        .map(|cut| {
            let part = stream.part(cut..stream.bytes.len().min(cut + segment_size));
            ip(shape, CLIENT, 3, None, &transport(shape, CLIENT, 500 + cut as u32, 0x18, &part))
        })
        .collect();
    let (flow, fields) = flow(&packets, kept_bytes);
    let masks = [Mask::TlsRandom, Mask::TlsSessionId, Mask::TlsServerName];
    let mut masked = flow.clone();
    mask_flow(&mut masked, &masks, MaskMethod::Zero, 1);
    for ((masked, original), fields) in masked.packets.iter().zip(&flow.packets).zip(&fields) {
        for (mask, range) in fields.iter().filter(|(mask, _)| masks.contains(mask)) {
            let mut kept = range.clone().filter(|place| *place < masked.bytes.len() * 8);
            prop_assert!(kept.all(|place| !bit(&masked.bytes, place)), "{mask:?}");
        }
        // Headers are never changed.
        prop_assert_eq!(&masked.bytes[..masked.bytes.len().min(40)], &original.bytes[..original.bytes.len().min(40)]);
    }
    // The mask of the server name also never changes what precedes a ClientHello's cipher suites.
    let mut masked = flow.clone();
    mask_flow(&mut masked, &[Mask::TlsServerName], MaskMethod::Zero, 1);
    let first = &masked.packets[0].bytes;
    let untouched = first.len().min(40 + segment_size.min(record_size + 5).min(5 + 4 + 2 + 32 + 1 + 32));
    prop_assert_eq!(&first[..untouched], &flow.packets[0].bytes[..untouched]);
    Ok(())
}

#[test]
fn of_a_server_name_behind_a_lost_record_header_nothing_is_left() {
    // The name begins the second record, whose header is cut off in the first packet.
    check_cut_hello(244, 217, 52, 199).unwrap();
}

proptest! {
    #[test]
    fn header_fields_change_and_nothing_else(shape in shapes(), kept_bytes in 1usize..300, packets in 1u32..8) {
        let packets: Vec<Crafted> = (0..packets)
            .map(|number| {
                let from = if number % 3 == 1 { SERVER } else { CLIENT };
                let payload = transport(shape, from, 1000 + number * 100, 0x18, &plain(b"some payload"));
                ip(shape, from, 40 + number as u16, None, &payload)
            })
            .collect();
        let (flow, fields) = flow(&packets, kept_bytes);
        check(&flow, &fields)?;
    }

    #[test]
    fn fragments_after_the_first_have_no_transport_header_to_mask(
        shape in shapes(), first in 7u16..20, last_first: bool,
    ) {
        // The middle fragments look like headers but are payload.
        let whole = transport(shape, CLIENT, 77, 0x18, &plain(&[0x45; 300]));
        let cuts = [0, usize::from(first) * 8, 200, whole.bytes.len()];
        let mut packets: Vec<Crafted> = cuts
            .windows(2)
            .map(|cut| {
                let fragment = Some((cut[0] as u16, cut[1] < whole.bytes.len()));
                ip(shape, CLIENT, 9, fragment, &whole.part(cut[0]..cut[1]))
            })
            .collect();
        if last_first {
            packets.swap(1, 2);
        }
        let (flow, fields) = flow(&packets, 1000);
        check(&flow, &fields)?;
    }

    #[test]
    fn tls_hellos_are_found_however_they_are_split(
        ipv6: bool,
        tcp_options: bool,
        name in "[a-z]{1,12}(\\.[a-z]{2,5}){1,3}",
        session_id in 0usize..33,
        record_size in 4usize..600,
        segment_size in 16usize..400,
        order in any::<u64>(),
        prefix in 0usize..3,
        wrap: bool,
    ) {
        let shape = Shape { ipv6, extras: false, udp: false, tcp_options };
        // A second hello after the change of ciphers answers a HelloRetryRequest; later handshake records are
        // ciphertext, even if they begin like a hello.
        let hello = client_hello(&name, session_id, 9);
        let mut client = Crafted::default();
        client.append(&records(22, &hello, record_size)).plain(&[20, 3, 3, 0, 1, 1]);
        client.append(&records(22, &client_hello(&name, session_id, 3), 4000));
        client.plain(&[22, 3, 3, 0, 40, 1, 0, 0, 99, 3, 3]).plain(&[0x42; 34]).plain(&[23, 3, 3, 0, 9]).plain(&[0x66; 9]);
        let mut server = Crafted::default();
        let certificate = message(11, &plain(&[0x30; 90]));
        let mut first_flight = server_hello();
        first_flight.append(&certificate);
        server.append(&records(22, &first_flight, record_size)).plain(&[20, 3, 3, 0, 1, 1, 22, 3, 3, 0, 30]).plain(&[2; 30]);
        let initial = if wrap { u32::MAX - 100 } else { 5000 };
        let mut packets: Vec<(u8, u32, Crafted)> = Vec::new();
        // Lines of a protocol that upgrades to TLS are sent in separate packets.
        let mut starts = [initial.wrapping_add(1); 2];
        for (side, start) in [CLIENT, SERVER].into_iter().zip(&mut starts) {
            for _ in 0..prefix {
                packets.push((side, *start, plain(b"a STARTTLS b\r\n")));
                *start = start.wrapping_add(14);
            }
        }
        let plain_packets = packets.len();
        for (side, start, stream) in [(CLIENT, starts[0], &client), (SERVER, starts[1], &server)] {
            for cut in (0..stream.bytes.len()).step_by(segment_size) {
                let part = stream.part(cut..stream.bytes.len().min(cut + segment_size));
                packets.push((side, start.wrapping_add(cut as u32), part));
            }
        }
        // Packets are reordered and one is retransmitted; the first packet of each side stays at the start of the
        // stream.
        let (mut order, count) = (order, packets.len());
        for place in (plain_packets + 1..count).rev() {
            order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            packets.swap(place, plain_packets + (order >> 33) as usize % (place + 1 - plain_packets));
        }
        packets.push(packets[(order >> 40) as usize % count].clone());
        let syn = |side: u8| ip(shape, side, 1, None, &transport(shape, side, initial, 2, &plain(&[])));
        let data = packets.iter().enumerate().map(|(number, (side, sequence, payload))| {
            ip(shape, *side, 2 + number as u16, None, &transport(shape, *side, *sequence, 0x18, payload))
        });
        let packets: Vec<Crafted> = [syn(CLIENT), syn(SERVER)].into_iter().chain(data).collect();
        let (flow, fields) = flow(&packets, 65_535);
        check(&flow, &fields)?;
    }

    #[test]
    fn of_a_hello_nothing_is_left_where_packets_were_cut(
        kept_bytes in 50usize..400, segment_size in 60usize..400, ciphers in 1usize..120, record_size in 10usize..600,
    ) {
        check_cut_hello(kept_bytes, segment_size, ciphers, record_size)?;
    }

    #[test]
    fn no_mask_panics_or_changes_a_length_on_any_bytes(
        packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..150), 0u16..100, 0u16..60, any::<bool>()), 1..5),
        start in prop::collection::vec(prop_oneof![Just(22u8), Just(3), Just(0), Just(1), Just(2)], 0..14),
        is_tcp: bool,
        randomise: bool,
    ) {
        let shape = Shape { ipv6: false, extras: false, udp: !is_tcp, tcp_options: false };
        let payload = transport(shape, CLIENT, 1, 0x18, &plain(b"x"));
        let crafted: Vec<Crafted> = packets.iter().map(|_| ip(shape, CLIENT, 1, None, &payload)).collect();
        let (mut flow, _) = flow(&crafted, 1000);
        for (packet, (bytes, transport_offset, header, is_hello)) in flow.packets.iter_mut().zip(packets) {
            packet.bytes = bytes;
            packet.layout.transport_offset = transport_offset;
            packet.layout.payload_offset = transport_offset + header;
            if is_hello {
                let payload = usize::from(packet.layout.payload_offset).min(packet.bytes.len());
                packet.bytes.splice(payload..payload, start.iter().copied());
            }
        }
        let lengths: Vec<usize> = flow.packets.iter().map(|packet| packet.bytes.len()).collect();
        mask_flow(&mut flow, &Mask::ALL, if randomise { MaskMethod::Randomise } else { MaskMethod::Zero }, 3);
        prop_assert!(flow.packets.iter().map(|packet| packet.bytes.len()).eq(lengths));
    }
}

#[test]
fn replacements_differ_between_flows_and_seeds_and_repeat_otherwise() {
    let shape = Shape { ipv6: false, extras: true, udp: false, tcp_options: true };
    let hello = records(22, &client_hello("host.example.org", 32, 4), 4000);
    let packets = [ip(shape, CLIENT, 5, None, &transport(shape, CLIENT, 9, 0x18, &hello))];
    let (flow, _) = flow(&packets, 1000);
    let masked = |flow: &Flow, seed: u64| {
        let mut flow = flow.clone();
        mask_flow(&mut flow, &Mask::ALL, MaskMethod::Randomise, seed);
        flow.packets[0].bytes.clone()
    };
    let later = Flow { start: flow.start + 1, ..flow.clone() };
    assert_eq!(masked(&flow, 1), masked(&flow, 1));
    assert_ne!(masked(&flow, 1), masked(&flow, 2));
    assert_ne!(masked(&flow, 1), masked(&later, 1));
    assert!(!masked(&flow, 1).windows(4).any(|window| window == b"host" || window == [10, 0, 0, 1]));
}

#[test]
fn names_are_those_in_files() {
    for mask in Mask::ALL {
        assert_eq!(serde_json::to_value(mask).unwrap(), mask.name());
    }
}

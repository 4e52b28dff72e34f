//! Masks and the leak report agree: what a mask zeroes is constant in every column of the report, in flows of any shape
//! (extension headers, options, hellos split over records and packets, cut packets); and what no mask zeroes is visible
//! in columns.

use std::io::Cursor;

use etherparse::{TcpHeader, TcpOptionElement, UdpHeader};
use ndarray::Array2;
use proptest::prelude::*;

use super::*;
use etcbench_capture::{CaptureReader, PacketField};
use etcbench_craft as craft;
use etcbench_dataset::FlowProvenance;
use etcbench_feature::{Mask, PAD, TokenArray, tokenize};
use etcbench_flow::{Assembler, FlowOptions};

const PACKETS: usize = 5;
const BYTES: usize = 400;

/// Parameters of a flow's packets.
#[derive(Debug, Clone)]
struct Shape {
    ipv6: bool,
    tcp: bool,
    /// Whether there are IPv4 options, or IPv6 extension headers.
    extras: bool,
    timestamps: bool,
    acknowledged: bool,
    session_id: usize,
    name: usize,
    /// Length of a TLS record's content, and of a packet's payload.
    record: usize,
    segment: usize,
}

fn shapes() -> impl Strategy<Value = Shape> {
    (any::<[bool; 5]>(), 0usize..33, 4usize..40, 30usize..500, 40usize..300).prop_map(
        |([ipv6, tcp, extras, timestamps, acknowledged], session_id, name, record, segment)| Shape {
            ipv6,
            tcp,
            extras,
            timestamps,
            acknowledged,
            session_id,
            name,
            record,
            segment,
        },
    )
}

/// Non-zero bytes that depend on a flow's number; other flows have different ones.
struct Values {
    flow: u8,
    next: u8,
}

impl Values {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        self.next = self.next.wrapping_add(29);
        vec![self.flow.wrapping_mul(16).wrapping_add(self.next % 16).max(1); count]
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.bytes(N).try_into().unwrap()
    }

    fn number(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }
}

/// Builds a ClientHello in records, followed by a ChangeCipherSpec record.
fn hello(shape: &Shape, values: &mut Values) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend(values.bytes(32));
    body.push(shape.session_id as u8);
    body.extend(values.bytes(shape.session_id));
    body.extend([0, 6, 0x13, 1, 0x13, 2, 0x13, 3, 1, 0]);
    let length = shape.name as u8;
    let mut extensions = vec![0, 16, 0, 5, 0, 3, 2, b'h', b'2', 0, 0, 0, length + 5, 0, length + 3, 0, 0, length];
    extensions.extend(values.bytes(shape.name));
    body.extend([0, extensions.len() as u8]);
    body.extend(extensions);
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.extend(body);
    let mut stream = Vec::new();
    for content in message.chunks(shape.record) {
        stream.extend([22, 3, 1, (content.len() >> 8) as u8, content.len() as u8]);
        stream.extend(content);
    }
    stream.extend([20, 3, 3, 0, 1, 1]);
    stream
}

fn transport(shape: &Shape, values: &mut Values, ports: (u16, u16), sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    if shape.tcp {
        let mut header = TcpHeader::new(ports.0, ports.1, sequence, 500);
        header.acknowledgment_number = values.number();
        header.ack = true;
        header.checksum = u16::from_be_bytes(values.array());
        let mut options = vec![TcpOptionElement::Noop];
        if shape.timestamps {
            options.push(TcpOptionElement::Timestamp(values.number(), values.number()));
        }
        if shape.acknowledged {
            options.push(TcpOptionElement::SelectiveAcknowledgement((values.number(), values.number()), [None; 3]));
        }
        header.set_options(&options).unwrap();
        header.write(&mut segment).unwrap();
    } else {
        let checksum = u16::from_be_bytes(values.array());
        let length = 8 + payload.len() as u16;
        let header = UdpHeader { source_port: ports.0, destination_port: ports.1, length, checksum };
        header.write(&mut segment).unwrap();
    }
    segment.extend(payload);
    segment
}

/// Builds an IP packet; addresses, identification, time to live and checksum are specific to the flow.
fn ip(shape: &Shape, values: &mut Values, addresses: &[[u8; 16]; 2], segment: &[u8]) -> Vec<u8> {
    let protocol = if shape.tcp { 6 } else { 17 };
    if shape.ipv6 {
        let mut headers = Vec::new();
        if shape.extras {
            // Hop-by-hop, mobility, a home address, a route with one address, an atomic fragment.
            headers.extend([135, 0, 1, 4, 0, 0, 0, 0, 60, 0, 1, 4, 0, 0, 0, 0]);
            headers.extend([43, 2, 1, 2, 0, 0, 201, 16]);
            headers.extend(values.bytes(16));
            headers.extend([44, 2, 0, 1, 0, 0, 0, 0]);
            headers.extend(values.bytes(16));
            headers.extend([protocol, 0, 0, 0]);
            headers.extend(values.bytes(4));
        }
        headers.extend(segment);
        let mut packet = craft::ipv6(addresses[0], addresses[1], if shape.extras { 0 } else { protocol }, &headers);
        let label: [u8; 3] = values.array();
        packet[1] = label[0] & 0x0f;
        packet[2..4].copy_from_slice(&label[1..]);
        packet[7..8].copy_from_slice(&values.bytes(1));
        packet
    } else {
        let [source, destination] = addresses.map(|address| [10, address[0], address[1], 1]);
        let mut packet = craft::ipv4(source, destination, protocol, segment);
        if shape.extras {
            // A record route with one address, then a timestamp option with one address and time.
            let mut options = vec![1, 7, 7, 8];
            options.extend(values.bytes(4));
            options.extend([68, 12, 13, 1]);
            options.extend(values.bytes(4));
            options.extend([0, 0, 0, 5]);
            packet[0] += (options.len() / 4) as u8;
            packet.splice(20..20, options);
            let length = (packet.len() as u16).to_be_bytes();
            packet[2..4].copy_from_slice(&length);
        }
        packet[4..6].copy_from_slice(&values.bytes(2));
        packet[8..9].copy_from_slice(&values.bytes(1));
        packet[10..12].copy_from_slice(&values.bytes(2));
        packet
    }
}

/// Builds a flow with a capture reader and an assembler.
fn flow(shape: &Shape, number: u8, kept_bytes: usize) -> Flow {
    let mut values = Values { flow: number + 1, next: 0 };
    let addresses: [[u8; 16]; 2] = [values.array(), values.array()];
    let ports = (u16::from_be_bytes(values.array()), u16::from_be_bytes(values.array()));
    // Masks do not change the payload of datagrams.
    let stream = if shape.tcp { hello(shape, &mut values) } else { vec![7; 300] };
    let initial = values.number();
    let frames: Vec<(i64, Vec<u8>)> = stream
        .chunks(shape.segment)
        .enumerate()
        .map(|(index, payload)| {
            let sequence = initial.wrapping_add((index * shape.segment) as u32);
            let segment = transport(shape, &mut values, ports, sequence, payload);
            (index as i64 * 1000, ip(shape, &mut values, &addresses, &segment))
        })
        .collect();
    let file = craft::pcap(craft::Order::Little, false, 101, 65_535, &frames);
    let mut reader = CaptureReader::from_reader(Cursor::new(file), "flow").unwrap();
    let options = FlowOptions { kept_packets: PACKETS, kept_bytes, ..FlowOptions::default() };
    let mut assembler = Assembler::new(&options).unwrap();
    while let Some(packet) = reader.next_packet().unwrap() {
        assembler.push(&packet, &mut |_| panic!("one flow"));
    }
    let mut flows = Vec::new();
    assembler.finish(&mut |flow| flows.push(flow.flow));
    assert_eq!((flows.len(), reader.summary().decoded), (1, frames.len() as u64));
    flows.remove(0)
}

fn report(flows: &[Flow], masks: &[Mask]) -> LeakReport {
    let options = TokenOptions { packets: PACKETS, bytes: BYTES, masks: masks.to_vec(), ..TokenOptions::default() };
    let mut values = vec![PAD; flows.len() * PACKETS * BYTES];
    for (flow, out) in flows.iter().zip(values.chunks_exact_mut(PACKETS * BYTES)) {
        tokenize(flow, &options, out).unwrap();
    }
    let provenance = flows.iter().enumerate().map(|(number, flow)| FlowProvenance {
        capture: "a".to_owned(),
        number: number as u32,
        five_tuple: flow.five_tuple,
        start: flow.start,
        end: flow.end,
        packet: None,
    });
    let features = FeatureSet {
        tokens: TokenArray { packets: PACKETS, bytes: BYTES, values },
        statistics: Array2::zeros((flows.len(), 0)),
        statistic_names: Vec::new(),
        sequences: Array2::zeros((flows.len(), 0)),
        flowpics: Array2::zeros((flows.len(), 0)),
        labels: (0..flows.len() as u32).map(|row| row % 2).collect(),
        class_names: vec!["even".to_owned(), "odd".to_owned()],
        provenance: provenance.collect(),
    };
    let split = Split { train: (2..flows.len()).collect(), validation: Vec::new(), test: vec![0, 1] };
    let flows: Vec<&Flow> = flows.iter().collect();
    leak_reports(&features, Some((&flows, &options)), &[&split]).remove(0)
}

fn reported(report: &LeakReport, field: PacketField) -> bool {
    report.fields.iter().any(|score| score.field == field.name())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn what_a_mask_zeroes_is_constant_in_the_report(
        shapes in prop::collection::vec(shapes(), 6), same: bool, kept_bytes in 60usize..500,
    ) {
        let shape = |row: usize| &shapes[if same { 0 } else { row }];
        let flows: Vec<Flow> = (0..6).map(|row| flow(shape(row), row as u8, kept_bytes)).collect();
        for mask in Mask::ALL {
            let found = report(&flows, &[mask]);
            for field in PacketField::ALL {
                let hidden = field.group().map(Mask::of) == Some(mask);
                prop_assert!(!(hidden && reported(&found, field)), "{} under {}", field.name(), mask.name());
            }
        }
        if !same {
            return Ok(());
        }
        // Without masks, every field that exists is reported.
        let all = report(&flows, &[]);
        let shape = shape(0);
        let (tcp, extras, ipv6) = (shape.tcp, shape.extras, shape.ipv6);
        // Headers end here at the latest; with a long enough record and segment, the hello's fields are in one packet.
        let headers = if ipv6 { 40 + 16 + 24 + 24 + 8 } else { 20 + 20 } + if tcp { 20 + 32 } else { 8 };
        let whole = kept_bytes.min(BYTES) >= headers;
        // Flows of the same shape differ only in what masks hide. A hello is recognised by its first ten bytes, as
        // documented at `Mask::TlsServerName`: with fewer bytes, no mask can recognise it.
        let payload = kept_bytes.saturating_sub(usize::from(flows[0].packets[0].layout.payload_offset));
        if !tcp || payload == 0 || payload >= 10 {
            let nothing = report(&flows, &Mask::ALL);
            prop_assert_eq!((&nothing.fields, &nothing.byte_positions), (&Vec::new(), &Vec::new()));
        }
        let hello = tcp && kept_bytes.min(BYTES) >= headers + 200 && shape.segment >= 250 && shape.record >= 250;
        for (field, expected) in [
            (PacketField::IpSource, true),
            (PacketField::IpDestination, true),
            (PacketField::IpRouteAddresses, extras && whole),
            (PacketField::IpHomeAddress, extras && ipv6 && whole),
            (PacketField::IpIdentification, !ipv6 || (extras && whole)),
            (PacketField::IpFlowLabel, ipv6),
            (PacketField::Ttl, true),
            (PacketField::IpChecksum, !ipv6),
            (PacketField::SourcePort, whole),
            (PacketField::TransportChecksum, whole),
            (PacketField::TcpSequence, tcp && whole),
            (PacketField::TcpSelectiveAcknowledgements, tcp && whole && shape.acknowledged),
            (PacketField::TcpTimestampValue, tcp && whole && shape.timestamps),
            (PacketField::TcpTimestampEcho, tcp && whole && shape.timestamps),
            (PacketField::TlsRandom, hello),
            (PacketField::TlsSessionId, hello && shape.session_id > 0),
            (PacketField::TlsServerName, hello),
        ] {
            prop_assert!(!expected || reported(&all, field), "{} is not reported", field.name());
        }
    }
}

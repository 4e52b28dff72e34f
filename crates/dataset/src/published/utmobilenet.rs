//! UTMobileNetTraffic2021: one CSV per experiment, one row per packet, with tshark's column names. Packets with the
//! same unordered five-tuple form a flow, in time order; the first sender's direction is forward. Skips transports
//! other than TCP and UDP, rows without addresses, and 127.0.0.1, 0.0.0.0 and 255.255.255.255, as tcbench does.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::{Fault, MOST_PACKETS, PublishedFile, PublishedFlow, Sink, length, shown};
use crate::flow_labels::civil_time;
use etcbench_capture::Transport;
use etcbench_flow::{FiveTuple, PacketDirection, SequencePacket};
use etcbench_storage::declarative::nearest;

/// Addresses whose packets are skipped.
const INVALID: [&str; 3] = ["127.0.0.1", "0.0.0.0", "255.255.255.255"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Names of time zones in the files, with hours behind UTC.
const ZONES: [(&str, i64); 4] = [("CDT", 5), ("CST", 6), ("UTC", 0), ("GMT", 0)];
const HOUR: i64 = 3_600_000_000_000;

/// A packet before its flow and direction are known.
struct Seen {
    time: i64,
    source: SocketAddr,
    destination: SocketAddr,
    length: u32,
}

pub(super) fn read(file: &PublishedFile<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let mut reader = csv::ReaderBuilder::new().from_reader(file.open()?);
    let told = |error: csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        Fault::at(format_args!("line {line}"), error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let header = reader.byte_headers().map_err(told)?.clone();
    let name =
        |field: &[u8]| String::from_utf8_lossy(field.strip_prefix(b"\xef\xbb\xbf").unwrap_or(field)).trim().to_owned();
    let names: Vec<String> = header.iter().map(name).collect();
    let place = |wanted: &str| {
        names.iter().position(|name| name == wanted).ok_or_else(|| {
            let near = nearest(wanted, names.iter().map(String::as_str)).unwrap_or_default();
            Fault::at("line 1", format!("column `{wanted}` is missing; the most similar is `{}`", shown(near)))
        })
    };
    let [time, source, destination, protocol] =
        [place("frame.time")?, place("ip.src")?, place("ip.dst")?, place("ip.proto")?];
    let tcp = [place("tcp.srcport")?, place("tcp.dstport")?, place("tcp.len")?];
    let udp = [place("udp.srcport")?, place("udp.dstport")?, place("udp.length")?];
    let location = place("location").ok();
    let mut flows: Vec<(Transport, String, Vec<Seen>)> = Vec::new();
    let mut numbers: HashMap<(SocketAddr, SocketAddr, Transport), usize> = HashMap::new();
    let (mut record, mut count) = (csv::ByteRecord::new(), 0);
    while reader.read_byte_record(&mut record).map_err(told)? {
        let line = record.position().map_or(0, csv::Position::line);
        let fault = |message: String| Fault::at(format_args!("line {line}"), message);
        let text = |place: usize| {
            std::str::from_utf8(&record[place]).map(str::trim).map_err(|_| fault("it is not UTF-8".to_owned()))
        };
        let (transport, columns) = match text(protocol)? {
            "6" | "6.0" => (Transport::Tcp, tcp),
            "17" | "17.0" => (Transport::Udp, udp),
            _ => continue,
        };
        let (from, to) = (text(source)?, text(destination)?);
        if [from, to].iter().any(|address| address.is_empty() || INVALID.contains(address)) {
            continue;
        }
        let endpoint = |address: &str, port: usize| {
            let port = text(port)?;
            let number = port.strip_suffix(".0").unwrap_or(port).parse::<u16>();
            let number = number.map_err(|_| fault(format!("`{}` is not a port", shown(port))))?;
            let address: IpAddr =
                address.parse().map_err(|_| fault(format!("`{}` is not an address", shown(address))))?;
            Ok(SocketAddr::new(address, number))
        };
        let (source, destination) = (endpoint(from, columns[0])?, endpoint(to, columns[1])?);
        let size = text(columns[2])?;
        let size = if size.is_empty() { Some(0) } else { size.parse().ok().and_then(length) };
        let seen = Seen {
            time: frame_time(text(time)?).map_err(fault)?,
            source,
            destination,
            length: size.ok_or_else(|| fault("its length is not an integer".to_owned()))?,
        };
        count += 1;
        if count > MOST_PACKETS {
            return Err(fault(format!("more than {MOST_PACKETS} packets in one file; split it")));
        }
        let key = (source.min(destination), source.max(destination), transport);
        let number = *numbers.entry(key).or_insert_with(|| {
            flows.push((transport, String::new(), Vec::new()));
            flows.len() - 1
        });
        let (_, place, packets) = &mut flows[number];
        if let (Some(location), true) = (location, packets.is_empty()) {
            *place = text(location)?.to_owned();
        }
        packets.push(seen);
    }
    for (transport, location, mut packets) in flows {
        // The sort is stable: packets with equal times stay in file order.
        packets.sort_by_key(|packet| packet.time);
        let five_tuple = FiveTuple { source: packets[0].source, destination: packets[0].destination, transport };
        let packet = |seen: Seen| SequencePacket {
            direction: if seen.source == five_tuple.source {
                PacketDirection::Forward
            } else {
                PacketDirection::Backward
            },
            timestamp: seen.time,
            length: seen.length,
            flags: 0,
            bytes: Vec::new(),
            offsets: (0, 0),
        };
        let packets = packets.into_iter().map(packet).collect();
        sink(PublishedFlow { five_tuple: Some(five_tuple), ..PublishedFlow::sequence(vec![location], packets) })
            .map_err(Fault::of_file)?;
    }
    Ok(())
}

/// Parses `Apr 12, 2019 16:34:07.123456000 CDT` to nanoseconds since the Unix epoch.
fn frame_time(text: &str) -> Result<i64, String> {
    let is_none = || format!("`{}` is not a time such as Apr 12, 2019 16:34:07.123456000 CDT", shown(text));
    let parts: Vec<&str> = text.split_whitespace().collect();
    let &[month, day, year, time, zone] = &parts[..] else { return Err(is_none()) };
    let month = MONTHS.iter().position(|name| *name == month).ok_or_else(is_none)? + 1;
    let (_, hours) = ZONES.iter().find(|(name, _)| *name == zone).ok_or_else(|| {
        format!("`{}` is in time zone `{}`; known are CDT, CST, UTC and GMT", shown(text), shown(zone))
    })?;
    let written = format!("{year}-{month:02}-{}T{time}", day.trim_end_matches(','));
    civil_time(&written).and_then(|local| local.checked_add(hours * HOUR)).ok_or_else(is_none)
}

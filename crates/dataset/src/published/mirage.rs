//! MIRAGE-2019 and MIRAGE-COVID-CCMA-2022: one JSON file per experiment, read flow by flow. Directions are 0 (upstream,
//! here forward) and 1; lengths and bytes are those of the payload; inter-packet times are in seconds.

use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{
    Fault, HeldBytes, HeldFlags, HeldLengths, HeldTimes, Holds, MOST_PACKETS, PublishedFile, PublishedFlow, Sink,
    nanoseconds, shown,
};
use crate::rules::capture_stem;
use etcbench_capture::Transport;
use etcbench_flow::{FiveTuple, PacketDirection, SequencePacket};

pub(super) const HOLDS: Holds = Holds {
    bytes: HeldBytes::Payload,
    lengths: HeldLengths::Payloads,
    times: HeldTimes::Relative,
    flags: HeldFlags::None,
    addresses: true,
    cut: false,
};

/// The class of flows that belong to another application than the recorded one.
const BACKGROUND: &str = "background";

#[derive(Deserialize)]
struct MirageFlow {
    packet_data: PacketData,
    flow_metadata: FlowMetadata,
}

#[derive(Deserialize)]
struct PacketData {
    packet_dir: Vec<u8>,
    #[serde(rename = "L4_payload_bytes")]
    payload_bytes: Vec<u32>,
    iat: Vec<f64>,
    #[serde(rename = "L4_raw_payload", default)]
    raw_payload: Vec<Vec<u8>>,
}

#[derive(Deserialize)]
struct FlowMetadata {
    #[serde(rename = "BF_label")]
    label: Option<String>,
    #[serde(rename = "BF_activity", default)]
    activity: Option<String>,
}

pub(super) fn read(file: &PublishedFile<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    read_flows(file, false, sink)
}

/// Reads flows with the activity given in the 2022 data.
pub(super) fn read_with_activities(file: &PublishedFile<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    read_flows(file, true, sink)
}

fn read_flows(file: &PublishedFile<'_>, activities: bool, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let stem = capture_stem(&file.file.path);
    // `1494944155_com.spotify.music_MIRAGE...`; names that contain `None` have no recorded application.
    let recorded = stem.split('_').nth(1).filter(|_| !stem.contains("None"));
    let mut deserializer = serde_json::Deserializer::from_reader(file.open()?);
    let flows = Flows { recorded, activities, kept: (file.options.kept_packets, file.options.kept_bytes), sink };
    flows.deserialize(&mut deserializer).and_then(|()| deserializer.end()).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        let told = error.to_string();
        Fault::at(place, told.rsplit_once(" at line ").map_or(told.as_str(), |(message, _)| message))
    })
}

/// The object of all flows, deserialized one flow at a time.
struct Flows<'a, 'b> {
    recorded: Option<&'a str>,
    activities: bool,
    kept: (usize, usize),
    sink: &'a mut Sink<'b>,
}

impl<'de> DeserializeSeed<'de> for Flows<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Flows<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of flows by their five-tuples")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let flow: MirageFlow = map.next_value()?;
            let of_flow = |problem: String| A::Error::custom(format!("flow `{}`: {problem}", shown(&key)));
            let five_tuple = five_tuple(&key)
                .ok_or_else(|| of_flow("its key is not source,port,destination,port,protocol".to_owned()))?;
            let FlowMetadata { label, activity } = flow.flow_metadata;
            let unknown = self.activities && activity.as_deref() == Some("Unknown");
            let app = self.recorded.filter(|app| label.as_deref() == Some(app) && !unknown).unwrap_or(BACKGROUND);
            let mut fields = vec![app.to_owned(), label.clone().unwrap_or_default()];
            fields.push(activity.unwrap_or_default());
            let packets = packets(flow.packet_data, self.kept).map_err(of_flow)?;
            (self.sink)(PublishedFlow { five_tuple: Some(five_tuple), ..PublishedFlow::sequence(fields, packets) })
                .map_err(of_flow)?;
        }
        Ok(())
    }
}

fn five_tuple(key: &str) -> Option<FiveTuple> {
    let parts: Vec<&str> = key.split(',').map(str::trim).collect();
    let &[source, source_port, destination, destination_port, protocol] = &parts[..] else { return None };
    let endpoint =
        |address: &str, port: &str| Some((address.parse::<std::net::IpAddr>().ok()?, port.parse::<u16>().ok()?));
    Some(FiveTuple {
        source: endpoint(source, source_port)?.into(),
        destination: endpoint(destination, destination_port)?.into(),
        transport: match protocol {
            "6" => Transport::Tcp,
            "17" => Transport::Udp,
            _ => return None,
        },
    })
}

fn packets(data: PacketData, (kept_packets, kept_bytes): (usize, usize)) -> Result<Vec<SequencePacket>, String> {
    let count = data.packet_dir.len();
    if data.payload_bytes.len() != count || data.iat.len() != count {
        return Err(format!(
            "{count} directions, {} lengths and {} times; the counts must be equal",
            data.payload_bytes.len(),
            data.iat.len()
        ));
    }
    if count > MOST_PACKETS {
        return Err(format!("more than {MOST_PACKETS} packets"));
    }
    let mut raw = data.raw_payload.into_iter();
    let mut time = 0_i64;
    let mut packets = Vec::with_capacity(count);
    for (number, ((direction, length), iat)) in
        data.packet_dir.into_iter().zip(data.payload_bytes).zip(data.iat).enumerate()
    {
        let gap =
            nanoseconds(iat).filter(|_| iat.is_finite()).ok_or_else(|| format!("{iat} is not an inter-packet time"))?;
        time = time.saturating_add(gap.max(0));
        let mut bytes = raw.next().unwrap_or_default();
        bytes.truncate(if number < kept_packets { kept_bytes } else { 0 });
        packets.push(SequencePacket {
            direction: match direction {
                0 => PacketDirection::Forward,
                1 => PacketDirection::Backward,
                _ => return Err(format!("direction {direction} is neither 0 nor 1")),
            },
            timestamp: time,
            length,
            flags: 0,
            bytes,
            offsets: (0, 0),
        });
    }
    Ok(packets)
}

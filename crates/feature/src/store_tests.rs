//! Tests of feature stores: round trips, and files that are not stores.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::*;
use etcbench_capture::{HeaderLayout, Transport};
use etcbench_dataset::{FlowProvenance, Labels};
use etcbench_flow::{FiveTuple, Flow, FlowPacket, PacketDirection};

fn header() -> StoreHeader {
    StoreHeader {
        datasets: vec!["one".to_owned(), "two".to_owned()],
        label_columns: vec!["tunnel".to_owned(), "category".to_owned()],
        added_columns: Vec::new(),
        statistic_names: vec!["duration".to_owned(), "bytes".to_owned()],
        flow_options: FlowOptions { kept_packets: 3, ..FlowOptions::default() },
    }
}

fn endpoint() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(address, port)| SocketAddr::new(address, port))
}

fn packet(transport: Transport) -> impl Strategy<Value = FlowPacket> {
    let parts =
        (any::<bool>(), any::<i64>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..40), any::<(u16, u16)>());
    parts.prop_map(move |(forward, timestamp, wire_length, bytes, (transport_offset, payload_offset))| FlowPacket {
        direction: if forward { PacketDirection::Forward } else { PacketDirection::Backward },
        timestamp,
        wire_length,
        bytes,
        layout: HeaderLayout { transport_offset, payload_offset, transport },
    })
}

fn labelled() -> impl Strategy<Value = LabelledFlow> {
    let transport = prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)];
    transport.prop_flat_map(|transport| {
        let parts = (
            "(one|two)/[a-zé/]{0,8}",
            any::<u32>(),
            (endpoint(), endpoint()),
            any::<(i64, i64)>(),
            (proptest::option::of(".{0,6}"), proptest::option::of("[a-z]{1,6}")),
            proptest::collection::vec(packet(transport), 0..=3),
            proptest::collection::vec(any::<f64>().prop_filter("comparable", |value| !value.is_nan()), 2),
        );
        parts.prop_map(move |(capture, number, (source, destination), (start, end), values, packets, statistics)| {
            let five_tuple = FiveTuple { source, destination, transport };
            let values = [("tunnel", values.0), ("category", values.1)];
            let labels: Labels =
                values.into_iter().filter_map(|(column, value)| Some((column.to_owned(), value?))).collect();
            LabelledFlow {
                provenance: FlowProvenance { capture, number, five_tuple, start, end, packet: None },
                labels,
                flow: Flow { five_tuple, start, end, packets, statistics },
            }
        })
    })
}

fn round_trip(flows: &[LabelledFlow]) -> Vec<LabelledFlow> {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a.parquet"), folder.path().join("b.parquet"));
    assert_eq!(write_store(&first, &header(), flows).unwrap(), flows.len() as u64);
    write_store(&second, &header(), flows).unwrap();
    assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
    let reader = StoreReader::open(&first).unwrap();
    assert_eq!(*reader.header(), header());
    reader.collect::<Result<_, _>>().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn flows_come_back_as_they_were(flows in proptest::collection::vec(labelled(), 0..30)) {
        prop_assert_eq!(round_trip(&flows), flows);
    }

    #[test]
    fn flows_are_the_same_with_any_compression(flows in proptest::collection::vec(labelled(), 1..10)) {
        let folder = tempfile::tempdir().unwrap();
        for text in ["none", "snappy", "zstd:1", "zstd:19"] {
            let compression: StoreCompression = text.parse().unwrap();
            prop_assert_eq!(compression.to_string(), text);
            let path = folder.path().join(text);
            let mut rest = flows.iter();
            stream_store(&path, &header(), Columns::Own, compression, &mut || Ok(rest.next())).unwrap();
            let found: Vec<LabelledFlow> = StoreReader::open(&path).unwrap().collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(&found, &flows);
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_or_flows_but_never_a_panic(
        flow in labelled(), place in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write_store(&path, &header(), [&flow]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let place = place.index(bytes.len());
        if cut { bytes.truncate(place) } else { bytes[place] ^= 1 << bit }
        std::fs::write(&path, &bytes).unwrap();
        match StoreReader::open(&path) {
            Ok(reader) => prop_assert!(!cut && reader.take(3).count() <= 2),
            Err(error) => prop_assert!(error.to_string().contains("a.parquet")),
        }
    }
}

fn some_flow() -> LabelledFlow {
    let five_tuple = FiveTuple {
        source: "10.0.0.1:1000".parse().unwrap(),
        destination: "[2001:db8::1]:443".parse().unwrap(),
        transport: Transport::Tcp,
    };
    LabelledFlow {
        provenance: FlowProvenance {
            capture: "one/a.pcap".to_owned(),
            number: 0,
            five_tuple,
            start: 1,
            end: 2,
            packet: None,
        },
        labels: Labels::from([("tunnel".to_owned(), "vpn".to_owned())]),
        flow: Flow { five_tuple, start: 1, end: 2, packets: Vec::new(), statistics: vec![0.5, 2.0] },
    }
}

#[test]
fn more_flows_than_a_row_group_come_back_in_order() {
    let flows: Vec<LabelledFlow> = (0..ROWS_PER_GROUP as u32 + 5)
        .map(|number| {
            let mut flow = some_flow();
            flow.provenance.number = number;
            flow
        })
        .collect();
    assert!(round_trip(&flows) == flows);
}

#[test]
fn a_flow_that_would_lose_something_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let fault = |change: &dyn Fn(&mut LabelledFlow)| {
        let mut flow = some_flow();
        change(&mut flow);
        let error = write_store(&path, &header(), [&flow]).unwrap_err().to_string();
        assert!(!path.exists());
        error
    };
    assert!(fault(&|flow| flow.provenance.capture = "three/a.pcap".to_owned()).contains("none of the datasets"));
    assert!(fault(&|flow| drop(flow.labels.insert("speed".to_owned(), "x".to_owned()))).contains("`speed`"));
    assert!(fault(&|flow| flow.flow.statistics.clear()).contains("0 statistics, but the header lists 2"));
    assert!(fault(&|flow| flow.flow.start = 7).contains("contradicts its provenance"));
}

#[test]
fn a_file_that_is_no_store_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    std::fs::write(&path, b"not parquet at all").unwrap();
    assert!(StoreReader::open(&path).err().unwrap().to_string().contains("delete it"));
    assert!(StoreReader::open(&folder.path().join("none.parquet")).is_err());
}

#[test]
fn one_wrong_bit_in_the_file_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write_store(&path, &header(), [&some_flow(), &some_flow()]).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let mut faults = 0;
    for place in (0..bytes.len()).step_by(29) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        std::fs::write(&path, &damaged).unwrap();
        faults += usize::from(StoreReader::open(&path).map_or(true, |mut reader| reader.any(|flow| flow.is_err())));
    }
    assert!(faults > 0 && faults < bytes.len() / 29, "{faults} of {}", bytes.len());
}

//! Flow files: CSV with a line for each flow of an experiment, with its class. A split file lists the part of each
//! flow; with the classes in addition, the same split can be drawn again without captures or features.

use std::path::Path;

use ndarray::Array2;

use super::SplitError;
use super::file::{error, identity};
use etcbench_capture::Transport;
use etcbench_dataset::FlowProvenance;
use etcbench_feature::{FeatureSet, TokenArray};
use etcbench_flow::FiveTuple;
use etcbench_storage::write_whole_with;

/// `start` and `end` are nanoseconds since the Unix epoch.
const COLUMNS: [&str; 7] = ["flow_id", "source", "destination", "transport", "start", "end", "class"];

/// Writes the flows of `features` in order, each with its class.
///
/// # Errors
/// A label that is not a class, or any error of the file system.
pub fn write_flows(path: &Path, features: &FeatureSet) -> Result<(), SplitError> {
    let class = |label: u32| {
        let name = features.class_names.get(label as usize);
        name.ok_or_else(|| {
            error(path, format!("a flow has label {label}, but there are {} classes", features.class_names.len()))
        })
    };
    let classes = features.labels.iter().map(|&label| class(label)).collect::<Result<Vec<_>, _>>()?;
    let fill = |file: &mut dyn std::io::Write| -> Result<(), csv::Error> {
        let mut writer = csv::Writer::from_writer(file);
        writer.write_record(COLUMNS)?;
        for (flow, class) in features.provenance.iter().zip(classes) {
            let [flow_id, source, destination, transport, start] = identity(flow);
            writer.write_record([&flow_id, &source, &destination, &transport, &start, &flow.end.to_string(), class])?;
        }
        writer.flush().map_err(csv::Error::from)
    };
    write_whole_with(path, |file| fill(file).map_err(std::io::Error::other)).map_err(|problem| error(path, problem))
}

/// Reads flows written by [`write_flows`], with these classes and without features.
///
/// # Errors
/// A file that is not a flow file (the error names the line), or an unknown class.
pub fn read_flows(path: &Path, class_names: &[String]) -> Result<FeatureSet, SplitError> {
    let mut reader = csv::Reader::from_path(path).map_err(|problem| error(path, problem))?;
    let header = reader.headers().map_err(|problem| error(path, problem))?;
    if header.iter().ne(COLUMNS) {
        return Err(error(path, format!("its columns are not {}", COLUMNS.join(", "))));
    }
    let (mut labels, mut provenance) = (Vec::new(), Vec::new());
    for record in reader.records() {
        let record = record.map_err(|problem| error(path, problem))?;
        let line = record.position().map_or(0, csv::Position::line);
        let fault = |column: usize| {
            error(path, format!("line {line}: {} {:?} cannot be read", COLUMNS[column], &record[column]))
        };
        let (capture, number, packet) = parse_flow_id(&record[0]).ok_or_else(|| fault(0))?;
        let transport = match &record[3] {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            _ => return Err(fault(3)),
        };
        let source = record[1].parse().map_err(|_| fault(1))?;
        let destination = record[2].parse().map_err(|_| fault(2))?;
        let start = record[4].parse().map_err(|_| fault(4))?;
        let end = record[5].parse().map_err(|_| fault(5))?;
        let class = class_names.iter().position(|name| *name == record[6]);
        let class = class.ok_or_else(|| error(path, format!("line {line}: there is no class `{}`", &record[6])))?;
        let five_tuple = FiveTuple { source, destination, transport };
        provenance.push(FlowProvenance { capture, number, five_tuple, start, end, packet });
        labels.push(class as u32);
    }
    Ok(FeatureSet {
        tokens: TokenArray { packets: 0, bytes: 0, values: Vec::new() },
        statistics: Array2::zeros((labels.len(), 0)),
        statistic_names: Vec::new(),
        sequences: Array2::zeros((labels.len(), 0)),
        flowpics: Array2::zeros((labels.len(), 0)),
        labels,
        class_names: class_names.to_vec(),
        provenance,
    })
}

/// Parses the capture, number and packet from an id produced by [`FlowProvenance::flow_id`].
fn parse_flow_id(id: &str) -> Option<(String, u32, Option<u32>)> {
    let (capture, rest) = id.rsplit_once('#')?;
    let (number, packet) = match rest.split_once('.') {
        Some((number, packet)) => (number, Some(packet.parse().ok()?)),
        None => (rest, None),
    };
    Some((capture.to_owned(), number.parse().ok()?, packet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flows.csv");
        let names: Vec<String> = ["a, \"b\"", "c"].map(str::to_owned).into();
        let flow = |capture: &str, number, packet| FlowProvenance {
            capture: capture.to_owned(),
            number,
            five_tuple: FiveTuple {
                source: "[fe80::1]:80".parse().unwrap(),
                destination: "10.0.0.1:443".parse().unwrap(),
                transport: Transport::Udp,
            },
            start: -5,
            end: 1_795_678_949_930_764_000,
            packet,
        };
        let provenance = vec![flow("x#1/y.pcap", 7, None), flow("z.zip!m.pcap", 0, Some(3))];
        let mut features = FeatureSet {
            tokens: TokenArray { packets: 0, bytes: 0, values: Vec::new() },
            statistics: Array2::zeros((2, 0)),
            statistic_names: Vec::new(),
            sequences: Array2::zeros((2, 0)),
            flowpics: Array2::zeros((2, 0)),
            labels: vec![1, 0],
            class_names: names.clone(),
            provenance,
        };
        write_flows(&path, &features).unwrap();
        let read = read_flows(&path, &names).unwrap();
        assert_eq!((&read.labels, &read.provenance), (&features.labels, &features.provenance));
        let message = read_flows(&path, &names[1..]).unwrap_err().to_string();
        assert!(message.contains("line 3: there is no class `a, \"b\"`"), "{message}");
        std::fs::write(&path, "flow_id,part\n").unwrap();
        assert!(read_flows(&path, &names).unwrap_err().to_string().contains("its columns are not flow_id, source"));
        features.labels[0] = 2;
        assert!(write_flows(&path, &features).unwrap_err().to_string().contains("label 2, but there are 2 classes"));
    }
}

//! Compares the statistics with `tests/fixtures/flow_statistics/make.py`, which computes them with numpy.

use std::path::Path;

use crate::{Flow, FlowOptions, STATISTIC_NAMES, assemble_capture};
use etcbench_capture::CaptureSummary;

#[test]
fn statistics_equal_those_of_the_independent_script() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/flow_statistics");
    let options = FlowOptions { active_timeout: 900.0, ..FlowOptions::default() };
    let mut flows: Vec<Flow> = Vec::new();
    let summary = assemble_capture(&folder.join("packets.pcap"), &options, &mut |flow| flows.push(flow)).unwrap();
    let CaptureSummary { packets, decoded, damage, .. } = &summary;
    assert_eq!((packets, damage), (decoded, &None));

    let mut table = csv::Reader::from_path(folder.join("statistics.csv")).unwrap();
    let columns = table.headers().unwrap().clone();
    assert_eq!(columns.len(), 3 + STATISTIC_NAMES.len());
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), flows.len());
    for (row, flow) in rows.iter().zip(&flows) {
        let cell = |name: &str| &row[columns.iter().position(|column| column == name).expect(name)];
        assert_eq!(cell("start"), flow.start.to_string());
        assert_eq!(cell("end"), flow.end.to_string());
        assert_eq!(cell("source_port"), flow.five_tuple.source.port().to_string());
        assert_eq!(flow.statistics.len(), STATISTIC_NAMES.len());
        for (name, value) in STATISTIC_NAMES.iter().zip(&flow.statistics) {
            let expected: f64 = cell(name).parse().unwrap();
            // Times of 1.7e18 ns are subtracted exactly in both, so the only difference is rounding.
            let close = (value - expected).abs() <= 1e-9 * expected.abs().max(1e-9);
            assert!(close, "{name} of the flow from {}: {value} is not {expected}", flow.five_tuple.source);
        }
    }
}

#[test]
fn names_are_different() {
    let mut names = STATISTIC_NAMES.to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), STATISTIC_NAMES.len());
}

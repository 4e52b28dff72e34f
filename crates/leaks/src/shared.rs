//! What train and test share: captures, hosts, connections and times; and which captures a class comes from.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use etcbench_capture::Transport;
use etcbench_dataset::FlowProvenance;
use etcbench_feature::FeatureSet;
use etcbench_split::Split;

/// What train and test share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// Number of captures with flows in both.
    pub captures: usize,
    /// Number of test flows from them.
    pub capture_flows: usize,
    /// Number of destination addresses in both.
    pub hosts: usize,
    /// Number of test flows to them.
    pub host_flows: usize,
    /// Number of test flows of a connection (capture, both endpoints, transport) that also has training flows: a
    /// connection split by timeouts, or the other direction of a unidirectional flow.
    pub connection_flows: usize,
    /// Number of test flows that overlap in time with a training flow of their capture.
    pub concurrent_flows: usize,
    /// Number of test flows that begin between the first and the last training flow of their class; 0 for a split by
    /// time.
    pub within_training_time_flows: usize,
}

/// The captures of a class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCaptures {
    /// The class.
    pub class: String,
    /// Number of its flows.
    pub flows: usize,
    /// Number of captures with flows of it. A class from a single capture cannot be distinguished from the
    /// circumstances of that capture.
    pub captures: usize,
    /// Number of these that contain no other class.
    pub captures_of_its_own: usize,
    /// Names of the captures with test flows of it; empty in reports of versions that did not list them.
    #[serde(default)]
    pub tested: Vec<String>,
}

type Connection<'a> = (&'a str, SocketAddr, SocketAddr, Transport);

/// Returns a key that is the same for both directions.
fn connection(flow: &FlowProvenance) -> Connection<'_> {
    let (one, other) = (flow.five_tuple.source, flow.five_tuple.destination);
    (&flow.capture, one.min(other), one.max(other), flow.five_tuple.transport)
}

impl Shared {
    pub(super) fn new(features: &FeatureSet, split: &Split) -> Self {
        // Rows of feature files have captures, but neither addresses nor times.
        let located = |row: &usize| !features.provenance[*row].five_tuple.destination.ip().is_unspecified();
        let trained: Vec<usize> = split.train.iter().copied().filter(located).collect();
        let tested: Vec<usize> = split.test.iter().copied().filter(located).collect();
        let flow = |row: usize| &features.provenance[row];
        let host = |row: usize| flow(row).five_tuple.destination.ip();
        let captures: BTreeSet<&str> = split.train.iter().map(|&row| flow(row).capture.as_str()).collect();
        let hosts: BTreeSet<IpAddr> = trained.iter().map(|&row| host(row)).collect();
        let connections: HashSet<Connection<'_>> = trained.iter().map(|&row| connection(flow(row))).collect();
        let mut times: Vec<Option<(i64, i64)>> = vec![None; features.class_names.len()];
        let mut spans: HashMap<&str, Vec<(i64, i64)>> = HashMap::new();
        for &row in &trained {
            let (start, end) = (flow(row).start, flow(row).end);
            let time = &mut times[features.labels[row] as usize];
            *time = Some(time.map_or((start, start), |(first, last)| (first.min(start), last.max(start))));
            spans.entry(&flow(row).capture).or_default().push((start, end));
        }
        spans.values_mut().for_each(merge);
        let concurrent = |row: usize| {
            let (start, end) = (flow(row).start, flow(row).end);
            spans.get(flow(row).capture.as_str()).is_some_and(|spans| {
                // The first span that does not end before the flow begins.
                let next = spans.partition_point(|&(_, last)| last < start);
                spans.get(next).is_some_and(|&(first, _)| first <= end)
            })
        };
        let count = |counted: &dyn Fn(usize) -> bool| tested.iter().filter(|&&row| counted(row)).count();
        let in_both = |row: &usize| captures.contains(flow(*row).capture.as_str());
        let shared_captures: BTreeSet<&str> =
            split.test.iter().filter(|row| in_both(row)).map(|&row| flow(row).capture.as_str()).collect();
        let shared_hosts: BTreeSet<IpAddr> =
            tested.iter().map(|&row| host(row)).filter(|host| hosts.contains(host)).collect();
        Self {
            captures: shared_captures.len(),
            capture_flows: split.test.iter().filter(|row| in_both(row)).count(),
            hosts: shared_hosts.len(),
            host_flows: count(&|row| hosts.contains(&host(row))),
            connection_flows: count(&|row| connections.contains(&connection(flow(row)))),
            concurrent_flows: count(&concurrent),
            within_training_time_flows: count(&|row| {
                times[features.labels[row] as usize]
                    .is_some_and(|(first, last)| (first..=last).contains(&flow(row).start))
            }),
        }
    }
}

/// Sorts time spans and merges those that overlap.
fn merge(spans: &mut Vec<(i64, i64)>) {
    spans.sort_unstable();
    let mut merged: Vec<(i64, i64)> = Vec::new();
    for &(first, last) in spans.iter() {
        match merged.last_mut() {
            Some((_, end)) if first <= *end => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    *spans = merged;
}

/// Returns the captures of each class, and which of them are tested.
pub(super) fn class_captures(features: &FeatureSet, split: &Split) -> Vec<ClassCaptures> {
    let mut classes_of: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    let mut flows = vec![0; features.class_names.len()];
    for (flow, &label) in features.provenance.iter().zip(&features.labels) {
        classes_of.entry(&flow.capture).or_default().insert(label);
        flows[label as usize] += 1;
    }
    let mut tested = vec![BTreeSet::new(); features.class_names.len()];
    for &row in &split.test {
        tested[features.labels[row] as usize].insert(features.provenance[row].capture.as_str());
    }
    let named = features.class_names.iter().zip(flows).zip(tested).enumerate();
    named
        .map(|(class, ((name, flows), tested))| {
            let captures_of_class: Vec<_> =
                classes_of.values().filter(|classes| classes.contains(&(class as u32))).collect();
            ClassCaptures {
                class: name.clone(),
                flows,
                captures: captures_of_class.len(),
                captures_of_its_own: captures_of_class.iter().filter(|classes| classes.len() == 1).count(),
                tested: tested.into_iter().map(str::to_owned).collect(),
            }
        })
        .collect()
}

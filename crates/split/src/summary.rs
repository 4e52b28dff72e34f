//! Summary of a split: flows by class and part, and what two parts share.

use std::collections::BTreeMap;

use super::{Part, Split};
use etcbench_feature::FeatureSet;

/// Flows by class and part, and the captures and hosts that are in two parts.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitSummary {
    /// The classes.
    pub class_names: Vec<String>,
    /// Flows of each class in train, validation and test.
    pub counts: Vec<[usize; 3]>,
    /// Train and validation, train and test, validation and test.
    pub shared: [SharedProvenance; 3],
}

/// What two parts share.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedProvenance {
    /// One part.
    pub first: Part,
    /// The other part.
    pub second: Part,
    /// Captures with flows in both, by name.
    pub captures: Vec<String>,
    /// Number of flows of `second` from those captures.
    pub capture_flows: usize,
    /// Number of destination addresses that are in both.
    pub hosts: usize,
    /// Number of flows of `second` to those addresses.
    pub host_flows: usize,
}

impl SplitSummary {
    /// Summarises a split of `features`.
    pub fn new(features: &FeatureSet, split: &Split) -> Self {
        let mut counts = vec![[0; 3]; features.class_names.len()];
        let mut captures: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
        let mut hosts: BTreeMap<std::net::IpAddr, [usize; 3]> = BTreeMap::new();
        for part in Part::ALL {
            for &row in split.part(part) {
                let provenance = &features.provenance[row];
                counts[features.labels[row] as usize][part as usize] += 1;
                captures.entry(&provenance.capture).or_default()[part as usize] += 1;
                // Rows of feature files have no address.
                let host = provenance.five_tuple.destination.ip();
                if !host.is_unspecified() {
                    hosts.entry(host).or_default()[part as usize] += 1;
                }
            }
        }
        let pairs = [(Part::Train, Part::Validation), (Part::Train, Part::Test), (Part::Validation, Part::Test)];
        let shared = pairs.map(|(first, second)| {
            let both = |flows: &[usize; 3]| flows[first as usize] > 0 && flows[second as usize] > 0;
            let shared_captures: Vec<_> = captures.iter().filter(|(_, flows)| both(flows)).collect();
            let shared_hosts: Vec<_> = hosts.values().filter(|flows| both(flows)).collect();
            SharedProvenance {
                first,
                second,
                captures: shared_captures.iter().map(|(name, _)| (**name).to_owned()).collect(),
                capture_flows: shared_captures.iter().map(|(_, flows)| flows[second as usize]).sum(),
                hosts: shared_hosts.len(),
                host_flows: shared_hosts.iter().map(|flows| flows[second as usize]).sum(),
            }
        });
        Self { class_names: features.class_names.clone(), counts, shared }
    }
}

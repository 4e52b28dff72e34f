//! Labels flows by the addresses of their hosts, for datasets that publish only which hosts are infected or known to be
//! benign.

use std::net::IpAddr;

use regex::Regex;

use super::definition_file::HostLabelsSection;
use super::labelled::Labels;
use super::rules::{add_label, capture_stem, known_column};
use etcbench_flow::FiveTuple;

/// A range of addresses with a common prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    /// The address, with IPv4 as IPv4-mapped IPv6 (RFC 4291).
    bits: u128,
    /// Prefix length, of 128 bits.
    length: u32,
}

impl Network {
    /// Parses `147.32.84.165`, `10.0.0.0/8`, or the same for IPv6.
    fn parse(text: &str) -> Option<Network> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(most);
        (length <= most).then(|| Network { bits: bits(address), length: 128 - most + length })
    }

    fn holds(self, address: IpAddr) -> bool {
        // Shifting by all 128 bits would overflow; a prefix of 0 bits contains every address.
        let shift = 128 - self.length;
        shift == 128 || (self.bits ^ bits(address)) >> shift == 0
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[derive(Debug, Clone)]
struct Rule {
    networks: Vec<Network>,
    capture: Option<Regex>,
    labels: Labels,
}

/// `[host_labels]`, compiled.
#[derive(Debug, Clone)]
pub(super) struct HostLabelRules {
    rules: Vec<Rule>,
}

/// Labels of a flow, by its hosts.
#[derive(Debug, PartialEq)]
pub(super) enum HostLabels {
    /// The labels of its hosts.
    Labels(Labels),
    /// The labels of its two hosts disagree.
    Ambiguous,
    /// Neither host has a label.
    Unused,
}

impl HostLabelRules {
    pub(crate) fn new(columns: &[String], section: &HostLabelsSection) -> Result<Self, String> {
        let mut rules = Vec::new();
        for (index, rule) in section.rule.iter().enumerate() {
            let place = format!("[[host_labels.rule]] number {}", index + 1);
            if rule.addresses.is_empty() || rule.labels.is_empty() {
                return Err(format!("{place} needs at least one of `addresses` and one of `labels`"));
            }
            for column in rule.labels.keys() {
                known_column(column, columns).map_err(|message| format!("{place}: {message}"))?;
            }
            let capture = rule.capture.as_deref().map(Regex::new).transpose();
            let capture = capture.map_err(|_| format!("{place}: `capture` is not a valid regular expression"))?;
            let mut networks = Vec::new();
            for text in &rule.addresses {
                let network = Network::parse(text);
                networks.push(network.ok_or_else(|| {
                    format!("{place}: `{text}` is not an address; write it as 147.32.84.165 or 10.0.0.0/8")
                })?);
            }
            rules.push(Rule { networks, capture, labels: rule.labels.clone() });
        }
        if rules.is_empty() {
            return Err("[[host_labels.rule]]: at least one is needed".to_owned());
        }
        Ok(Self { rules })
    }

    /// Returns whether every rule sets a value for `column`.
    pub(crate) fn gives(&self, column: &str) -> bool {
        self.rules.iter().all(|rule| rule.labels.contains_key(column))
    }

    /// Returns the labels of a flow of the capture at `path`.
    pub(crate) fn labels_of(&self, tuple: &FiveTuple, path: &str) -> HostLabels {
        let stem = capture_stem(path);
        let mut labels = Labels::new();
        let ends = [tuple.source.ip(), tuple.destination.ip()];
        for rule in &self.rules {
            let here = rule.capture.as_ref().is_none_or(|regex| regex.is_match(stem));
            if !here || !ends.iter().any(|&end| rule.networks.iter().any(|network| network.holds(end))) {
                continue;
            }
            for (column, value) in &rule.labels {
                if add_label(&mut labels, column, value).is_err() {
                    return HostLabels::Ambiguous;
                }
            }
        }
        if labels.is_empty() { HostLabels::Unused } else { HostLabels::Labels(labels) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition_file::HostLabelRuleSection;
    use etcbench_capture::Transport;

    fn rule(addresses: &[&str], capture: Option<&str>, traffic: &str) -> HostLabelRuleSection {
        HostLabelRuleSection {
            addresses: addresses.iter().map(|&address| address.to_owned()).collect(),
            capture: capture.map(str::to_owned),
            labels: Labels::from([("traffic".to_owned(), traffic.to_owned())]),
        }
    }

    fn rules(rule: Vec<HostLabelRuleSection>) -> Result<HostLabelRules, String> {
        HostLabelRules::new(&["traffic".to_owned()], &HostLabelsSection { rule })
    }

    fn tuple(source: &str, destination: &str) -> FiveTuple {
        let end = |text: &str| std::net::SocketAddr::new(text.parse().unwrap(), 1);
        FiveTuple { source: end(source), destination: end(destination), transport: Transport::Tcp }
    }

    #[test]
    fn either_end_gives_the_label_and_two_that_disagree_give_none() {
        let rules = rules(vec![
            rule(&["10.0.0.5"], None, "botnet"),
            rule(&["10.1.0.0/16", "fd00::/8"], None, "normal"),
            rule(&["10.0.0.6"], Some("^two$"), "botnet"),
        ])
        .unwrap();
        let traffic =
            |source: &str, destination: &str, path: &str| match rules.labels_of(&tuple(source, destination), path) {
                HostLabels::Labels(labels) => labels["traffic"].clone(),
                other => format!("{other:?}"),
            };
        assert_eq!(traffic("10.0.0.5", "8.8.8.8", "one.pcap"), "botnet");
        assert_eq!(traffic("8.8.8.8", "10.0.0.5", "one.pcap"), "botnet");
        assert_eq!(traffic("10.1.200.1", "8.8.8.8", "one.pcap"), "normal");
        assert_eq!(traffic("fd12::1", "fe80::1", "one.pcap"), "normal");
        assert_eq!(traffic("10.2.0.1", "8.8.8.8", "one.pcap"), "Unused");
        assert_eq!(traffic("10.0.0.5", "10.1.0.1", "one.pcap"), "Ambiguous");
        assert_eq!(traffic("10.0.0.6", "8.8.8.8", "one.pcap"), "Unused");
        assert_eq!(traffic("10.0.0.6", "8.8.8.8", "a/two.pcap.gz"), "botnet");
    }

    #[test]
    fn addresses_that_are_none_are_told() {
        for bad in ["10.0.0", "10.0.0.0/33", "fd00::/129", "host", "10.0.0.1/x"] {
            let error = rules(vec![rule(&[bad], None, "botnet")]).unwrap_err();
            assert!(error.contains("number 1") && error.contains(bad), "{error}");
        }
        assert!(rules(vec![]).is_err() && rules(vec![rule(&[], None, "x")]).is_err());
        assert_eq!(Network::parse("0.0.0.0/0").map(|network| network.holds("9.9.9.9".parse().unwrap())), Some(true));
        assert_eq!(Network::parse("::/0").map(|network| network.holds("9.9.9.9".parse().unwrap())), Some(true));
    }
}

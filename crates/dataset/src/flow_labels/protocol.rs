//! The protocol column of a flow-label file: which words are TCP or UDP, and counts of those that are not known.

use std::collections::BTreeMap;
use std::fmt;

use etcbench_capture::Transport;
use etcbench_storage::counted;

/// Maximum number of distinct words to count by name.
const MOST_WORDS: usize = 100;
/// Maximum number of words to list.
const NAMED_WORDS: usize = 10;
/// Maximum number of characters of a word to keep.
const LONGEST_WORD: usize = 40;

/// Names of the number 6, including those of pandas (`6.0`).
const TCP: [&str; 5] = ["tcp", "6", "6.0", "0x06", "0x6"];
/// Argus writes `rtp`, `rtcp` and `udt` for UDP with such a payload (argus(5), "proto").
const UDP: [&str; 7] = ["udp", "17", "17.0", "0x11", "rtp", "rtcp", "udt"];
/// Protocols below or beside TCP and UDP that published files contain, as Argus, Zeek, nfdump and CICFlowMeter call them.
const OTHERS: [&str; 46] = [
    "ah",
    "arp",
    "cdp",
    "cftp",
    "dccp",
    "egp",
    "eigrp",
    "esp",
    "etherip",
    "gre",
    "hopopt",
    "icmp",
    "icmp6",
    "icmpv6",
    "idp",
    "igmp",
    "igp",
    "ip",
    "ipcomp",
    "ipip",
    "ipnip",
    "ipv6",
    "ipv6-frag",
    "ipv6-icmp",
    "ipv6-no",
    "ipv6-opts",
    "ipv6-route",
    "ipx",
    "ipx/spx",
    "isis",
    "l2tp",
    "llc",
    "lldp",
    "loop",
    "man",
    "ospf",
    "ospfigp",
    "pim",
    "rarp",
    "rsvp",
    "sctp",
    "stp",
    "udplite",
    "unas",
    "unknown_transport",
    "vrrp",
];

/// What a word says about a flow's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProtocolWord {
    Transport(Transport),
    /// A known protocol other than TCP and UDP.
    Other,
    Unknown,
}

/// Parses a protocol given by name or number.
pub(super) fn protocol(text: &str) -> ProtocolWord {
    let is_one_of = |names: &[&str]| names.iter().any(|name| text.eq_ignore_ascii_case(name));
    if is_one_of(&TCP) {
        ProtocolWord::Transport(Transport::Tcp)
    } else if is_one_of(&UDP) {
        ProtocolWord::Transport(Transport::Udp)
    } else if is_one_of(&OTHERS) || is_number(text) {
        ProtocolWord::Other
    } else {
        ProtocolWord::Unknown
    }
}

/// Whether the text is a protocol number: decimal, hexadecimal, or as pandas writes a column with gaps.
fn is_number(text: &str) -> bool {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u8::from_str_radix(digits, 16).is_ok(),
        None => text.strip_suffix(".0").unwrap_or(text).parse::<u8>().is_ok(),
    }
}

/// Lines whose protocol is an unknown word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnknownProtocols {
    /// Number of such lines.
    pub count: u64,
    /// Lines by word, for at most 100 words.
    words: BTreeMap<String, u64>,
}

impl UnknownProtocols {
    pub(super) fn add(&mut self, text: &str) {
        self.count += 1;
        let word: String = text.chars().take(LONGEST_WORD).collect();
        if self.words.len() < MOST_WORDS || self.words.contains_key(&word) {
            *self.words.entry(word).or_default() += 1;
        }
    }
}

/// The most frequent words with their counts.
impl fmt::Display for UnknownProtocols {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<(&String, u64)> = self.words.iter().map(|(word, count)| (word, *count)).collect();
        words.sort_by_key(|&(word, count)| (u64::MAX - count, word));
        let named: Vec<String> =
            words.iter().take(NAMED_WORDS).map(|(word, count)| format!("`{word}`: {count}")).collect();
        let shown: u64 = words.iter().take(NAMED_WORDS).map(|(_, count)| count).sum();
        let more = if shown < self.count { ", ..." } else { "" };
        write!(
            formatter,
            "{} not used, since the protocol is unknown ({}{more})",
            counted(self.count, "line"),
            named.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_read_as_tools_write_them() {
        for text in ["udp", "UDP", "17", "17.0", "0x11", "rtp", "RTCP", "udt"] {
            assert_eq!(protocol(text), ProtocolWord::Transport(Transport::Udp), "{text}");
        }
        assert_eq!([protocol("6.0"), protocol("Tcp")], [ProtocolWord::Transport(Transport::Tcp); 2]);
        for text in ["icmp", "ARP", "1", "1.0", "0x01", "ipv6-icmp", "icmpv6", "unknown_transport"] {
            assert_eq!(protocol(text), ProtocolWord::Other, "{text}");
        }
        for text in ["", "-", "256", "17.5", "quic", "tcp/ip"] {
            assert_eq!(protocol(text), ProtocolWord::Unknown, "{text}");
        }
    }

    #[test]
    fn unknown_words_are_counted_within_a_limit() {
        let mut unknown = UnknownProtocols::default();
        ["quic", "dccp2", "quic"].iter().for_each(|word| unknown.add(word));
        let told = "3 lines not used, since the protocol is unknown (`quic`: 2, `dccp2`: 1)";
        assert_eq!(unknown.to_string(), told);
        (0..1000).for_each(|number| unknown.add(&number.to_string().repeat(50)));
        assert_eq!((unknown.count, unknown.words.len()), (1003, MOST_WORDS));
        assert!(unknown.words.keys().all(|word| word.len() <= LONGEST_WORD));
        assert!(unknown.to_string().ends_with(", ...)"));
    }
}

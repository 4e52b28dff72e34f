//! A line of a flow-label file: the positions of its fields, and the flow it describes.

use std::net::IpAddr;
use std::ops::Range;

use etcbench_capture::Transport;
use etcbench_flow::FiveTuple;

/// An address (IPv4 as IPv4-mapped IPv6, RFC 4291) and a port.
type Endpoint = (u128, u16);

/// Both endpoints in ascending order, so that the direction is irrelevant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    endpoints: (Endpoint, Endpoint),
    transport: Transport,
}

impl Key {
    pub(super) fn new(source: (IpAddr, u16), destination: (IpAddr, u16), transport: Transport) -> Key {
        let endpoint = |(address, port): (IpAddr, u16)| match address {
            IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), port),
            IpAddr::V6(address) => (address.to_bits(), port),
        };
        let (source, destination) = (endpoint(source), endpoint(destination));
        Key { endpoints: (source.min(destination), source.max(destination)), transport }
    }

    pub(super) fn of(tuple: &FiveTuple) -> Key {
        let ends = |end: std::net::SocketAddr| (end.ip(), end.port());
        Key::new(ends(tuple.source), ends(tuple.destination), tuple.transport)
    }
}

/// A line that describes a TCP or UDP flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    pub key: Key,
    /// Nanoseconds since the Unix epoch.
    pub start: i64,
    /// Nanoseconds since the Unix epoch.
    pub end: i64,
    /// Index of its labels in the reader; `NO_LABELS` if no rule maps its label.
    pub labels: u32,
}

/// The index for a label that no rule maps.
pub(super) const NO_LABELS: u32 = u32::MAX;

/// Parses a port: decimal, hexadecimal as sometimes written by Argus (`0x0035`), or as pandas writes a column with gaps
/// (`53.0`).
pub(super) fn port(text: &str) -> Option<u16> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u16::from_str_radix(digits, 16).ok(),
        None => text.strip_suffix(".0").unwrap_or(text).parse().ok(),
    }
}

/// Finds the fields of a line, without surrounding whitespace. Double quotes around a field are excluded, and
/// separators inside quotes do not separate; a doubled quote inside represents one quote (RFC 4180, section 2) and is
/// left as is here. Returns `None` if quotes are unbalanced.
pub(super) fn fields(line: &str, separator: u8, places: &mut Vec<Range<usize>>) -> Option<()> {
    places.clear();
    let bytes = line.as_bytes();
    let mut start = 0;
    loop {
        let mut from = start;
        while from < bytes.len() && bytes[from] != separator && bytes[from].is_ascii_whitespace() {
            from += 1;
        }
        let (content, end) = if bytes.get(from) == Some(&b'"') {
            let mut close = from + 1;
            loop {
                close += bytes[close..].iter().position(|&byte| byte == b'"')?;
                if bytes.get(close + 1) != Some(&b'"') {
                    break;
                }
                close += 2;
            }
            let rest = &bytes[close + 1..];
            let gap = rest.iter().position(|&byte| byte == separator).unwrap_or(rest.len());
            if !rest[..gap].iter().all(u8::is_ascii_whitespace) {
                return None;
            }
            (from + 1..close, close + 1 + gap)
        } else {
            let end = bytes[from..].iter().position(|&byte| byte == separator).map_or(bytes.len(), |gap| from + gap);
            let mut to = end;
            while to > from && bytes[to - 1].is_ascii_whitespace() {
                to -= 1;
            }
            (from..to, end)
        };
        places.push(content);
        if end >= bytes.len() {
            return Some(());
        }
        start = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str, separator: u8) -> Option<Vec<&str>> {
        let mut places = Vec::new();
        fields(line, separator, &mut places)?;
        Some(places.into_iter().map(|place| &line[place]).collect())
    }

    #[test]
    fn fields_are_trimmed_and_may_be_quoted() {
        assert_eq!(split("a,  -> ,,c\r\n", b','), Some(vec!["a", "->", "", "c"]));
        assert_eq!(split("a\t \tb", b'\t'), Some(vec!["a", "", "b"]));
        assert_eq!(split("\"x, y\" ,z,", b','), Some(vec!["x, y", "z", ""]));
        assert_eq!(split("", b','), Some(vec![""]));
        assert_eq!(split("\"open,z", b','), None);
        assert_eq!(split("\"a\"b,z", b','), None);
        assert_eq!(split("\"a \"\"x\"\", b\",\"\"", b','), Some(vec!["a \"\"x\"\", b", ""]));
        assert_eq!(split("\"a\"\"", b','), None);
    }

    #[test]
    fn ports_are_read_as_tools_write_them() {
        assert_eq!([port("0x0035"), port("53.0"), port("53")], [Some(53); 3]);
        for text in ["", "-", "65536", "53.5", "0x10000", "0x", "http"] {
            assert_eq!(port(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_is_the_same_in_either_direction() {
        let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let key = Key::new((a, 1), (b, 2), Transport::Udp);
        assert_eq!(key, Key::new((b, 2), (a, 1), Transport::Udp));
        assert_ne!(key, Key::new((b, 1), (a, 2), Transport::Udp));
        assert_ne!(key, Key::new((a, 1), (b, 2), Transport::Tcp));
    }
}

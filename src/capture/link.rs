//! Link layers: where the IP header begins in a frame.
//!
//! These headers are a few fixed bytes each, and read here rather than with `etherparse`, which knows
//! neither Linux SLL2 nor loopback, raw IP, PPP and MPLS, and refuses SLL frames of unlisted hardware.

use super::summary::SkipReason;

/// The link types that are decoded, for messages.
pub(super) const SUPPORTED: &str = "Ethernet (1), raw IP (12, 14, 101, 228, 229), Linux SLL (113) and SLL2 (276), \
     BSD loopback (0, 108), PPP (9, 50) and PPPoE (51)";

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const ETHERTYPE_MPLS: [u16; 2] = [0x8847, 0x8848];
const ETHERTYPE_PPPOE_SESSION: u16 = 0x8864;
/// Below this the two bytes are the length of an IEEE 802.3 frame (IEEE 802.3, 3.2.6).
const SMALLEST_ETHERTYPE: u16 = 0x0600;
/// LLC and SNAP headers announcing an EtherType (IEEE 802, 9.5; RFC 1042).
const SNAP_ETHERTYPE: [u8; 6] = [0xaa, 0xaa, 0x03, 0, 0, 0];

/// The link types of <https://www.tcpdump.org/linktypes.html> that are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkLayer {
    Loopback,
    Ethernet,
    Ppp,
    PppOverEthernet,
    RawIp,
    LinuxSll,
    LinuxSll2,
}

impl LinkLayer {
    pub(super) fn from_link_type(link_type: u32) -> Option<LinkLayer> {
        Some(match link_type {
            0 | 108 => LinkLayer::Loopback,
            1 => LinkLayer::Ethernet,
            9 | 50 => LinkLayer::Ppp,
            51 => LinkLayer::PppOverEthernet,
            12 | 14 | 101 | 228 | 229 => LinkLayer::RawIp,
            113 => LinkLayer::LinuxSll,
            276 => LinkLayer::LinuxSll2,
            _ => return None,
        })
    }

    /// Offset of the IP header in a frame.
    pub(super) fn ip_offset(self, frame: &[u8]) -> Result<usize, SkipReason> {
        match self {
            LinkLayer::RawIp => match frame.first().ok_or(SkipReason::HeadersTruncated)? >> 4 {
                4 | 6 => Ok(0),
                _ => Err(SkipReason::NotIp),
            },
            LinkLayer::Ethernet => after_ethertype(frame, 12),
            LinkLayer::LinuxSll => after_ethertype(frame, 14),
            LinkLayer::LinuxSll2 => match big_endian_16(frame, 0)? {
                ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => Ok(20),
                vlan if ETHERTYPE_VLAN.contains(&vlan) => after_ethertype(frame, 22),
                _ => Err(SkipReason::NotIp),
            },
            LinkLayer::Loopback => {
                let family = frame.get(..4).ok_or(SkipReason::HeadersTruncated)?;
                let family = u32::from_be_bytes([family[0], family[1], family[2], family[3]]);
                // In the byte order of the machine that captured. 2 is AF_INET everywhere; AF_INET6 is 10 on
                // Linux, 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on macOS.
                let family = if family > 0xffff { family.swap_bytes() } else { family };
                match family {
                    2 | 10 | 24 | 28 | 30 => Ok(4),
                    _ => Err(SkipReason::NotIp),
                }
            }
            LinkLayer::Ppp => after_ppp(frame, 0),
            LinkLayer::PppOverEthernet => after_ppp(frame, 6),
        }
    }
}

/// The two bytes at `offset`.
fn big_endian_16(frame: &[u8], offset: usize) -> Result<u16, SkipReason> {
    match frame.get(offset..offset + 2) {
        Some(bytes) => Ok(u16::from_be_bytes([bytes[0], bytes[1]])),
        None => Err(SkipReason::HeadersTruncated),
    }
}

/// Follows an EtherType at `offset` through VLAN tags, LLC/SNAP, PPPoE and MPLS.
fn after_ethertype(frame: &[u8], mut offset: usize) -> Result<usize, SkipReason> {
    loop {
        // Every step moves on by at least two bytes, so the frame's end ends the loop.
        let ethertype = big_endian_16(frame, offset)?;
        let payload = offset + 2;
        if ethertype == ETHERTYPE_IPV4 || ethertype == ETHERTYPE_IPV6 {
            return Ok(payload);
        } else if ETHERTYPE_VLAN.contains(&ethertype) {
            offset = payload + 2;
        } else if ethertype == ETHERTYPE_PPPOE_SESSION {
            return after_ppp(frame, payload + 6);
        } else if ETHERTYPE_MPLS.contains(&ethertype) {
            return after_mpls(frame, payload);
        } else if ethertype < SMALLEST_ETHERTYPE && frame.get(payload..payload + 6) == Some(&SNAP_ETHERTYPE) {
            offset = payload + 6;
        } else {
            return Err(SkipReason::NotIp);
        }
    }
}

/// MPLS labels of four bytes each (RFC 3032); the payload shows by its version what it is.
fn after_mpls(frame: &[u8], mut offset: usize) -> Result<usize, SkipReason> {
    loop {
        let label = frame.get(offset..offset + 4).ok_or(SkipReason::HeadersTruncated)?;
        offset += 4;
        if label[2] & 1 == 1 {
            break;
        }
    }
    match frame.get(offset).ok_or(SkipReason::HeadersTruncated)? >> 4 {
        4 | 6 => Ok(offset),
        _ => Err(SkipReason::NotIp),
    }
}

/// PPP (RFC 1661): address and control bytes may be absent, and the protocol compressed to one byte.
fn after_ppp(frame: &[u8], mut offset: usize) -> Result<usize, SkipReason> {
    if frame.get(offset..offset + 2) == Some(&[0xff, 0x03]) {
        offset += 2;
    }
    let first = *frame.get(offset).ok_or(SkipReason::HeadersTruncated)?;
    let (protocol, offset) =
        if first & 1 == 1 { (u16::from(first), offset + 1) } else { (big_endian_16(frame, offset)?, offset + 2) };
    match protocol {
        0x0021 | 0x0057 => Ok(offset),
        _ => Err(SkipReason::NotIp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(link_type: u32, header: &[u8]) -> Result<usize, SkipReason> {
        let mut frame = header.to_vec();
        frame.push(0x45);
        LinkLayer::from_link_type(link_type).unwrap().ip_offset(&frame)
    }

    #[test]
    fn every_link_layer_leads_to_the_ip_header() {
        let mac = [0u8; 12];
        let ethernet = |rest: &[u8]| offset(1, &[&mac[..], rest].concat());
        assert_eq!(ethernet(&[0x08, 0x00]), Ok(14));
        assert_eq!(ethernet(&[0x86, 0xdd]), Ok(14));
        assert_eq!(ethernet(&[0x81, 0x00, 0, 5, 0x08, 0x00]), Ok(18));
        assert_eq!(ethernet(&[0x88, 0xa8, 0, 5, 0x81, 0x00, 0, 6, 0x86, 0xdd]), Ok(22));
        assert_eq!(ethernet(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 40, 0, 0x21]), Ok(22));
        assert_eq!(ethernet(&[0x88, 0x47, 0, 0, 0, 64, 0, 0, 0x11, 64]), Ok(22));
        assert_eq!(ethernet(&[0, 60, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0]), Ok(22));
        assert_eq!(ethernet(&[0, 60, 0x42, 0x42, 3, 0, 0, 0]), Err(SkipReason::NotIp));
        assert_eq!(ethernet(&[0x08, 0x06]), Err(SkipReason::NotIp));
        assert_eq!(ethernet(&[]), Err(SkipReason::HeadersTruncated));
        assert_eq!(ethernet(&[0x81, 0x00, 0]), Err(SkipReason::HeadersTruncated));
        for raw in [12, 14, 101, 228, 229] {
            assert_eq!(offset(raw, &[]), Ok(0));
            assert_eq!(offset(raw, &[0x10]), Err(SkipReason::NotIp));
        }
        assert_eq!(offset(113, &[&[0; 14][..], &[8, 0]].concat()), Ok(16));
        assert_eq!(offset(276, &[&[0x86, 0xdd][..], &[0; 18]].concat()), Ok(20));
        assert_eq!(offset(0, &[2, 0, 0, 0]), Ok(4));
        assert_eq!(offset(0, &[0, 0, 0, 30]), Ok(4));
        assert_eq!(offset(108, &[0, 0, 0, 2]), Ok(4));
        assert_eq!(offset(108, &[0, 0, 0, 7]), Err(SkipReason::NotIp));
        assert_eq!(offset(9, &[0xff, 3, 0, 0x21]), Ok(4));
        assert_eq!(offset(9, &[0x21]), Ok(1));
        assert_eq!(offset(51, &[0x11, 0, 0, 1, 0, 40, 0, 0x57]), Ok(8));
        assert_eq!(LinkLayer::from_link_type(147), None);
    }
}

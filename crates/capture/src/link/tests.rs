//! Every kind of header before an IP packet, and what the others are skipped for.

use super::*;

fn offset(link_type: u32, header: &[u8]) -> Result<usize, SkipReason> {
    let mut frame = header.to_vec();
    frame.push(0x45);
    LinkLayer::from_link_type(link_type).unwrap().ip_offset(&frame).map_err(|skip| skip.reason)
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
    let tagged = |ethertype: u16, tag: &[u8]| ethernet(&[&ethertype.to_be_bytes()[..], tag, &[0x86, 0xdd]].concat());
    assert_eq!(tagged(0x8926, &[0; 4]), Ok(20), "VN-Tag");
    assert_eq!(tagged(0x892f, &[0, 0x3c, 0, 1]), Ok(20), "HSR");
    assert_eq!(tagged(0x893f, &[0; 6]), Ok(22), "E-Tag");
    assert_eq!(tagged(0xdada, &[0; 6]), Ok(22), "EtherType DSA");
    assert_eq!(tagged(0x8909, &[1, 1, 0, 1, 0, 1]), Ok(22), "Cisco metadata");
    assert_eq!(tagged(0x8909, &[1, 2, 0, 1, 0, 1, 0, 1, 0, 1]), Ok(26), "Cisco metadata with two options");
    assert_eq!(tagged(0x88e5, &[0, 0, 0, 0, 0, 1]), Ok(22), "MACsec that authenticates");
    assert_eq!(tagged(0x88e5, &[0x20, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), Ok(30));
    assert_eq!(tagged(0x88e5, &[0x0c, 0, 0, 0, 0, 1]), Err(SkipReason::Encrypted), "MACsec that encrypts");
    assert_eq!(ethernet(&[0x89, 0x4f, 0, 2, 1, 1, 0, 0, 0, 0]), Ok(22), "NSH");
    let bridged = [&[0x89, 0x4f, 0, 2, 1, 3, 0, 0, 0, 0][..], &mac, &[8, 0]].concat();
    assert_eq!(ethernet(&bridged), Ok(36), "NSH with Ethernet");
    assert_eq!(ethernet(&[0x89, 0x4f, 0, 1, 1, 1, 0, 0, 0, 0]), Err(SkipReason::MalformedHeader));
    assert_eq!(ethernet(&[0x89, 0x4f, 0, 2, 1, 9, 0, 0, 0, 0]), Err(SkipReason::NotIp));
    for (link_type, expected) in [(281, 18), (282, 18), (284, 18)] {
        assert_eq!(offset(link_type, &[&[0; 16][..], &[8, 0]].concat()), Ok(expected));
    }
    assert_eq!(offset(285, &[&mac[..], &[0xda, 0xda], &[0; 6], &[8, 0]].concat()), Ok(22));
    assert_eq!(offset(9, &[0xff, 3, 2, 0x81, 0, 0, 0x11, 64]), Ok(8));
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
    assert!(LinkLayer::from_link_type(147).is_none());
}

#[test]
fn every_link_type_has_one_row() {
    let mut numbers: Vec<u32> = LINK_LAYERS.iter().flat_map(|layer| layer.numbers).copied().collect();
    numbers.sort_unstable();
    let all = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), all);
    let told = supported();
    assert!(told.starts_with("Ethernet (1), raw IP (12, 14, 101, 228, 229), ") && told.ends_with("(183)"), "{told}");
}

#[test]
fn the_protocol_that_is_not_read_is_named() {
    let named = |link_type: u32, frame: &[u8]| {
        let skip = LinkLayer::from_link_type(link_type).unwrap().ip_offset(frame).unwrap_err();
        skip.protocol.map(|protocol| protocol.to_string()).unwrap_or_default()
    };
    let ethernet = |rest: &[u8]| named(1, &[&[0; 12][..], rest, &[0; 8]].concat());
    assert_eq!(ethernet(&[0x88, 0xcc]), "EtherType 0x88cc");
    assert_eq!(ethernet(&[0x81, 0, 0, 5, 0x08, 0x06]), "EtherType 0x0806");
    assert_eq!(ethernet(&[0, 60, 0x42, 0x42, 3]), "LLC SAP 0x42");
    assert_eq!(ethernet(&[0, 60, 0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0]), "SNAP 00-00-0c 0x2000");
    assert_eq!(ethernet(&[0, 60, 0xfe, 0xfe, 3, 0x83]), "NLPID 0x83");
    assert_eq!(ethernet(&[0x89, 0x4f, 0, 2, 1, 9]), "NSH next protocol 9");
    assert_eq!(named(9, &[0xff, 3, 0xc0, 0x21]), "PPP protocol 0xc021");
    assert_eq!(named(0, &[0, 0, 0, 7]), "address family 7");
    assert_eq!(named(129, &[1, 2, 0, 0, 213]), "ARCNET protocol 213");
    assert_eq!(named(192, &[0, 0, 8, 0, 220, 0, 0, 0]), "link type 220");
    assert_eq!(named(101, &[0x10]), "", "bytes that name no protocol");
}

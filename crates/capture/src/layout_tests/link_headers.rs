//! A packet of every link layer, written from the formats' definitions.

use super::RAW;

/// Returns headers of every link layer before an IP packet, with their link types.
pub(super) fn link_headers(ipv6: bool) -> Vec<(u32, Vec<u8>)> {
    let ether: [u8; 2] = if ipv6 { [0x86, 0xdd] } else { [8, 0] };
    let ppp: [u8; 2] = if ipv6 { [0, 0x57] } else { [0, 0x21] };
    let family = if ipv6 { 30 } else { 2 };
    let network: u8 = if ipv6 { 0x8e } else { 0xcc };
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0][..], &ether].concat();
    let join = |parts: &[&[u8]]| parts.concat();
    // Data frame from an access point, with and without quality of service, four addresses, high throughput.
    let wireless = |control: u8, flags: u8, length: usize| {
        let mut header = vec![control, flags];
        header.resize(length, 0);
        join(&[&header, &snap])
    };
    let radiotap = |present: u32, fields: &[u8]| {
        let mut header = vec![0, 0, (8 + fields.len()) as u8, 0];
        header.extend(present.to_le_bytes());
        header.extend(fields);
        header
    };
    vec![
        (0, vec![family, 0, 0, 0]),
        (108, vec![0, 0, 0, family]),
        (109, vec![family, 0, 0, 0, 9, 9, 9, 9, 0, 0, 0, 0]),
        (117, join(&[&[61, family], &[0; 62]])),
        (1, join(&[&[0; 12], &ether])),
        (1, join(&[&[0; 12], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2], &ether])),
        (1, join(&[&[0; 12], &[0x88, 0xe7, 0, 0, 0, 9], &[0; 12], &ether])),
        (1, join(&[&[0; 12], &[0x88, 0x64, 0x11, 0, 0, 1, 0, 40], &ppp])),
        (1, join(&[&[0; 12], &[0x88, 0x47, 0, 0, 0, 64, 0, 0, 1, 64]])),
        (1, join(&[&[0; 12], &[0, 200], &snap])),
        (1, join(&[&[0; 12], &[0, 200, 6, 6, 3]])),
        (6, join(&[&[0; 14], &snap])),
        (6, join(&[&[0; 8], &[0x80], &[0; 5], &[6, 0, 0, 0, 0, 0], &snap])),
        (7, join(&[&[1, 2, if ipv6 { 196 } else { 212 }, 0, 0, 9]])),
        (7, join(&[&[1, 2, if ipv6 { 196 } else { 212 }, 0xff, 0xff, 0xff, 212, 3, 0, 9]])),
        (129, vec![1, 2, 0, 0, if ipv6 { 196 } else { 212 }, 0, 0, 9]),
        (if ipv6 { RAW } else { 129 }, if ipv6 { vec![] } else { vec![1, 2, 0, 0, 240] }),
        (if ipv6 { RAW } else { 7 }, if ipv6 { vec![] } else { vec![1, 2, 240] }),
        (8, vec![0; 16]),
        (9, join(&[&[0xff, 3], &ppp])),
        (9, ppp[1..].to_vec()),
        (10, join(&[&[0; 13], &snap])),
        (50, join(&[&[0x0f, 0], &ether])),
        (50, join(&[&[0xff, 3], &ppp])),
        (51, join(&[&[0x11, 0, 0, 1, 0, 40], &ppp])),
        (100, snap.clone()),
        (100, vec![0xfe, 0xfe, 3, if ipv6 { 0x8e } else { 0xcc }]),
        (12, vec![]),
        (14, vec![]),
        (RAW, vec![]),
        (if ipv6 { 229 } else { 228 }, vec![]),
        (104, join(&[&[0x0f, 0], &ether])),
        (105, wireless(0x08, 0x02, 24)),
        (105, wireless(0x08, 0x03, 30)),
        (105, wireless(0x88, 0x01, 26)),
        (105, wireless(0x88, 0x81, 30)),
        (107, join(&[&[0x18, 0x41, 3], &[if ipv6 { 0x8e } else { 0xcc }]])),
        (107, join(&[&[0x18, 0x41, 3, 0, 0x80, 0, 0, 0], &ether])),
        (107, join(&[&[0x18, 0x41], &ether])),
        (106, snap.clone()),
        (106, vec![]),
        (182, join(&[&[0xc0, 7, 0x18, 0x41, 3], &[network]])),
        (226, join(&[&[1, if ipv6 { 26 } else { 2 }], &[0; 22]])),
        (113, join(&[&[0; 14], &ether])),
        (119, join(&[&[0; 144], &wireless(0x08, 0x02, 24)])),
        (119, join(&[&[0x80, 0x21, 0x10, 1, 0, 0, 0, 64], &[0; 56], &wireless(0x08, 0x02, 24)])),
        (122, join(&[&[0; 16], &snap])),
        (123, join(&[&[2, 0, 0, 0], &snap])),
        (127, join(&[&radiotap(0, &[]), &wireless(0x08, 0x02, 24)])),
        (127, join(&[&radiotap(2, &[0x20]), &wireless(0x88, 0x02, 28)])),
        (
            127,
            join(&[
                &radiotap(0x8000_0003, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10]),
                &wireless(0x08, 2, 24),
            ]),
        ),
        (138, join(&[&[0; 16], &ether])),
        (163, join(&[&[0x80, 0x21, 0x10, 1, 0, 0, 0, 64], &[0; 56], &wireless(0x88, 0x02, 26)])),
        (166, join(&[&[1, 3], &ppp])),
        (192, join(&[&[0, 0, 12, 0, 105, 0, 0, 0, 9, 9, 9, 9], &wireless(0x08, 0x02, 24)])),
        (192, join(&[&[0, 0, 8, 0, 1, 0, 0, 0], &[0; 12], &ether])),
        (204, join(&[&[1, 0xff, 3], &ppp])),
        (205, join(&[&[0, 0x8f, 0], &ether])),
        (206, join(&[&[1, 0x18, 0x41, 3], &[if ipv6 { 0x8e } else { 0xcc }]])),
        (239, join(&[&[family, 0, 0, 0, 5, 0, 10, 0, 0, 9, 9, 9, 44, 0, 9, 0]])),
        (240, join(&[&[0; 16], &ether])),
        (242, join(&[&[0; 40], &ether, &[0, 0]])),
        (258, join(&[&[12, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], &[0; 12], &ether])),
        (149, join(&[&[108, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], &[0; 96], &[0; 12], &ether])),
        (276, join(&[&ether, &[0; 18]])),
        (276, join(&[&[0x81, 0], &[0; 18], &[0, 5], &ether])),
    ]
    .into_iter()
    .chain(juniper_headers(&ether, &ppp, network))
    .collect()
}

/// Returns the headers of Juniper's link types: magic number and flags, cookie, and the packet's own link layer.
fn juniper_headers(ether: &[u8], ppp: &[u8], network: u8) -> Vec<(u32, Vec<u8>)> {
    let (outgoing, incoming) = (*b"MGC\0", *b"MGC\x01");
    let extended = [&b"MGC\x80"[..], &[0, 6, 3, 1, 1, 6, 1, 14]].concat();
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0][..], ether].concat();
    let ethernet = [&[0; 12][..], ether].concat();
    let is_ipv6 = network == 0x8e;
    // Adaptive services name the protocol in bits 4 to 6 of the sixth byte.
    let adaptive = [0x47, 0, 0, 0, 0, if is_ipv6 { 0x10 } else { 0 }, 0, 0];
    let gateway = [0, 0, if is_ipv6 { 6 } else { 2 }, 0, 0, 9, 0, 0];
    let parts: Vec<(u32, Vec<&[u8]>)> = vec![
        (178, vec![&outgoing, &ethernet]),
        (178, vec![&extended, &ethernet]),
        (178, vec![b"MGC\x02", &[2, 0, 0, 0]]),
        (167, vec![&incoming, &ethernet]),
        (179, vec![&outgoing, &[0xff, 3], ppp]),
        (180, vec![&outgoing, &[0x18, 0x41, 3], std::slice::from_ref(&network)]),
        (181, vec![&outgoing, &[0x0f, 0], ether]),
        (168, vec![&outgoing, ether]),
        (137, vec![&outgoing, &[1, 0, 0, 0], &snap]),
        (137, vec![&outgoing, &[1, 0, 0, 0, 3], std::slice::from_ref(&network)]),
        (137, vec![&outgoing, &[1, 0, 0, 0]]),
        (135, vec![&outgoing, &[0; 8], &snap]),
        (135, vec![&outgoing, &[0, 0, 0, 7, 0, 0, 0, 0], &ethernet]),
        (135, vec![&incoming, &[0, 0, 0, 7, 0, 0, 0, 0], ppp]),
        (135, vec![&incoming, &[0; 8]]),
        (130, vec![&outgoing, &[0, 5], ppp]),
        (130, vec![&outgoing, &[0x54, 5, 0, 0], ppp]),
        (130, vec![&outgoing, &[0xff, 3], ppp]),
        (130, vec![&outgoing, &adaptive]),
        (131, vec![&outgoing, &[0, 5, 3], std::slice::from_ref(&network)]),
        (131, vec![&outgoing, &[0x54, 5, 0, 0, 3], std::slice::from_ref(&network)]),
        (131, vec![&outgoing, &adaptive]),
        (134, vec![&outgoing, &[0x54, 5, 0, 0, 0, 0, 3], std::slice::from_ref(&network)]),
        (134, vec![&outgoing, &[0xc0, 7, 0x18, 0x41, 3], std::slice::from_ref(&network)]),
        (132, vec![&outgoing, &[0, 1, 64, 3], &[0; 12]]),
        (136, vec![&outgoing, &[0; 8]]),
        (136, vec![&incoming, &[0; 16]]),
        (136, vec![&outgoing, &[0; 12]]),
        (164, vec![&outgoing, &[0; 8]]),
        (133, vec![&outgoing, &gateway]),
        (133, vec![&outgoing, &gateway[2..4], &[9, 0]]),
        (183, vec![&outgoing, &[0; 18]]),
    ];
    parts.into_iter().map(|(link_type, parts)| (link_type, parts.concat())).collect()
}

//! Hand-made frames and captures for tests, written from the formats' definitions rather than with the parsers under
//! test.

/// Builds an IPv4 packet; `payload` is its transport header and data.
pub fn ipv4(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0x12, 0x34, 0x40, 0, 64, protocol, 0xab, 0xcd]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(payload);
    packet
}

/// Builds an IPv6 packet; `next_header` is the protocol of its payload.
pub fn ipv6(source: [u8; 16], destination: [u8; 16], next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0x01, 0x23, 0x45];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, 63]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(payload);
    packet
}

/// Builds a TCP segment; the length of `options` must be a multiple of four bytes.
pub fn tcp(ports: (u16, u16), flags: u8, window: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    assert!(options.len().is_multiple_of(4) && options.len() <= 40);
    let mut segment = Vec::new();
    segment.extend(ports.0.to_be_bytes());
    segment.extend(ports.1.to_be_bytes());
    segment.extend([1, 2, 3, 4, 5, 6, 7, 8, ((5 + options.len() / 4) as u8) << 4, flags]);
    segment.extend(window.to_be_bytes());
    segment.extend([0xbe, 0xef, 0, 0]);
    segment.extend(options);
    segment.extend(payload);
    segment
}

/// Builds a UDP datagram.
pub fn udp(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(ports.0.to_be_bytes());
    datagram.extend(ports.1.to_be_bytes());
    datagram.extend(((8 + payload.len()) as u16).to_be_bytes());
    datagram.extend([0xca, 0xfe]);
    datagram.extend(payload);
    datagram
}

/// Builds an Ethernet frame around an IP packet.
pub fn ethernet(packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] });
    frame.extend(packet);
    frame
}

/// A byte order, for writing numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Most significant byte first.
    Big,
    /// Least significant byte first.
    Little,
}

impl Order {
    /// Returns the bytes of a 16-bit number.
    pub fn u16(self, value: u16) -> [u8; 2] {
        if self == Order::Big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    /// Returns the bytes of a 32-bit number.
    pub fn u32(self, value: u32) -> [u8; 4] {
        if self == Order::Big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    /// Returns the bytes of a 64-bit number.
    pub fn u64(self, value: u64) -> [u8; 8] {
        if self == Order::Big { value.to_be_bytes() } else { value.to_le_bytes() }
    }
}

/// Builds a pcap of frames with their times in nanoseconds; `cut` is the snap length.
pub fn pcap(order: Order, nanoseconds: bool, link_type: u32, cut: usize, frames: &[(i64, Vec<u8>)]) -> Vec<u8> {
    let mut file = order.u32(if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }).to_vec();
    file.extend(order.u16(2));
    file.extend(order.u16(4));
    file.extend([0; 8]);
    file.extend(order.u32(cut as u32));
    file.extend(order.u32(link_type));
    for (time, frame) in frames {
        let captured = frame.len().min(cut);
        let fraction = time % 1_000_000_000 / if nanoseconds { 1 } else { 1000 };
        file.extend(order.u32((time / 1_000_000_000) as u32));
        file.extend(order.u32(fraction as u32));
        file.extend(order.u32(captured as u32));
        file.extend(order.u32(frame.len() as u32));
        file.extend(&frame[..captured]);
    }
    file
}

/// Builds a pcapng block.
pub fn block(order: Order, block_type: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let length = order.u32((padded + 12) as u32);
    let mut block = order.u32(block_type).to_vec();
    block.extend(length);
    block.extend(body);
    block.resize(padded + 8, 0);
    block.extend(length);
    block
}

/// Builds a section header block.
pub fn section(order: Order) -> Vec<u8> {
    let mut body = order.u32(0x1a2b_3c4d).to_vec();
    body.extend(order.u16(1));
    body.extend(order.u16(0));
    body.extend([0xff; 8]);
    block(order, 0x0a0d_0d0a, &body)
}

/// Builds an interface description block with optional time resolution and offset.
pub fn interface(order: Order, link_type: u16, resolution: Option<u8>, offset: Option<i64>) -> Vec<u8> {
    let mut body = order.u16(link_type).to_vec();
    body.extend([0, 0]);
    body.extend(order.u32(65_535));
    if let Some(resolution) = resolution {
        body.extend(order.u16(9));
        body.extend(order.u16(1));
        body.extend([resolution, 0, 0, 0]);
    }
    if let Some(offset) = offset {
        body.extend(order.u16(14));
        body.extend(order.u16(8));
        body.extend(order.u64(offset.cast_unsigned()));
    }
    body.extend([0; 4]);
    block(order, 1, &body)
}

/// Builds an enhanced packet block; `time` is in the interface's units.
pub fn enhanced_packet(order: Order, interface: u32, time: u64, frame: &[u8]) -> Vec<u8> {
    let mut body = order.u32(interface).to_vec();
    body.extend(order.u32((time >> 32) as u32));
    body.extend(order.u32(time as u32));
    body.extend(order.u32(frame.len() as u32));
    body.extend(order.u32(frame.len() as u32));
    body.extend(frame);
    block(order, 6, &body)
}

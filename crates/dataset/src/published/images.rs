//! Images of bytes: YaTC's PNG of five packets, and the 784 bytes of a session's pcap file in idx files.

use std::io::{BufRead, Cursor, Read};
use std::net::SocketAddr;

use super::{Fault, PublishedFile, PublishedFlow, Sink};
use etcbench_capture::{CaptureReader, Transport};
use etcbench_flow::{FiveTuple, Flow, PacketDirection, SequencePacket, assemble_packets, ipv4_offsets};

/// Pixels of a side of YaTC's images.
const SIDE: usize = 40;
/// Bytes of a packet's headers, and with its payload.
const HEADERS: usize = 80;
const PACKET: usize = 320;
/// The largest image file that is read: an image of 1,600 bytes has at most some 2,000.
const LARGEST_IMAGE: u64 = 1 << 20;
/// Bytes of pcap's headers: of the file, and of a record.
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// The most bytes of one image of an idx file.
const MOST_BYTES: usize = 1 << 20;

/// YaTC: an image per flow.
pub(super) fn read_packets(file: &PublishedFile<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let mut bytes = Vec::new();
    file.open()?.take(LARGEST_IMAGE).read_to_end(&mut bytes).map_err(|error| Fault::of_file(error.to_string()))?;
    let told = |error: png::DecodingError| Fault::of_file(format!("it is no PNG image, or a damaged one: {error}"));
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().map_err(told)?;
    let info = reader.info();
    let grey = (info.color_type, info.bit_depth) == (png::ColorType::Grayscale, png::BitDepth::Eight);
    if !grey || (info.width, info.height) != (SIDE as u32, SIDE as u32) {
        return Err(Fault::of_file(format!(
            "it is {} x {} pixels of {:?} in {:?} bits; expected 40 x 40 of Grayscale in Eight",
            info.width, info.height, info.color_type, info.bit_depth
        )));
    }
    let mut pixels = vec![0; SIDE * SIDE];
    reader.next_frame(&mut pixels).map_err(told)?;
    // Packets that are not there are zeros.
    let count =
        pixels.chunks(PACKET).rposition(|packet| packet.iter().any(|&byte| byte != 0)).map_or(0, |last| last + 1);
    let ends = |packet: &[u8]| (packet[12..16].to_vec(), packet[20..22].to_vec());
    let first = ends(&pixels);
    let packet = |bytes: &[u8]| SequencePacket {
        // The sender's address and port are there unless the publisher zeroed them.
        direction: if ends(bytes) == first { PacketDirection::Forward } else { PacketDirection::Backward },
        timestamp: 0,
        length: u32::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        flags: 0,
        bytes: bytes.to_vec(),
        offsets: ipv4_offsets(bytes, HEADERS as u16),
    };
    let packets = pixels.chunks(PACKET).take(count).map(packet).collect();
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let transport = if pixels[9] == 17 { Transport::Udp } else { Transport::Tcp };
    let five_tuple = FiveTuple { source: nowhere, destination: nowhere, transport };
    let flow = PublishedFlow { fields: Vec::new(), five_tuple: Some(five_tuple), packets, flow: None };
    sink(flow).map_err(Fault::of_file)
}

/// Sessions of W. Wang et al.: images in one file, classes in the one beside it.
pub(super) fn read_sessions(file: &PublishedFile<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let mut images = IdxReader::new(file.open()?).map_err(Fault::of_file)?;
    let (path, labels) = file.open_beside()?;
    let of_labels = |message: String| Fault::of_file(format!("its labels are in {path}: {message}"));
    let mut labels = IdxReader::new(labels).map_err(of_labels)?;
    if labels.size != 1 || labels.count != images.count {
        return Err(of_labels(format!("{} labels for {} images; they must be as many", labels.count, images.count)));
    }
    let (mut image, mut label) = (vec![0; images.size], [0]);
    for number in 0..images.count {
        let fault = |message: String| Fault::at(format_args!("image {number}"), message);
        images.next(&mut image).map_err(fault)?;
        labels.next(&mut label).map_err(of_labels)?;
        let flow = session(&image, file).map_err(fault)?;
        sink(PublishedFlow {
            fields: vec![label[0].to_string()],
            five_tuple: None,
            packets: Vec::new(),
            flow: Some(flow),
        })
        .map_err(fault)?;
    }
    Ok(())
}

/// The flow of a session whose pcap file begins so.
fn session(image: &[u8], file: &PublishedFile<'_>) -> Result<Flow, String> {
    let capture = closed(image)?;
    let reader = CaptureReader::from_reader(Cursor::new(capture), "image").map_err(|error| error.to_string())?;
    let mut flows = Vec::new();
    assemble_packets(reader, file.options, &mut |flow| flows.push(flow), &mut |_| {})
        .map_err(|error| error.to_string())?;
    // A session is one flow; what a timeout would part is its beginning and more of it.
    flows.into_iter().next().ok_or_else(|| "no packet of TCP or UDP can be read in it".to_owned())
}

/// The beginning of a pcap file as a whole one: the last record ends where the bytes do, and the zeros that fill an image up are none.
fn closed(image: &[u8]) -> Result<Vec<u8>, String> {
    let little = match image.get(..4) {
        Some([0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1]) => true,
        Some([0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d]) => false,
        _ => return Err("it does not begin as a pcap file; images of layers above the link are not read".to_owned()),
    };
    let number = |place: usize| {
        let bytes: [u8; 4] = image.get(place..place + 4)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) } as usize)
    };
    let mut whole = image.get(..FILE_HEADER).ok_or("it ends in the header of its pcap file")?.to_vec();
    let mut place = FILE_HEADER;
    while let (Some(kept), Some(length)) = (number(place + 8), number(place + 12)) {
        let data = place + RECORD_HEADER;
        if (kept, length) == (0, 0) || data >= image.len() {
            break;
        }
        let end = data.saturating_add(kept).min(image.len());
        let cut = (end - data) as u32;
        whole.extend(&image[place..place + 8]);
        whole.extend(if little { cut.to_le_bytes() } else { cut.to_be_bytes() });
        whole.extend(&image[place + 12..end]);
        place = end;
    }
    Ok(whole)
}

/// A file of bytes in the format of MNIST.
struct IdxReader<R> {
    input: R,
    /// Images, and bytes of each.
    count: u32,
    size: usize,
}

impl<R: BufRead> IdxReader<R> {
    fn new(mut input: R) -> Result<Self, String> {
        let mut word = [0; 4];
        let mut next =
            |input: &mut R| input.read_exact(&mut word).map(|()| word).map_err(|_| "it is too short".to_owned());
        let [0, 0, 8, dimensions @ 1..=4] = next(&mut input)? else {
            return Err("it is no idx file of bytes".to_owned());
        };
        let count = u32::from_be_bytes(next(&mut input)?);
        let mut size = 1_usize;
        for _ in 1..dimensions {
            size = size.saturating_mul(u32::from_be_bytes(next(&mut input)?) as usize);
        }
        if size == 0 || size > MOST_BYTES {
            return Err(format!("its images have {size} bytes"));
        }
        Ok(Self { input, count, size })
    }

    fn next(&mut self, image: &mut [u8]) -> Result<(), String> {
        self.input.read_exact(image).map_err(|_| format!("it ends before the last of its {}", self.count))
    }
}

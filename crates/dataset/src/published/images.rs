//! Images of bytes: YaTC's PNG images of five packets, and the first 784 bytes of a session's pcap file in idx files.

use std::io::{BufRead, Cursor, Read};
use std::net::SocketAddr;

use super::{Fault, PublishedFile, PublishedFlow, Sink};
use etcbench_capture::{CaptureReader, Transport};
use etcbench_flow::{FiveTuple, Flow, PacketDirection, SequencePacket, assemble_packets, ipv4_offsets};

/// Side length of YaTC's images in pixels.
const SIDE: usize = 40;
/// Bytes of a packet's headers, and of headers and payload together.
const HEADERS: usize = 80;
const PACKET: usize = 320;
/// Maximum size of an image file; an image of 1,600 bytes has at most about 2,000.
const LARGEST_IMAGE: u64 = 1 << 20;
/// Sizes of pcap's file header and record header in bytes.
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// Maximum size of one image in an idx file, in bytes.
const MOST_BYTES: usize = 1 << 20;

/// A grey image with a byte per pixel.
pub(crate) struct GreyImage {
    /// Width and height in pixels.
    size: (u32, u32),
    /// The pixels, row by row.
    pub(crate) pixels: Vec<u8>,
}

impl GreyImage {
    /// Reads a PNG image of at most [`LARGEST_IMAGE`] bytes.
    pub(crate) fn read(input: impl Read) -> Result<Self, String> {
        let mut bytes = Vec::new();
        input.take(LARGEST_IMAGE).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        let damaged = |error: png::DecodingError| format!("it is not a PNG image, or it is damaged: {error}");
        let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().map_err(damaged)?;
        let info = reader.info();
        let size = (info.width, info.height);
        if (info.color_type, info.bit_depth) != (png::ColorType::Grayscale, png::BitDepth::Eight) {
            return Err(format!(
                "its pixels are {:?} of {} bits; expected Grayscale of 8",
                info.color_type, info.bit_depth as u8
            ));
        }
        let pixels = u64::from(size.0) * u64::from(size.1);
        if pixels > LARGEST_IMAGE {
            return Err(format!("it is {} x {} pixels; at most {LARGEST_IMAGE} pixels are read", size.0, size.1));
        }
        let mut pixels = vec![0; pixels as usize];
        reader.next_frame(&mut pixels).map_err(damaged)?;
        Ok(Self { size, pixels })
    }
}

/// Reads YaTC's images, one flow each.
pub(super) fn read_packets(file: &PublishedFile<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let GreyImage { size, pixels } = GreyImage::read(file.open()?).map_err(Fault::of_file)?;
    if size != (SIDE as u32, SIDE as u32) {
        return Err(Fault::of_file(format!("it is {} x {} pixels; expected 40 x 40", size.0, size.1)));
    }
    // Missing packets are zeros.
    let count =
        pixels.chunks(PACKET).rposition(|packet| packet.iter().any(|&byte| byte != 0)).map_or(0, |last| last + 1);
    let ends = |packet: &[u8]| (packet[12..16].to_vec(), packet[20..22].to_vec());
    let first = ends(&pixels);
    let packet = |bytes: &[u8]| SequencePacket {
        // The sender's address and port are present unless the publisher zeroed them.
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
    let flow = PublishedFlow { five_tuple: Some(five_tuple), ..PublishedFlow::sequence(Vec::new(), packets) };
    sink(flow).map_err(Fault::of_file)
}

/// Reads the sessions of W. Wang et al.: images in one file, classes in its label file.
pub(super) fn read_sessions(file: &PublishedFile<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let mut images = IdxReader::new(file.open()?).map_err(Fault::of_file)?;
    let (path, labels) = file.open_beside()?;
    let of_labels = |message: String| Fault::of_file(format!("its labels are in {path}: {message}"));
    let mut labels = IdxReader::new(labels).map_err(of_labels)?;
    if labels.size != 1 || labels.count != images.count {
        return Err(of_labels(format!(
            "{} labels for {} images; the counts must be equal",
            labels.count, images.count
        )));
    }
    let (mut image, mut label) = (vec![0; images.size], [0]);
    for number in 0..images.count {
        let fault = |message: String| Fault::at(format_args!("image {number}"), message);
        images.next(&mut image).map_err(fault)?;
        labels.next(&mut label).map_err(of_labels)?;
        let flow = session(&image, file).map_err(fault)?;
        sink(PublishedFlow::whole(vec![label[0].to_string()], flow)).map_err(fault)?;
    }
    Ok(())
}

/// Returns the flow of a session, given the start of its pcap file.
fn session(image: &[u8], file: &PublishedFile<'_>) -> Result<Flow, String> {
    let capture = closed(image)?;
    let reader = CaptureReader::from_reader(Cursor::new(capture), "image").map_err(|error| error.to_string())?;
    let mut flows = Vec::new();
    assemble_packets(reader, file.options, &mut |flow| flows.push(flow), &mut |_| {})
        .map_err(|error| error.to_string())?;
    // A session is one flow; if a timeout splits it, the first part is used.
    flows.into_iter().next().ok_or_else(|| "it contains no readable TCP or UDP packet".to_owned())
}

/// Turns the start of a pcap file into a complete one: shortens the last record to the bytes present, and drops the
/// zeros that pad an image.
fn closed(image: &[u8]) -> Result<Vec<u8>, String> {
    let little = match image.get(..4) {
        Some([0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1]) => true,
        Some([0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d]) => false,
        _ => return Err("it does not start like a pcap file; images without link layer are not supported".to_owned()),
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

/// Reader of byte arrays in the MNIST (idx) format.
struct IdxReader<R> {
    input: R,
    /// Number of images, and bytes per image.
    count: u32,
    size: usize,
}

impl<R: BufRead> IdxReader<R> {
    fn new(mut input: R) -> Result<Self, String> {
        let mut word = [0; 4];
        let mut next =
            |input: &mut R| input.read_exact(&mut word).map(|()| word).map_err(|_| "it is too short".to_owned());
        let [0, 0, 8, dimensions @ 1..=4] = next(&mut input)? else {
            return Err("it is not an idx file of bytes".to_owned());
        };
        let count = u32::from_be_bytes(next(&mut input)?);
        let mut size = 1_usize;
        for _ in 1..dimensions {
            size = size.saturating_mul(u32::from_be_bytes(next(&mut input)?) as usize);
        }
        if size == 0 || size > MOST_BYTES {
            return Err(format!("its images have {size} bytes, which is not supported"));
        }
        Ok(Self { input, count, size })
    }

    fn next(&mut self, image: &mut [u8]) -> Result<(), String> {
        self.input.read_exact(image).map_err(|_| format!("it ends before the last of its {}", self.count))
    }
}

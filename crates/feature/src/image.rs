//! Flows as images in YaTC's format (Zhao et al. 2023): greyscale PNGs of 40 x 40 pixels with the first five packets of
//! a flow, each with 80 bytes of headers from the IP header on and 240 bytes of payload, both zero-padded. Written as a
//! folder with one file per flow.

use std::borrow::Borrow;
use std::path::{Path, PathBuf};

use super::column::check;
use super::store::{StoreError, StoreHeader};
use etcbench_dataset::LabelledFlow;
use etcbench_flow::FlowPacket;
use etcbench_storage as storage;

/// Side length in pixels.
const SIDE: u32 = 40;
/// Packets per flow, and bytes of headers and payload per packet.
pub const IMAGE_PACKETS: usize = 5;
const HEADERS: usize = 80;
const PAYLOAD: usize = 240;
/// Bytes of a packet from the IP header on that an image may need: headers with all options, and the payload.
pub const IMAGE_BYTES: usize = 120 + PAYLOAD;

/// Writes one image for each flow returned by `next`, until it returns `None`, into the folder `path`, all or nothing:
/// `CAPTURE/NUMBER.png`, below folders for the columns that an experiment adds, the last first (`PART/CLASS/`).
///
/// # Errors
/// An I/O error, an error of `next`, a flow that does not fit the header, as for the store, or a header whose options
/// keep too little of each packet.
pub fn write_images<F: Borrow<LabelledFlow>>(
    path: &Path,
    header: &StoreHeader,
    next: &mut dyn FnMut() -> std::io::Result<Option<F>>,
) -> Result<u64, StoreError> {
    let problem = |source| StoreError::Write { file: path.display().to_string(), source };
    let options = &header.flow_options;
    if options.kept_packets < IMAGE_PACKETS || options.kept_bytes < IMAGE_BYTES {
        let lacks = format!("an image needs {IMAGE_PACKETS} packets of {IMAGE_BYTES} bytes; flows keep fewer");
        return Err(problem(std::io::Error::other(lacks)));
    }
    let mut count = 0;
    let folder = storage::WholeFolder::new(path).map_err(problem)?;
    while let Some(flow) = next().map_err(problem)? {
        let flow = flow.borrow();
        check(header, flow).map_err(std::io::Error::other).map_err(problem)?;
        let mut place = folder.path().to_owned();
        for column in header.added_columns.iter().rev() {
            place.push(as_name(flow.labels.get(&super::added_key(column)).map_or("none", String::as_str)));
        }
        place.extend(below(&flow.provenance.capture).iter());
        place.push(format!("{}.png", flow.provenance.number));
        let image = encoded(&flow.flow.packets).map_err(std::io::Error::other).map_err(problem)?;
        let mut file = storage::create_file(&place).map_err(problem)?;
        std::io::Write::write_all(&mut file, &image).map_err(problem)?;
        count += 1;
    }
    folder.put_in_empty_place().map_err(problem)?;
    Ok(count)
}

/// Converts a text to a valid folder name.
fn as_name(text: &str) -> String {
    let name: String = text.chars().map(|letter| if "/\\\0".contains(letter) { '_' } else { letter }).collect();
    if name.is_empty() || name.chars().all(|letter| letter == '.') { format!("_{name}") } else { name }
}

/// Converts a capture's path to a relative path that cannot escape its folder.
fn below(capture: &str) -> PathBuf {
    capture.split('/').filter(|part| !part.is_empty() && *part != ".").map(as_name).collect()
}

/// Encodes the image of a flow's first packets.
fn encoded(packets: &[FlowPacket]) -> Result<Vec<u8>, png::EncodingError> {
    let mut pixels = Vec::with_capacity((SIDE * SIDE) as usize);
    for place in 0..IMAGE_PACKETS {
        let (headers, payload) = packets.get(place).map_or((&[][..], &[][..]), |packet| {
            packet.bytes.split_at(usize::from(packet.layout.payload_offset).min(packet.bytes.len()))
        });
        for (bytes, width) in [(headers, HEADERS), (payload, PAYLOAD)] {
            let length = bytes.len().min(width);
            pixels.extend_from_slice(&bytes[..length]);
            pixels.extend(std::iter::repeat_n(0, width - length));
        }
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, SIDE, SIDE);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(file)
}

//! ET-BERT's and TrafficFormer's tables: bytes as overlapping two-byte words, so that `4500 003c ..` becomes `4500 0000
//! 003c`. They contain no directions, lengths or times.

use std::io::BufRead;

use super::line::each_line;
use super::{Fault, PublishedFile, PublishedFlow, Sink, shown};
use etcbench_flow::{PacketDirection, SequencePacket};

pub(super) fn read(file: &PublishedFile<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let packet = |bytes| SequencePacket {
        direction: PacketDirection::Forward,
        timestamp: 0,
        length: 1,
        flags: 0,
        bytes,
        offsets: (0, 0),
    };
    each_row(file.open()?, &mut |label, packets| {
        let packets = packets.into_iter().map(packet).collect();
        sink(PublishedFlow::sequence(vec![label.to_owned()], packets))
    })
}

/// Takes the label and the packets' bytes of a line.
type Row<'a> = dyn FnMut(&str, Vec<Vec<u8>>) -> Result<(), String> + 'a;

/// Calls `row` for every line.
pub(crate) fn each_row(input: impl BufRead, row: &mut Row<'_>) -> Result<(), Fault> {
    let mut columns: Option<(usize, usize)> = None;
    each_line(input, &mut |_, line| {
        let fields: Vec<&str> = line.split('\t').map(|field| field.trim().trim_matches('"')).collect();
        let Some((label, text)) = columns else {
            let place = |name: &str| fields.iter().position(|field| *field == name);
            columns = Some(place("label").zip(place("text_a")).ok_or("the header lacks columns `label` and `text_a`")?);
            return Ok(());
        };
        let field = |place: usize| fields.get(place).copied().ok_or_else(|| format!("{} values", fields.len()));
        let packets = packets(field(text)?)?;
        row(field(label)?, packets)
    })
}

/// Reconstructs packets from their words.
fn packets(text: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut packets: Vec<Vec<u8>> = Vec::new();
    for word in text.split_ascii_whitespace() {
        let number = u16::from_str_radix(word, 16).ok().filter(|_| word.len() == 4 && !word.starts_with('+'));
        let [first, second] =
            number.ok_or_else(|| format!("`{}` is not a word of four hexadecimal digits", shown(word)))?.to_be_bytes();
        match packets.last_mut() {
            Some(packet) if packet.last() == Some(&first) => packet.push(second),
            _ => packets.push(vec![first, second]),
        }
    }
    Ok(packets)
}

//! ET-BERT's and TrafficFormer's tables: bytes as overlapping two-byte words, so that `4500 003c ..` becomes `4500 0000
//! 003c`. They contain no directions, lengths or times.

use super::line::each_line;
use super::{Fault, PublishedFile, PublishedFlow, Sink, shown};
use etcbench_flow::{PacketDirection, SequencePacket};

pub(super) fn read(file: &PublishedFile<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let mut columns: Option<(usize, usize)> = None;
    each_line(file.open()?, &mut |_, line| {
        let fields: Vec<&str> = line.split('\t').map(|field| field.trim().trim_matches('"')).collect();
        let Some((label, text)) = columns else {
            let place = |name: &str| fields.iter().position(|field| *field == name);
            columns = Some(place("label").zip(place("text_a")).ok_or("the header lacks columns `label` and `text_a`")?);
            return Ok(());
        };
        let field = |place: usize| fields.get(place).copied().ok_or_else(|| format!("{} values", fields.len()));
        let packets = packets(field(text)?)?;
        sink(PublishedFlow { fields: vec![field(label)?.to_owned()], five_tuple: None, packets, flow: None })
    })
}

/// Reconstructs packets from their words.
fn packets(text: &str) -> Result<Vec<SequencePacket>, String> {
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
    let packet = |bytes| SequencePacket {
        direction: PacketDirection::Forward,
        timestamp: 0,
        length: 1,
        flags: 0,
        bytes,
        offsets: (0, 0),
    };
    Ok(packets.into_iter().map(packet).collect())
}

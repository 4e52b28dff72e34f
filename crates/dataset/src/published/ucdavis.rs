//! UC Davis, ICDM 2019: one text file per flow, one line per packet, no header: Unix time, seconds since the first
//! packet, length, direction. The meaning of directions 0 and 1 is not documented; the direction of the first packet
//! counts as forward.

use super::line::each_line;
use super::{Fault, MOST_PACKETS, PublishedFile, PublishedFlow, Sink, length, nanoseconds, shown};
use etcbench_flow::{PacketDirection, SequencePacket};

pub(super) fn read(file: &PublishedFile<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let mut packets: Vec<SequencePacket> = Vec::new();
    let (mut start, mut first_direction) = (0, 0);
    each_line(file.open()?, &mut |_, line| {
        let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
        let &[absolute, relative, size, direction] = &fields[..] else {
            return Err(format!(
                "{} tab-separated fields, expected 4 (time, time since the first, size, direction)",
                fields.len()
            ));
        };
        let number = |field: &str, what: &str| {
            field
                .parse::<f64>()
                .ok()
                .filter(|value| value.is_finite())
                .ok_or_else(|| format!("`{}` is not a valid {what}", shown(field)))
        };
        let is_no = |field: &str, what: &str| format!("`{}` is not a valid {what}", shown(field));
        let direction = match direction {
            "0" => 0,
            "1" => 1,
            _ => return Err(is_no(direction, "direction (0 or 1)")),
        };
        if packets.is_empty() {
            start = nanoseconds(number(absolute, "time")?).ok_or_else(|| is_no(absolute, "time"))?;
            first_direction = direction;
        }
        if packets.len() == MOST_PACKETS {
            return Err(format!("more than {MOST_PACKETS} packets in a flow"));
        }
        let since = nanoseconds(number(relative, "time")?).ok_or_else(|| is_no(relative, "time"))?;
        packets.push(SequencePacket {
            direction: if direction == first_direction { PacketDirection::Forward } else { PacketDirection::Backward },
            timestamp: start.saturating_add(since),
            length: length(number(size, "size")?).ok_or_else(|| is_no(size, "size in bytes"))?,
            flags: 0,
            bytes: Vec::new(),
            offsets: (0, 0),
        });
        Ok(())
    })?;
    if packets.is_empty() {
        return Err(Fault::of_file("it contains no packets; list it in `exclude` of [files] with a reason".to_owned()));
    }
    sink(PublishedFlow::sequence(Vec::new(), packets)).map_err(Fault::of_file)
}

//! pcapML: pcapng captures in which the comment of each packet names its sample and the sample's label, as
//! `sampleID,label` or, in later versions, `s=sampleID,proc=label,dst=name,...`. The packets of a sample follow one
//! another; a sample may consist of several flows.

use std::collections::HashSet;

use super::{Fault, PublishedFile, PublishedFlow, Sink, shown};
use etcbench_capture::{CaptureReader, ReaderOptions};
use etcbench_flow::{Assembler, NumberedFlow};

/// What a comment states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Comment {
    sample: String,
    label: String,
    destination: String,
}

impl Comment {
    /// Parses a comment as pcapML's own reader does: a field without `=` counts by its position.
    fn parse(text: &str) -> Self {
        let mut keyed = Vec::new();
        let mut positional = Vec::new();
        for field in text.trim_end_matches('\0').split(',') {
            match field.split_once('=') {
                Some(pair) => keyed.push(pair),
                None => positional.push(field),
            }
        }
        // Of a repeated key, the last value counts.
        let value = |key: &str| keyed.iter().rev().find(|(name, _)| *name == key).map(|(_, value)| *value);
        let given = |key: &str| value(key).filter(|value| !value.is_empty());
        let sample = value("s").or_else(|| positional.first().copied());
        let label = given("proc").or_else(|| given("label")).or_else(|| positional.get(1).copied());
        Self {
            sample: sample.unwrap_or_default().to_owned(),
            label: label.unwrap_or_default().to_owned(),
            destination: value("dst").unwrap_or_default().to_owned(),
        }
    }
}

/// The sample being read.
struct Sample {
    comment: Comment,
    /// Number of its first packet in the file.
    packet: u64,
    assembler: Assembler,
    flows: Vec<NumberedFlow>,
}

impl Sample {
    fn emit(self, sink: &mut Sink<'_>) -> Result<(), Fault> {
        let Self { comment, packet, assembler, mut flows } = self;
        assembler.finish(&mut |flow| flows.push(flow));
        flows.sort_unstable_by_key(|flow| flow.number);
        let Comment { sample, label, destination } = comment;
        for NumberedFlow { flow, .. } in flows {
            let fields = vec![label.clone(), sample.clone(), destination.clone()];
            let flow = PublishedFlow { group: Some(sample.clone()), ..PublishedFlow::whole(fields, flow) };
            sink(flow).map_err(|message| Fault::at(format_args!("packet {packet}"), message))?;
        }
        Ok(())
    }
}

pub(super) fn read(file: &PublishedFile<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let options = ReaderOptions { tunnels: file.options.tunnels, ..ReaderOptions::default() };
    let unreadable = |error: etcbench_capture::CaptureError| Fault::of_file(error.to_string());
    let mut reader = CaptureReader::from_reader_with(file.open()?, "the capture", &options).map_err(unreadable)?;
    let assembler = || Assembler::new(file.options).map_err(|error| Fault::of_file(error.to_string()));
    let mut ended: HashSet<String> = HashSet::new();
    let mut current: Option<Sample> = None;
    let mut packets = 0_u64;
    while let Some(packet) = reader.next_packet().map_err(unreadable)? {
        packets += 1;
        let fault = |message: String| Fault::at(format_args!("packet {}", packet.number), message);
        // Packets without a comment belong to no sample.
        if packet.comment.is_empty() {
            continue;
        }
        let text = std::str::from_utf8(packet.comment).map_err(|_| fault("its comment is not UTF-8".to_owned()))?;
        let comment = Comment::parse(text);
        if comment.sample.is_empty() {
            return Err(fault(format!("its comment `{}` names no sample (sampleID,label)", shown(text))));
        }
        if let Some(sample) = current.take_if(|sample| sample.comment.sample != comment.sample) {
            ended.insert(sample.comment.sample.clone());
            sample.emit(sink)?;
        }
        let sample = match &mut current {
            Some(sample) => sample,
            None if ended.contains(&comment.sample) => {
                return Err(fault(format!(
                    "sample {} began before another one; sort the file by sample with `pcapml sort`",
                    shown(&comment.sample)
                )));
            }
            None => {
                let (packet, assembler) = (packet.number, assembler()?);
                current.insert(Sample { comment: comment.clone(), packet, assembler, flows: Vec::new() })
            }
        };
        if sample.comment.label != comment.label {
            return Err(fault(format!(
                "sample {} is `{}` here but `{}` from packet {} on",
                shown(&comment.sample),
                shown(&comment.label),
                shown(&sample.comment.label),
                sample.packet
            )));
        }
        let flows = &mut sample.flows;
        sample.assembler.push(&packet, &mut |flow| flows.push(flow));
    }
    if let Some(sample) = current {
        ended.insert(sample.comment.sample.clone());
        sample.emit(sink)?;
    }
    if packets > 0 && ended.is_empty() {
        return Err(Fault::of_file(
            "none of its packets has a comment; pcapML writes `sampleID,label` as the comment of each packet"
                .to_owned(),
        ));
    }
    file.damage.replace(reader.summary().damage);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_of_all_versions_are_parsed() {
        let parsed = |text: &str| {
            let Comment { sample, label, destination } = Comment::parse(text);
            [sample, label, destination]
        };
        assert_eq!(parsed("18205618432581910911,windows-10"), ["18205618432581910911", "windows-10", ""]);
        assert_eq!(parsed("7,chat,more"), ["7", "chat", ""]);
        assert_eq!(parsed("7"), ["7", "", ""]);
        assert_eq!(parsed("7,chat\0\0"), ["7", "chat", ""]);
        let keyed = "s=0,proc=curl,dir=lan2wan,dst=example.com";
        assert_eq!(parsed(keyed), ["0", "curl", "example.com"]);
        assert_eq!(parsed("s=1,proc=,label=mail"), ["1", "mail", ""]);
        assert_eq!(parsed(""), ["", "", ""]);
    }
}

//! What a model sees of a packet's fields: the tokens of a flow after masking, cut at M bytes and N packets.

use etcbench_capture::{FieldRange, PacketField};
use etcbench_feature::{FeatureSet, Mask, MaskMethod, PAD, TokenOptions};
use etcbench_flow::{Flow, FlowPacket};

/// A packet with tokens.
struct SeenPacket<'a> {
    packet: &'a FlowPacket,
    /// Its index among the flow's kept packets.
    number: usize,
    /// Offset of the first byte with a token.
    start: usize,
}

/// The packets of a flow that have tokens, in order, and the locations of its TLS hello fields.
pub(super) struct SeenFlow<'a> {
    packets: Vec<SeenPacket<'a>>,
    hellos: Vec<FieldRange>,
}

impl<'a> SeenFlow<'a> {
    pub(super) fn new(flow: &'a Flow, options: &TokenOptions) -> SeenFlow<'a> {
        let packets = flow.packets.iter().enumerate();
        let packets =
            packets.map(|(number, packet)| SeenPacket { packet, number, start: options.packet_start.of(packet) });
        let packets = packets.filter(|seen| seen.start < seen.packet.bytes.len()).take(options.packets).collect();
        let mut hellos = flow.locate_hellos();
        // Uncertain ranges, whose position depends on uncaptured bytes, may contain other fields.
        hellos.retain(|range| range.certain);
        SeenFlow { packets, hellos }
    }

    /// Returns the number of packets with tokens.
    pub(super) fn packets(&self) -> usize {
        self.packets.len()
    }

    /// Returns how many bytes of packet number `index` of these were captured, and how many its IP header declares;
    /// `None` if there is no such packet or the length was not captured.
    pub(super) fn captured(&self, index: usize) -> Option<(usize, usize)> {
        let packet = self.packets.get(index)?.packet;
        let length = PacketField::IpLength.number(packet.view())?;
        let header = if packet.view().ip_version() == Some(6) { 40 } else { 0 };
        Some((packet.bytes.len(), length as usize + header))
    }

    /// Returns what a model sees of a field in packet number `index` of these: the bytes that became tokens, as masked;
    /// `None` if the packet has no such field, no part of it is among the tokens, or a mask has zeroed it.
    pub(super) fn visible(
        &self,
        features: &FeatureSet,
        row: usize,
        index: usize,
        field: PacketField,
        options: &TokenOptions,
    ) -> Option<Vec<u8>> {
        let seen = self.packets.get(index)?;
        let tokens = features.tokens.packet(row, index);
        let mut value = Vec::new();
        let mut look = |range: FieldRange| {
            for (place, at) in range.range().enumerate() {
                let token = at.checked_sub(seen.start).and_then(|at| tokens.get(at));
                value.extend(token.filter(|&&token| token != PAD).map(|&token| token as u8 & range.bits(place)));
            }
        };
        if field.is_of_hello() {
            let of_field = |range: &&FieldRange| range.field == field && range.packet == seen.number;
            self.hellos.iter().filter(of_field).copied().for_each(look);
        } else {
            field.locate(seen.packet.view(), &mut look);
        }
        let zeroed = options.mask_method == MaskMethod::Zero
            && field.group().is_some_and(|group| options.masks.contains(&Mask::of(group)));
        // The number of zeroed bytes, and whether there are any, would reveal other fields: options, lengths, flags.
        let nothing = value.is_empty() || (zeroed && value.iter().all(|&byte| byte == 0));
        (!nothing).then_some(value)
    }
}

//! Replacements that are random per flow and consistent within it.

use etcbench_capture::FieldRange;
use etcbench_flow::FiveTuple;
use etcbench_storage::seed;

use super::Mask;

/// Rounds of the Feistel network; four yield a pseudorandom permutation (Luby and Rackoff, 1988), eight add a margin
/// for the narrow fields.
const ROUNDS: u64 = 8;

/// The secret key of one flow.
pub(super) struct Randomiser {
    key: u64,
}

/// Hashes a word to a word (SplitMix64; Steele, Lea and Flood, 2014).
fn mixed(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

impl Randomiser {
    pub(super) fn new(seed: u64, tuple: &FiveTuple, start: i64) -> Randomiser {
        let FiveTuple { source, destination, transport } = tuple;
        Randomiser { key: seed::derive(seed, &format!("mask/{transport:?}/{source}/{destination}/{start}")) }
    }

    /// Replaces the kept part of a field: strings byte by byte, numbers and addresses as one value.
    pub(super) fn replace(&self, mask: Mask, range: &FieldRange, part: &mut [u8]) {
        // Values of different fields, and of different widths, are unrelated.
        let key = mixed(self.key ^ mixed((mask as u64) << 8));
        if range.field.is_of_hello() {
            for (place, byte) in (range.position as u64..).zip(part) {
                *byte ^= (mixed(key ^ mixed(place / 8)) >> (place % 8 * 8)) as u8;
            }
            return;
        }
        for (index, part) in part.chunks_mut(16).enumerate() {
            // A flow label occupies the low bits of its bytes.
            let first_bits = range.bits(16 * index);
            let bits = first_bits.count_ones() + 8 * (part.len() as u32 - 1);
            let value =
                part.iter().fold(0, |value, byte| (value << 8) | u128::from(*byte)) & (u128::MAX >> (128 - bits));
            let bytes = permuted(key, value, bits).to_be_bytes();
            let bytes = &bytes[16 - part.len()..];
            let first = (part[0] & !first_bits) | bytes[0];
            part.copy_from_slice(bytes);
            part[0] = first;
        }
    }
}

/// A permutation of the numbers with an even number of bits, up to 128: a balanced Feistel network.
fn permuted(key: u64, value: u128, bits: u32) -> u128 {
    let half = bits / 2;
    let low = u64::MAX >> (64 - half);
    let (mut left, mut right) = ((value >> half) as u64 & low, value as u64 & low);
    for round in 0..ROUNDS {
        let word = mixed(mixed(key ^ mixed((u64::from(bits) << 8) | round)) ^ right);
        (left, right) = (right, left ^ (word & low));
    }
    (u128::from(left) << half) | u128::from(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_fields_are_permuted_and_not_merged() {
        for key in [0, 1, 77] {
            for bits in [4, 8, 16] {
                let mut seen = vec![false; 1 << bits];
                for value in 0..1u128 << bits {
                    let replacement = permuted(key, value, bits) as usize;
                    assert!(!std::mem::replace(&mut seen[replacement], true), "{bits} bits");
                }
            }
        }
        assert_ne!(permuted(1, 5, 128), permuted(2, 5, 128));
    }
}

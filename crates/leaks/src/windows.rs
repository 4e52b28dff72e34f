//! Windows of one flow on both sides of a released split: test rows that share half of their runs of bytes with training
//! rows, although no training row is equal. Runs are hashed, one in [`SAMPLED`] is checked, and the hashes of the training
//! rows are one sorted list: a map of them would take several times its memory.

use std::collections::HashSet;

use rayon::prelude::*;

use etcbench_feature::FeatureSet;
use etcbench_split::Split;

/// Rows of at least this many bytes are checked for windows.
pub const SHORTEST_WINDOW: usize = 48;
/// Length in bytes of the runs that windows of one flow share; one in `SAMPLED` is checked.
pub const RUN_LENGTH: usize = 24;
const SAMPLED: u64 = 4;
/// Runs with fewer distinct bytes are skipped: padding and constant headers are everywhere.
const FEWEST_VALUES: usize = 8;
/// The share of a row's runs from which it counts as a window of a training row.
const SHARED_RUNS: f64 = 0.5;
/// Number of training rows whose runs are found before they are added to the list.
const BATCH: usize = 4096;

/// Returns the share of test rows that are windows of training rows, excluding duplicates; `None` below 1 %.
pub fn windows(features: &FeatureSet, split: &Split) -> Option<f64> {
    if features.tokens.bytes < SHORTEST_WINDOW {
        return None;
    }
    let row_of = |row: usize| features.tokens.flow(row);
    let trained: HashSet<&[u16]> = split.train.iter().map(|&row| row_of(row)).collect();
    let mut known: Vec<u64> = Vec::new();
    for batch in split.train.chunks(BATCH) {
        let found: Vec<Vec<u64>> = batch.par_iter().map(|&row| runs(row_of(row))).collect();
        found.iter().for_each(|runs| known.extend(runs));
    }
    known.par_sort_unstable();
    // Runs that occur in many training rows belong to protocols rather than flows.
    let most = (split.train.len() / 50).max(10);
    let common = known.chunk_by(|left, right| left == right).filter(|same| same.len() > most);
    let common: HashSet<u64> = common.map(|same| same[0]).collect();
    known.dedup();
    let is_window = |row: usize| {
        let mut rare = runs(row_of(row));
        rare.retain(|run| !common.contains(run));
        let shared = rare.iter().filter(|run| known.binary_search(run).is_ok()).count();
        !rare.is_empty() && shared as f64 >= SHARED_RUNS * rare.len() as f64 && !trained.contains(row_of(row))
    };
    let found = split.test.par_iter().filter(|&&row| is_window(row)).count();
    let share = found as f64 / split.test.len().max(1) as f64;
    (share >= 0.01).then_some(share)
}

/// Returns the hashes of a row's runs that are checked, each once, in ascending order.
fn runs(row: &[u16]) -> Vec<u64> {
    // How often each byte is in the current run, and the number of those that are.
    let mut counts = [0_u8; 256];
    let mut distinct = 0;
    let mut found = Vec::new();
    for (end, &value) in row.iter().enumerate() {
        let count = &mut counts[usize::from(value as u8)];
        distinct += usize::from(*count == 0);
        *count += 1;
        if let Some(before) = end.checked_sub(RUN_LENGTH) {
            let count = &mut counts[usize::from(row[before] as u8)];
            *count -= 1;
            distinct -= usize::from(*count == 0);
        }
        if end + 1 >= RUN_LENGTH && distinct >= FEWEST_VALUES {
            let hash = hash(&row[end + 1 - RUN_LENGTH..=end]);
            if hash.is_multiple_of(SAMPLED) {
                found.push(hash);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// FNV-1a, 64 bits: the same on every machine.
fn hash(run: &[u16]) -> u64 {
    run.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &value| (hash ^ u64::from(value)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_are_those_of_their_definition(row in prop::collection::vec(0_u16..12, 0..120)) {
            let by_definition: std::collections::BTreeSet<u64> = row
                .windows(RUN_LENGTH)
                .filter(|run| run.iter().collect::<HashSet<_>>().len() >= FEWEST_VALUES)
                .map(hash)
                .filter(|hash| hash.is_multiple_of(SAMPLED))
                .collect();
            prop_assert_eq!(runs(&row), by_definition.into_iter().collect::<Vec<_>>());
        }
    }
}

//! Splits that treat each class separately: stratified, temporal and stratified k-fold.

use rand::seq::SliceRandom;

use super::{Flows, Fractions, Part, Split, SplitError, SplitMethod};
use etcbench_dataset::FlowProvenance;
use etcbench_storage::seed;

/// Every part needs a flow of every class.
pub(super) const PARTS: usize = 3;

/// Splits each class's flows at random.
pub(super) fn stratified(flows: &Flows<'_>, fractions: Fractions, seed: u64) -> Result<Split, SplitError> {
    flows.require(PARTS, SplitMethod::Stratified)?;
    let mut parts = vec![Part::Train; flows.rows];
    for class in 0..flows.classes.len() {
        assign(&shuffled(flows, class, seed), fractions, &mut parts);
    }
    Ok(Split::from_parts(&parts))
}

/// Splits each class's flows by start time, with ties ordered by flow id.
pub(super) fn temporal(
    flows: &Flows<'_>,
    fractions: Fractions,
    provenance: &[FlowProvenance],
) -> Result<Split, SplitError> {
    flows.require(PARTS, SplitMethod::Temporal)?;
    let mut parts = vec![Part::Train; flows.rows];
    for rows in &flows.classes {
        let mut rows = rows.clone();
        rows.sort_by_key(|&row| provenance[row].start);
        assign(&rows, fractions, &mut parts);
    }
    Ok(Split::from_parts(&parts))
}

/// Splits each class's flows at random into `folds` parts of equal size, give or take one. In each split one fold is
/// the test set; the flows after it (in a ring) are the validation set.
pub(super) fn k_fold(flows: &Flows<'_>, folds: usize, validation: f64, seed: u64) -> Result<Vec<Split>, SplitError> {
    flows.require(flows_of_folds(folds), SplitMethod::KFold)?;
    let mut parts = vec![vec![Part::Train; flows.rows]; folds];
    for class in 0..flows.classes.len() {
        let rows = shuffled(flows, class, seed);
        let count = rows.len();
        for (fold, parts) in parts.iter_mut().enumerate() {
            let (start, end) = (boundary(count, fold, folds), boundary(count, fold + 1, folds));
            let rest = count - (end - start);
            let validated = ((validation * count as f64).round() as usize).clamp(1, rest - 1);
            for &row in &rows[start..end] {
                parts[row] = Part::Test;
            }
            for offset in 0..validated {
                parts[rows[(end + offset) % count]] = Part::Validation;
            }
        }
    }
    Ok(parts.iter().map(|parts| Split::from_parts(parts)).collect())
}

/// Returns the number of flows a class needs for this many folds: the largest fold must leave one flow to validate and
/// one to fit on.
pub(super) fn flows_of_folds(folds: usize) -> usize {
    (folds.max(PARTS)..).find(|&rows| rows - rows.div_ceil(folds) >= 2).expect("4 flows suffice")
}

/// Returns where fold number `fold` begins: the first `count % folds` folds have one flow more.
fn boundary(count: usize, fold: usize, folds: usize) -> usize {
    fold * (count / folds) + fold.min(count % folds)
}

/// Returns a class's rows, shuffled. Each class has its own generator, so that leaving one class out does not affect
/// the flows of the others.
fn shuffled(flows: &Flows<'_>, class: usize, seed: u64) -> Vec<usize> {
    let mut rows = flows.classes[class].clone();
    rows.shuffle(&mut seed::generator(seed::derive(seed, "split"), &flows.class_names[class]));
    rows
}

/// Assigns the first of `rows` to train, the next to validation and the last to test.
fn assign(rows: &[usize], fractions: Fractions, parts: &mut [Part]) {
    let [train, validation, _] = quotas(rows.len(), fractions);
    for (position, &row) in rows.iter().enumerate() {
        parts[row] = if position < train {
            Part::Train
        } else if position < train + validation {
            Part::Validation
        } else {
            Part::Test
        };
    }
}

/// Returns how many of `count` flows (at least 3) each part gets: the fractions by largest remainder, and at least one
/// each.
fn quotas(count: usize, fractions: Fractions) -> [usize; 3] {
    let shares = [fractions.train, fractions.validation, fractions.test].map(|share| share * count as f64);
    // An integer share must not lose a flow to rounding.
    let mut quotas = shares.map(|share| (share + 1e-9).floor() as usize);
    let mut by_remainder = [0, 1, 2];
    by_remainder.sort_by(|&left, &right| {
        let remainder = |part: usize| shares[part] - quotas[part] as f64;
        remainder(right).total_cmp(&remainder(left))
    });
    let missing = count.saturating_sub(quotas.iter().sum());
    for &part in by_remainder.iter().cycle().take(missing) {
        quotas[part] += 1;
    }
    while let Some(empty) = quotas.iter().position(|&quota| quota == 0) {
        let largest = if quotas[0] >= quotas[1].max(quotas[2]) {
            0
        } else if quotas[2] > quotas[1] {
            2
        } else {
            1
        };
        quotas[largest] -= 1;
        quotas[empty] += 1;
    }
    quotas
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotas_are_those_a_reader_expects() {
        let usual = Fractions { train: 0.8, validation: 0.1, test: 0.1 };
        assert_eq!(quotas(100, usual), [80, 10, 10]);
        assert_eq!(quotas(10, usual), [8, 1, 1]);
        assert_eq!(quotas(3, usual), [1, 1, 1]);
        assert_eq!(quotas(4, usual), [2, 1, 1]);
        assert_eq!(quotas(3, Fractions { train: 0.05, validation: 0.05, test: 0.9 }), [1, 1, 1]);
    }

    proptest! {
        #[test]
        fn quotas_sum_to_the_flows_and_keep_to_the_fractions(
            count in 3usize..100_000, train in 0.01f64..0.98, share in 0.01f64..0.99,
        ) {
            let validation = (1.0 - train) * share;
            let fractions = Fractions { train, validation, test: 1.0 - train - validation };
            let quotas = quotas(count, fractions);
            prop_assert_eq!(quotas.iter().sum::<usize>(), count);
            prop_assert!(quotas.iter().all(|&quota| quota > 0));
            for (quota, share) in quotas.iter().zip([fractions.train, fractions.validation, fractions.test]) {
                // One for the remainder, two for flows given up to parts that had none.
                prop_assert!((*quota as f64 - share * count as f64).abs() <= 3.0);
            }
        }
    }
}

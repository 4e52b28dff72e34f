//! Checks splits: draws each again from flows, classes, method and seed, and checks that no split trains on what it
//! tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::check_published::{StatedParts, stated_parts};
use super::claimed::{Claimed, SharedCaptures, VariantFacts};
use super::rules::Finding;
use etcbench_experiment::{SplitRun, Variant, VariantRun};
use etcbench_feature::{FeatureSet, Unselected};
use etcbench_split::{
    Part, Split, SplitMethod, SplitOptions, SplitSummary, group_of, read_split, sample_training, split,
    split_as_published,
};

/// Returns the variants with the claimed splits; `None` for one whose flows or splits cannot be read. `project` is the
/// folder with the definitions of datasets.
pub(super) fn check(
    claimed: &Claimed,
    project: &Path,
    flows: Vec<Option<FeatureSet>>,
    findings: &mut Vec<Finding>,
    notes: &mut Vec<String>,
) -> Vec<Option<VariantRun>> {
    let mut checked: Vec<Option<VariantRun>> = Vec::new();
    for (facts, flows) in claimed.run.variants.iter().zip(flows) {
        let variant = claimed.experiment.variants.iter().find(|variant| variant.name == facts.name);
        checked.push(variant.zip(flows).and_then(|(variant, flows)| {
            let is_published = variant.split.method == SplitMethod::Published;
            let stated = is_published.then(|| stated_parts(claimed, project, &facts.name, &flows, findings));
            if let Some(unknown) = stated.as_ref().map(StatedParts::unknown).filter(|&unknown| unknown > 0) {
                notes.push(format!(
                    "{}: for {unknown} of {} flows the published part is not in a manifest with a definition in this \
                     project: which of them are tested is as the bundle states",
                    facts.name,
                    flows.len()
                ));
            }
            check_variant(claimed, (facts, variant), flows, stated.as_ref(), findings)
        }));
    }
    check_no_others(claimed, &checked, findings);
    checked
}

fn check_variant(
    claimed: &Claimed,
    (facts, variant): (&VariantFacts, &Variant),
    features: FeatureSet,
    stated: Option<&StatedParts>,
    findings: &mut Vec<Finding>,
) -> Option<VariantRun> {
    let mut found = |rule, place: &str, problem: String| findings.push(Finding::new(rule, place, problem));
    let place = |count: usize, seed: u64, fold: usize| {
        format!("splits/{}-{}.csv", facts.name, Claimed::split_name(count, seed, fold))
    };
    let mut splits = Vec::new();
    let mut whole = true;
    let mut most = 0;
    let published = stated.and_then(|stated| {
        let &seed = claimed.experiment.seeds.first()?;
        let first = read_split(&claimed.folder().join(place(1, seed, 0)), &features).ok();
        stated.complete(&features, first.as_ref(), &variant.split, seed)
    });
    for &seed in &claimed.experiment.seeds {
        let drawn = drawn(variant, &features, published.as_deref(), seed);
        let count = match &drawn {
            Some(Ok(drawn)) => drawn.len(),
            Some(Err(problem)) => {
                found("splits", &facts.name, format!("seed {seed}: the flows cannot be split as stated: {problem}"));
                variant.split.count().unwrap_or(1)
            }
            // The number of splits in a split file is unknown.
            None => stated_count(claimed, facts, seed),
        };
        most = count.max(most);
        let mut tested = vec![0_usize; features.len()];
        for fold in 0..count {
            let name = place(count, seed, fold);
            let path = claimed.folder().join(&name);
            if !path.is_file() {
                found("seeds", &name, format!("is missing: no split of seed {seed}, fold {fold}"));
                whole = false;
                continue;
            }
            let stored = match read_split(&path, &features) {
                Ok(stored) => stored,
                Err(error) => {
                    let folder = format!("{}/", claimed.folder().display());
                    found("splits", &name, error.to_string().replace(&folder, ""));
                    whole = false;
                    continue;
                }
            };
            if let Some(Ok(drawn)) = &drawn
                && let Some(problem) = moved(&features, &stored, &drawn[fold])
            {
                let method = variant.split.method.name();
                found("splits", &name, format!("{problem} (method {method}, seed {seed}, fold {fold})"));
            }
            if let Some(problem) = on_both_sides(&features, &stored, &variant.split) {
                found("separation", &name, problem);
            }
            stored.test.iter().for_each(|&row| tested[row] += 1);
            splits.push((seed, fold, stored));
        }
        let repeats = variant.split.repeats.unwrap_or(1);
        if variant.split.method == SplitMethod::KFold && whole {
            let wrong = (0..features.len()).find(|&row| tested[row] != repeats);
            if let Some(row) = wrong {
                let (id, times) = (features.provenance[row].flow_id(), tested[row]);
                found(
                    "separation",
                    &facts.name,
                    format!("seed {seed}: {id} is tested {times} times in the folds instead of {repeats}"),
                );
            }
        }
    }
    let runs: Vec<SplitRun> = splits
        .into_iter()
        .map(|(seed, fold, split)| {
            let summary = SplitSummary::new(&features, &split);
            let training = sample_training(&features, &split, &variant.split, seed);
            SplitRun { seed, fold, split, training, summary, leaks: None }
        })
        .collect();
    check_shared(facts, &runs, findings);
    let run = VariantRun {
        name: facts.name.clone(),
        unselected: Unselected::default(),
        small_classes: facts.small_classes.clone(),
        unknown: None,
        features,
        splits: runs,
        folds: most,
    };
    whole.then_some(run)
}

/// Draws the splits of a method and seed; returns `None` for a split file, which the bundle does not contain, and for
/// published parts that nothing states.
fn drawn(
    variant: &Variant,
    features: &FeatureSet,
    published: Option<&[Part]>,
    seed: u64,
) -> Option<Result<Vec<Split>, String>> {
    let drawn = match variant.split.method {
        SplitMethod::File => return None,
        SplitMethod::Published => {
            split_as_published(features, published?, &variant.split, seed).map(|split| vec![split])
        }
        _ => split(features, &variant.split, seed),
    };
    Some(drawn.map_err(|error| error.to_string()))
}

/// Returns the number of claimed splits of a seed.
fn stated_count(claimed: &Claimed, facts: &VariantFacts, seed: u64) -> usize {
    let exists = |fold: usize| {
        let name = format!("splits/{}-seed{seed}-fold{fold}.csv", facts.name);
        claimed.folder().join(name).is_file()
    };
    (0..).take_while(|&fold| exists(fold)).count().max(1)
}

/// Describes flows that are in a different part than the method assigns.
fn moved(features: &FeatureSet, stored: &Split, drawn: &Split) -> Option<String> {
    let parts = |split: &Split| -> BTreeMap<usize, &'static str> {
        Part::ALL.iter().flat_map(|part| split.part(*part).iter().map(|&row| (row, part.name()))).collect()
    };
    let (stored, drawn) = (parts(stored), parts(drawn));
    let wrong: Vec<usize> = stored.keys().copied().filter(|row| stored.get(row) != drawn.get(row)).collect();
    let &first = wrong.first()?;
    let id = features.provenance[first].flow_id();
    let drawn = drawn.get(&first).unwrap_or(&"no part");
    Some(format!(
        "{} flow(s) are in a different part than drawn, the first: {id} is in {} but drawn for {drawn}",
        wrong.len(),
        stored[&first]
    ))
}

/// Describes groups that are both in the test part and in another part, if groups must not be divided.
fn on_both_sides(features: &FeatureSet, stored: &Split, options: &SplitOptions) -> Option<String> {
    let by = match options.method {
        SplitMethod::Grouped => options.group.unwrap_or_default(),
        SplitMethod::KFold => options.group?,
        _ => return None,
    };
    let groups = |rows: &[usize]| -> BTreeSet<String> {
        rows.iter().map(|&row| group_of(&features.provenance[row], by).into_owned()).collect()
    };
    let tested = groups(&stored.test);
    let others: BTreeSet<String> = groups(&stored.train).union(&groups(&stored.validation)).cloned().collect();
    let shared: Vec<&String> = tested.intersection(&others).collect();
    let first = shared.first()?;
    Some(format!("{} {}(s) are both tested and trained on, the first {first}", shared.len(), by.name()))
}

/// Checks the captures that parts share according to `run.json`.
fn check_shared(facts: &VariantFacts, runs: &[SplitRun], findings: &mut Vec<Finding>) {
    let of_run = |run: &SplitRun| {
        let (seed, fold) = (run.seed, run.fold);
        let shared = |shared: &etcbench_split::SharedProvenance| SharedCaptures {
            seed,
            fold,
            first: shared.first.name().to_owned(),
            second: shared.second.name().to_owned(),
            captures: shared.captures.len(),
        };
        run.summary.shared.iter().map(shared).collect::<Vec<_>>()
    };
    let measured: Vec<SharedCaptures> = runs.iter().flat_map(of_run).collect();
    if measured != facts.shared_captures {
        let problem = format!("{}: the captures that parts share differ from the splits", facts.name);
        findings.push(Finding::new("leaks", "run.json", problem));
    }
}

/// Reports splits that belong to no seed of the experiment.
fn check_no_others(claimed: &Claimed, checked: &[Option<VariantRun>], findings: &mut Vec<Finding>) {
    let mut known = BTreeSet::new();
    for variant in checked.iter().flatten() {
        known.extend(
            variant
                .splits
                .iter()
                .map(|run| format!("splits/{}-{}.csv", variant.name, variant.split_name(run.seed, run.fold))),
        );
    }
    // If a variant could not be read, its splits are unknown.
    if checked.iter().any(Option::is_none) {
        return;
    }
    for name in claimed.files_in("splits").into_iter().filter(|name| !known.contains(name)) {
        findings.push(Finding::new("seeds", name, "belongs to no seed and fold of the experiment"));
    }
}

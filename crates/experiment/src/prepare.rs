//! Everything up to training: the flows of every variant, their features, their splits, and the leaks of the splits.

use super::evaluation::without_unknown;
use super::flows::{Content, LoadedFlows, load_flows};
use super::held::require_held;
use super::parts::published_parts;
use super::run::{LeftOutVariant, Settings, SplitRun, VariantRun};
use super::{Experiment, ExperimentError, Variant, memory};
use etcbench_feature::{build_features, build_table_features};
use etcbench_model::{Input, ModelSpec};
use etcbench_split::{
    GroupBy, Part, Split, SplitMethod, SplitSummary, leave_out_small_classes, sample_training, split,
    split_as_published,
};
use etcbench_storage::counted;
use etcbench_storage::progress::Progress;

/// Computes everything up to training: the flows of every variant, their splits, and the leaks of the splits.
///
/// # Errors
/// Data is missing or unusable, or flows cannot be divided as requested.
pub fn divide(
    experiment: &Experiment,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Vec<VariantRun>, ExperimentError> {
    let prepared = prepare_all(experiment, settings, progress)?.variants;
    Ok(prepared.into_iter().map(|(_, _, variant)| variant).collect())
}

/// A variant, the index of its flows among the loaded ones, and its features and splits.
pub(super) type Prepared<'a> = (&'a Variant, usize, VariantRun);

/// The flows for every set of flow options, and the prepared variants.
pub(super) struct PreparedAll<'a> {
    pub loaded: Vec<LoadedFlows>,
    pub variants: Vec<Prepared<'a>>,
    pub left_out: Vec<LeftOutVariant>,
}

pub(super) fn prepare_all<'a>(
    experiment: &'a Experiment,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<PreparedAll<'a>, ExperimentError> {
    let left =
        |(variant, problem): &(String, String)| LeftOutVariant { variant: variant.clone(), problem: problem.clone() };
    let mut left_out: Vec<LeftOutVariant> = experiment.left_out.iter().map(left).collect();
    let mut loaded: Vec<LoadedFlows> = Vec::new();
    let mut prepared = Vec::new();
    for variant in &experiment.variants {
        let options = super::flows::flow_options(experiment, variant);
        let index = match loaded.iter().position(|flows| flows.options == options) {
            Some(index) => index,
            None => {
                let flows = load_flows(experiment, options, settings, progress)?;
                if loaded.is_empty() {
                    flows.notes.iter().for_each(|note| progress.warn(note));
                }
                loaded.push(flows);
                loaded.len() - 1
            }
        };
        memory::check_features(variant, &loaded[index], settings)?;
        let mut variant_run = match prepare(experiment, variant, &loaded[index], settings, progress) {
            Err(error) if experiment.ladder.is_some() && error.is_of_division() => {
                progress.warn(&format!("{} is left out: {error}", variant.name));
                left_out.push(LeftOutVariant { variant: variant.name.clone(), problem: error.to_string() });
                continue;
            }
            prepared => prepared?,
        };
        let parts: Vec<&Split> = variant_run.splits.iter().map(|run| &run.split).collect();
        let leaks = super::leaks::reports(variant, &variant_run.features, &loaded[index], &parts)?;
        for (run, leaks) in variant_run.splits.iter_mut().zip(leaks) {
            run.leaks = Some(leaks);
        }
        prepared.push((variant, index, variant_run));
    }
    if let (true, Some(LeftOutVariant { variant, problem })) = (prepared.is_empty(), left_out.first()) {
        let problem = format!("no rung of the ladder remains; {variant}: {problem}");
        return Err(ExperimentError::Features { problem });
    }
    Ok(PreparedAll { loaded, variants: prepared, left_out })
}

/// Builds the features of a variant's flows, and divides them.
pub(super) fn prepare(
    experiment: &Experiment,
    variant: &Variant,
    flows: &LoadedFlows,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<VariantRun, ExperimentError> {
    // The selection may draw a subsample; it is the same for every seed, so that seeds differ only in split and
    // training.
    let columns = variant.packet_columns();
    let (features, unselected) = match &flows.content {
        Content::Flows(labelled) => {
            require_held(variant, flows)?;
            let (mut features, unselected) =
                build_features(labelled, &variant.selection, &variant.feature, columns, &flows.options, 0)?;
            features.keep_statistics(|name| flows.holds.iter().all(|holds| holds.knows(name)));
            (features, unselected)
        }
        Content::Table(table) => {
            let located = table.rows.iter().all(|row| !row.provenance.five_tuple.destination.ip().is_unspecified());
            require_no_packets(variant, located)?;
            experiment.evaluation.require_no_packets()?;
            let (features, unselected) = build_table_features(table, &variant.selection, 0)?;
            let left: Vec<&str> = table
                .names
                .iter()
                .filter(|name| !features.statistic_names.contains(name))
                .map(String::as_str)
                .collect();
            if !left.is_empty() {
                progress.warn(&format!(
                    "{}: columns left out because not every file of the selected rows has them: {}",
                    variant.name,
                    left.join(", ")
                ));
            }
            (features, unselected)
        }
    };
    let options = variant.split.relative_to(&settings.project);
    let (features, unknown) = without_unknown(features, &experiment.evaluation.unknown_classes)?;
    let (features, small_classes) = leave_out_small_classes(features, &options)?;
    for small in &small_classes {
        progress.warn(&format!("{}: class {} is left out: {}", variant.name, small.class, small.lacks));
    }
    let (features, published) = match published_parts(variant, flows, &features)? {
        None => (features, None),
        Some(parts) => {
            let used: Vec<usize> = (0..features.len()).filter(|&row| parts[row].is_some()).collect();
            if used.len() < features.len() {
                progress.warn(&format!(
                    "{}: {} in none of the published parts, not used",
                    variant.name,
                    counted((features.len() - used.len()) as u64, "flow")
                ));
            }
            (features.with_rows(&used), Some(parts.into_iter().flatten().collect::<Vec<Part>>()))
        }
    };
    let mut divided = Vec::new();
    let mut folds = 0;
    for &seed in &experiment.seeds {
        let of_seed = match &published {
            Some(parts) => vec![split_as_published(&features, parts, &options, seed)?],
            None => split(&features, &options, seed)?,
        };
        folds = of_seed.len().max(folds);
        divided.extend(of_seed.into_iter().enumerate().map(|(fold, split)| (seed, fold, split)));
    }
    let splits = divided.into_iter().map(|(seed, fold, split)| {
        let summary = SplitSummary::new(&features, &split);
        let training = sample_training(&features, &split, &options, seed);
        SplitRun { seed, fold, split, training, summary, leaks: None }
    });
    let splits = splits.collect();
    Ok(VariantRun { name: variant.name.clone(), unselected, small_classes, unknown, features, splits, folds })
}

/// Feature files have no bytes, packets or times, and addresses only if their definition names the columns.
fn require_no_packets(variant: &Variant, located: bool) -> Result<(), ExperimentError> {
    let problem = |problem: String| Err(ExperimentError::Features { problem });
    let reads_packets = |spec: &&ModelSpec| {
        (spec.reads_bytes() || spec.reads_sequences() || spec.reads_flowpic()) && spec.kind.entry().reads_input
    };
    if let Some(spec) = variant.models.iter().find(reads_packets) {
        let (model, input) = (spec.kind.name(), spec.input.name());
        return problem(if !spec.kind.entry().inputs.contains(&Input::Statistics) {
            format!("{model} reads packet bytes, but the dataset's feature files have none; remove it from `models`")
        } else {
            format!(
                "{model} has input = \"{input}\", but the dataset's feature files have no packets; set \
                 model.{model}.input = \"statistics\""
            )
        });
    }
    if variant.split.method == SplitMethod::Temporal {
        return problem(
            "feature files have no times to split by; use method = \"stratified\" or \"k_fold\"".to_owned(),
        );
    }
    if let Some(group @ (GroupBy::Host | GroupBy::Connection)) = variant.split.group
        && !located
    {
        return problem(format!(
            "the feature files have no addresses to split by {}; name their columns in [features.endpoints] of the \
             definition, or split without `group`",
            group.name()
        ));
    }
    Ok(())
}

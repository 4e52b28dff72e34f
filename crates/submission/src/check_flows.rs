//! Checks the data that a bundle claims to use, and that its flows and their classes come from it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use super::bundle::{Bundle, sha256};
use super::claimed::{Claimed, VariantFacts};
use super::rules::Finding;
use etcbench_dataset::{
    DatasetDefinition, EntryState, Labels, Manifest, ManifestEntry, definition_path, read_manifest,
};
use etcbench_experiment::Variant;
use etcbench_feature::{FeatureSet, Sample, Selection};
use etcbench_split::{SmallClasses, read_flows};
use etcbench_storage::is_file_or_stock;

/// Checks that the manifests match `run.json`, and that its captures match the manifests.
pub(super) fn check_manifests(bundle: &Bundle, claimed: &Claimed, findings: &mut Vec<Finding>) {
    let run = &claimed.run;
    let mut found = |place: &str, problem: String| findings.push(Finding::new("manifests", place, problem));
    for stated in &run.manifests {
        let name = format!("manifests/{}.json", stated.dataset);
        match bundle.files.get(&name) {
            None => found(&name, "is missing, but listed in run.json".to_owned()),
            Some(content) if sha256(content) != stated.sha256 => {
                found(&name, "its SHA-256 differs from run.json".to_owned());
            }
            Some(_) => {}
        }
    }
    for dataset in &run.datasets {
        let name = format!("manifests/{dataset}.json");
        let Some(manifest) = manifest(claimed, dataset) else {
            found(&name, "is missing or not a manifest".to_owned());
            continue;
        };
        if run.manifests.iter().all(|stated| stated.dataset != *dataset) {
            found("run.json", format!("lists no manifest of {dataset}"));
        }
        if manifest.dataset != *dataset {
            found(&name, format!("is for dataset {}", manifest.dataset));
        }
        let used: BTreeMap<&str, &ManifestEntry> =
            manifest.of(EntryState::Used).map(|entry| (entry.path.as_str(), entry)).collect();
        let mut in_run: BTreeSet<&str> = BTreeSet::new();
        for capture in run.captures.iter().filter(|capture| capture.dataset == *dataset) {
            let path = path_of(dataset, &capture.capture, &used);
            in_run.insert(path);
            let problem = match used.get(path) {
                None => "is in run.json but not used in the manifest",
                Some(entry) if entry.sha256.as_deref() != Some(&capture.sha256) => {
                    "its SHA-256 differs between run.json and the manifest"
                }
                Some(entry) if entry.packets.is_some_and(|packets| packets != capture.summary.packets) => {
                    "its number of packets differs between run.json and the manifest"
                }
                Some(_) => continue,
            };
            found(&name, format!("{}: {problem}", capture.capture));
        }
        for (path, _) in used.iter().filter(|(path, entry)| entry.sha256.is_some() && !in_run.contains(**path)) {
            found(&name, format!("{path}: is used in the manifest but not in run.json"));
        }
    }
    for capture in run.captures.iter().filter(|capture| !run.datasets.contains(&capture.dataset)) {
        found("run.json", format!("{}: is from {}, not a dataset of the run", capture.capture, capture.dataset));
    }
}

/// Checks that captures have the labels that the datasets' definitions assign, if the project has them.
pub(super) fn check_definitions(
    claimed: &Claimed,
    project: &Path,
    findings: &mut Vec<Finding>,
    notes: &mut Vec<String>,
) {
    for dataset in &claimed.run.datasets {
        let Some(manifest) = manifest(claimed, dataset) else { continue };
        let Some(definition) = own_definition(project, dataset, &manifest) else {
            notes.push(format!("its definition of {dataset} is not in this project: only its manifest is checked"));
            continue;
        };
        for entry in manifest.of(EntryState::Used) {
            let by_definition = definition.capture_labels(&entry.path);
            if by_definition.as_ref() != Ok(&entry.labels) {
                let shown = |labels: &Labels| {
                    labels.iter().map(|(column, value)| format!("{column} = {value}")).collect::<Vec<_>>().join(", ")
                };
                let by_definition = by_definition.map_or_else(|problem| problem, |labels| shown(&labels));
                let problem = format!(
                    "{} has {}, but by the dataset's definition {by_definition}",
                    entry.path,
                    shown(&entry.labels)
                );
                findings.push(Finding::new("labels", format!("manifests/{dataset}.json"), problem));
            }
        }
    }
}

/// Returns the project's definition of a dataset, if it is the one of the manifest.
pub(super) fn own_definition(project: &Path, dataset: &str, manifest: &Manifest) -> Option<DatasetDefinition> {
    let path = definition_path(project, dataset);
    let definition = is_file_or_stock(&path).then(|| DatasetDefinition::read(&path).ok()).flatten();
    definition.filter(|own| own.digest == manifest.definition)
}

/// Returns the captures of the run from a dataset, with their labels in its manifest.
pub(super) fn used_captures<'a>(claimed: &'a Claimed, dataset: &str, manifest: &Manifest) -> Vec<(&'a str, Labels)> {
    let used: BTreeMap<&str, &ManifestEntry> =
        manifest.of(EntryState::Used).map(|entry| (entry.path.as_str(), entry)).collect();
    let captures = claimed.run.captures.iter().filter(|capture| capture.dataset == dataset);
    let labelled = captures.filter_map(|capture| {
        let entry = used.get(path_of(dataset, &capture.capture, &used))?;
        Some((capture.capture.as_str(), entry.labels.clone()))
    });
    labelled.collect()
}

/// Returns the entry of a flow's capture; flows of one group or sample of a capture are named CAPTURE!GROUP.
pub(super) fn of_capture<'a, T>(captures: &'a HashMap<&str, T>, named: &str) -> Option<(&'a str, &'a T)> {
    let of_group = || named.rmatch_indices('!').find_map(|(end, _)| captures.get_key_value(&named[..end]));
    captures.get_key_value(named).or_else(of_group).map(|(capture, entry)| (*capture, entry))
}

/// Returns the path of a capture in its dataset's folder: with several datasets, names of captures begin with the
/// dataset.
fn path_of<'a>(dataset: &str, capture: &'a str, used: &BTreeMap<&str, &ManifestEntry>) -> &'a str {
    let without = || capture.strip_prefix(dataset)?.strip_prefix('/');
    if used.contains_key(capture) { capture } else { without().unwrap_or(capture) }
}

pub(super) fn manifest(claimed: &Claimed, dataset: &str) -> Option<Manifest> {
    read_manifest(&claimed.folder().join("manifests").join(format!("{dataset}.json"))).ok()
}

/// Returns the flows of every variant of `run.json`; `None` for one whose file cannot be read.
pub(super) fn check_flows(claimed: &Claimed, findings: &mut Vec<Finding>) -> Vec<Option<FeatureSet>> {
    let manifests: Vec<Manifest> =
        claimed.run.datasets.iter().filter_map(|dataset| manifest(claimed, dataset)).collect();
    claimed.run.variants.iter().map(|facts| check_variant(claimed, facts, &manifests, findings)).collect()
}

fn check_variant(
    claimed: &Claimed,
    facts: &VariantFacts,
    manifests: &[Manifest],
    findings: &mut Vec<Finding>,
) -> Option<FeatureSet> {
    let name = format!("flows/{}.csv", facts.name);
    let Some(variant) = claimed.experiment.variants.iter().find(|variant| variant.name == facts.name) else {
        let problem = format!("the experiment has no variant {}", facts.name);
        findings.push(Finding::new("experiment", "run.json", problem));
        return None;
    };
    check_classes(claimed, facts, variant, findings);
    let flows = match read_flows(&claimed.folder().join(&name), &facts.class_names()) {
        Ok(flows) => flows,
        Err(error) => {
            let folder = format!("{}/", claimed.folder().display());
            findings.push(Finding::new("flows", &name, error.to_string().replace(&folder, "")));
            return None;
        }
    };
    check_ids(claimed, &name, &flows, findings);
    check_counts(facts, variant, &name, &flows, findings);
    check_labels(claimed, &variant.selection, &name, &flows, manifests, findings);
    Some(flows)
}

/// Checks that the classes of `run.json` are those that the selection lists, except for classes that were left out.
fn check_classes(claimed: &Claimed, facts: &VariantFacts, variant: &Variant, findings: &mut Vec<Finding>) {
    let mut found = |problem: String| {
        findings.push(Finding::new("classes", "run.json", format!("{}: {problem}", facts.name)));
    };
    let classes = facts.class_names();
    let unknown = &claimed.experiment.evaluation.unknown_classes;
    let small: Vec<&str> = facts.small_classes.iter().map(|small| small.class.as_str()).collect();
    if !small.is_empty() && variant.split.small_classes != Some(SmallClasses::LeaveOut) {
        found(format!(
            "{} is left out as too small, but the experiment does not set small_classes = \"leave_out\"",
            small.join(", ")
        ));
    }
    if let Some(listed) = variant.selection.class_names() {
        let left = |name: &&String| !unknown.contains(name) && !small.contains(&name.as_str());
        let expected: Vec<String> = listed.iter().filter(left).cloned().collect();
        if classes != expected {
            found(format!("the classes are {}, but the experiment lists {}", classes.join(", "), expected.join(", ")));
        }
    } else if !classes.is_sorted() {
        found(format!(
            "the classes are {}; if the experiment lists none, they must be in ascending order",
            classes.join(", ")
        ));
    }
    if classes.iter().collect::<BTreeSet<_>>().len() != classes.len() {
        found("a class is duplicated".to_owned());
    }
}

/// Checks that flows are distinct and that each belongs to a capture of the run, with a number within the capture's
/// flows.
fn check_ids(claimed: &Claimed, name: &str, flows: &FeatureSet, findings: &mut Vec<Finding>) {
    let mut most: HashMap<&str, u64> = HashMap::new();
    for capture in &claimed.run.captures {
        let counts = [capture.flows, capture.unused_flows, capture.unmatched_flows, capture.ambiguous_flows];
        let all = counts.into_iter().fold(0, u64::saturating_add);
        let most = most.entry(&capture.capture).or_default();
        *most = all.max(*most);
    }
    let mut seen = BTreeSet::new();
    let (mut twice, mut unknown, mut beyond) = (Vec::new(), Vec::new(), Vec::new());
    for flow in &flows.provenance {
        let id = flow.flow_id();
        let capture = of_capture(&most, &flow.capture);
        match capture {
            None => unknown.push(id.clone()),
            Some((_, &count)) if u64::from(flow.number) >= count => beyond.push(id.clone()),
            Some(_) => {}
        }
        // Whatever its group, a flow is identified by its capture and number.
        let capture = capture.map_or(flow.capture.as_str(), |(capture, _)| capture);
        if !seen.insert((capture, flow.number, flow.packet)) {
            twice.push(id);
        }
    }
    for (ids, problem) in [
        (twice, "flow(s) are duplicated"),
        (unknown, "flow(s) belong to no capture of run.json"),
        (beyond, "flow(s) have numbers beyond the number of flows of their captures"),
    ] {
        if let Some(first) = ids.first() {
            findings.push(Finding::new("flows", name, format!("{} {problem}, the first {first}", ids.len())));
        }
    }
}

/// Checks the numbers of flows against `run.json`, and that no class has more than the selection allows.
fn check_counts(facts: &VariantFacts, variant: &Variant, name: &str, flows: &FeatureSet, findings: &mut Vec<Finding>) {
    let mut found = |problem: String| findings.push(Finding::new("flows", name, problem));
    if flows.len() != facts.flows {
        found(format!("has {} flows, but {} in run.json", flows.len(), facts.flows));
    }
    let most = variant.selection.maximum_flows_per_class.filter(|_| variant.selection.sample == Sample::Flow);
    for (class, (class_name, stated)) in facts.flows_per_class.iter().enumerate() {
        let count = flows.labels.iter().filter(|&&label| label as usize == class).count();
        if count != *stated {
            found(format!("has {count} flows of class {class_name}, but {stated} in run.json"));
        }
        if let Some(most) = most.filter(|&most| count > most) {
            found(format!("has {count} flows of class {class_name}, but the experiment allows at most {most}"));
        }
    }
}

/// If labels apply to whole captures, checks that each flow has the class of its capture in the manifest.
fn check_labels(
    claimed: &Claimed,
    selection: &Selection,
    name: &str,
    flows: &FeatureSet,
    manifests: &[Manifest],
    findings: &mut Vec<Finding>,
) {
    let columns = selection.label_columns();
    // The class of each capture, without captures whose flows are labelled individually.
    let mut classes: HashMap<&str, Option<String>> = HashMap::new();
    for (manifest, dataset) in manifests.iter().zip(&claimed.run.datasets) {
        for (capture, labels) in used_captures(claimed, dataset, manifest) {
            if columns.iter().all(|column| labels.contains_key(*column)) {
                classes.insert(capture, selection.class_of(&labels));
            }
        }
    }
    let mut wrong = Vec::new();
    for (flow, &label) in flows.provenance.iter().zip(&flows.labels) {
        let Some((_, stated)) = of_capture(&classes, &flow.capture) else { continue };
        let class = &flows.class_names[label as usize];
        if stated.as_ref() != Some(class) {
            let stated = stated.as_deref().unwrap_or("none of the classes");
            wrong.push(format!("{} is {class}, but its capture {stated}", flow.flow_id()));
        }
    }
    if let Some(first) = wrong.first() {
        let problem = format!("{} flow(s) have a class other than in the manifest, the first: {first}", wrong.len());
        findings.push(Finding::new("labels", name, problem));
    }
}

//! Which data a bundle says that it is of, and whether its flows and their classes are of that.

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

/// The manifests are those that `run.json` names, and its captures theirs.
pub(super) fn check_manifests(bundle: &Bundle, claimed: &Claimed, findings: &mut Vec<Finding>) {
    let run = &claimed.run;
    let mut found = |place: &str, problem: String| findings.push(Finding::new("manifests", place, problem));
    for stated in &run.manifests {
        let name = format!("manifests/{}.json", stated.dataset);
        match bundle.files.get(&name) {
            None => found(&name, "is missing, and run.json names it".to_owned()),
            Some(content) if sha256(content) != stated.sha256 => {
                found(&name, "is another one than run.json names by its SHA-256".to_owned());
            }
            Some(_) => {}
        }
    }
    for dataset in &run.datasets {
        let name = format!("manifests/{dataset}.json");
        let Some(manifest) = manifest(claimed, dataset) else {
            found(&name, "is no manifest, or missing".to_owned());
            continue;
        };
        if run.manifests.iter().all(|stated| stated.dataset != *dataset) {
            found("run.json", format!("names no manifest of {dataset}"));
        }
        if manifest.dataset != *dataset {
            found(&name, format!("is of dataset {}", manifest.dataset));
        }
        let used: BTreeMap<&str, &ManifestEntry> =
            manifest.of(EntryState::Used).map(|entry| (entry.path.as_str(), entry)).collect();
        let mut in_run: BTreeSet<&str> = BTreeSet::new();
        for capture in run.captures.iter().filter(|capture| capture.dataset == *dataset) {
            let path = path_of(dataset, &capture.capture, &used);
            in_run.insert(path);
            let told = match used.get(path) {
                None => "is in run.json and not used in the manifest",
                Some(entry) if entry.sha256.as_deref() != Some(&capture.sha256) => {
                    "has another SHA-256 in run.json than in the manifest"
                }
                Some(entry) if entry.packets.is_some_and(|packets| packets != capture.summary.packets) => {
                    "has another number of packets in run.json than in the manifest"
                }
                Some(_) => continue,
            };
            found(&name, format!("{}: {told}", capture.capture));
        }
        for (path, _) in used.iter().filter(|(path, entry)| entry.sha256.is_some() && !in_run.contains(**path)) {
            found(&name, format!("{path}: is used in the manifest and not in run.json"));
        }
    }
    for capture in run.captures.iter().filter(|capture| !run.datasets.contains(&capture.dataset)) {
        found("run.json", format!("{}: is of {}, which the run is not on", capture.capture, capture.dataset));
    }
}

/// Where the project has the definitions of the datasets, captures have the labels that these give.
pub(super) fn check_definitions(
    claimed: &Claimed,
    project: &Path,
    findings: &mut Vec<Finding>,
    notes: &mut Vec<String>,
) {
    for dataset in &claimed.run.datasets {
        let Some(manifest) = manifest(claimed, dataset) else { continue };
        let path = definition_path(project, dataset);
        let definition = is_file_or_stock(&path).then(|| DatasetDefinition::read(&path).ok()).flatten();
        let Some(definition) = definition.filter(|own| own.digest == manifest.definition) else {
            notes.push(format!("its definition of {dataset} is not here: labels are held against its manifest alone"));
            continue;
        };
        for entry in manifest.of(EntryState::Used) {
            let own = definition.capture_labels(&entry.path);
            if own.as_ref() != Ok(&entry.labels) {
                let shown = |labels: &Labels| {
                    labels.iter().map(|(column, value)| format!("{column} = {value}")).collect::<Vec<_>>().join(", ")
                };
                let own = own.map_or_else(|problem| problem, |labels| shown(&labels));
                let problem =
                    format!("{} has {}, and by the dataset's definition {own}", entry.path, shown(&entry.labels));
                findings.push(Finding::new("labels", format!("manifests/{dataset}.json"), problem));
            }
        }
    }
}

/// The path of a capture in its dataset's folder: of several datasets, captures are named with theirs.
fn path_of<'a>(dataset: &str, capture: &'a str, used: &BTreeMap<&str, &ManifestEntry>) -> &'a str {
    let without = || capture.strip_prefix(dataset)?.strip_prefix('/');
    if used.contains_key(capture) { capture } else { without().unwrap_or(capture) }
}

fn manifest(claimed: &Claimed, dataset: &str) -> Option<Manifest> {
    read_manifest(&claimed.folder().join("manifests").join(format!("{dataset}.json"))).ok()
}

/// The flows of every variant of `run.json`; none of one whose file cannot be read.
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
        let problem = format!("variant {} is none of the experiment's", facts.name);
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

/// The classes of `run.json` are those that the selection lists, but for what was left out.
fn check_classes(claimed: &Claimed, facts: &VariantFacts, variant: &Variant, findings: &mut Vec<Finding>) {
    let mut found = |problem: String| {
        findings.push(Finding::new("classes", "run.json", format!("{}: {problem}", facts.name)));
    };
    let own = facts.class_names();
    let unknown = &claimed.experiment.evaluation.unknown_classes;
    let small: Vec<&str> = facts.small_classes.iter().map(|small| small.class.as_str()).collect();
    if !small.is_empty() && variant.split.small_classes != Some(SmallClasses::LeaveOut) {
        found(format!(
            "{} is left out as too small, and the experiment does not say small_classes = \"leave_out\"",
            small.join(", ")
        ));
    }
    if let Some(listed) = variant.selection.class_names() {
        let left = |name: &&String| !unknown.contains(name) && !small.contains(&name.as_str());
        let expected: Vec<String> = listed.iter().filter(left).cloned().collect();
        if own != expected {
            found(format!("the classes are {}, and the experiment lists {}", own.join(", "), expected.join(", ")));
        }
    } else if !own.is_sorted() {
        found(format!(
            "the classes are {}, and those that no experiment lists stand in ascending order",
            own.join(", ")
        ));
    }
    if own.iter().collect::<BTreeSet<_>>().len() != own.len() {
        found("a class is named twice".to_owned());
    }
}

/// No flow twice, and each of a capture of the run and one of its flows.
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
        match most.get(flow.capture.as_str()) {
            None => unknown.push(id.clone()),
            Some(&count) if u64::from(flow.number) >= count => beyond.push(id.clone()),
            Some(_) => {}
        }
        if !seen.insert(id.clone()) {
            twice.push(id);
        }
    }
    for (ids, told) in [
        (twice, "flow(s) are there twice"),
        (unknown, "flow(s) are of no capture of run.json"),
        (beyond, "flow(s) have numbers beyond the flows of their captures"),
    ] {
        if let Some(first) = ids.first() {
            findings.push(Finding::new("flows", name, format!("{} {told}, the first {first}", ids.len())));
        }
    }
}

/// As many flows as `run.json` says, and no more of a class than the selection allows.
fn check_counts(facts: &VariantFacts, variant: &Variant, name: &str, flows: &FeatureSet, findings: &mut Vec<Finding>) {
    let mut found = |problem: String| findings.push(Finding::new("flows", name, problem));
    if flows.len() != facts.flows {
        found(format!("has {} flows, and run.json says {}", flows.len(), facts.flows));
    }
    let most = variant.selection.maximum_flows_per_class.filter(|_| variant.selection.sample == Sample::Flow);
    for (class, (class_name, stated)) in facts.flows_per_class.iter().enumerate() {
        let count = flows.labels.iter().filter(|&&label| label as usize == class).count();
        if count != *stated {
            found(format!("has {count} flows of class {class_name}, and run.json says {stated}"));
        }
        if let Some(most) = most.filter(|&most| count > most) {
            found(format!("has {count} flows of class {class_name}, and the experiment takes {most} at most"));
        }
    }
}

/// Where whole captures have the labels, each flow's class is that of its capture in the manifest.
fn check_labels(
    claimed: &Claimed,
    selection: &Selection,
    name: &str,
    flows: &FeatureSet,
    manifests: &[Manifest],
    findings: &mut Vec<Finding>,
) {
    let columns = selection.label_columns();
    // The class that each capture gives; none of one whose flows are labelled one by one.
    let mut classes: HashMap<&str, Option<String>> = HashMap::new();
    for (manifest, dataset) in manifests.iter().zip(&claimed.run.datasets) {
        let used: BTreeMap<&str, &ManifestEntry> =
            manifest.of(EntryState::Used).map(|entry| (entry.path.as_str(), entry)).collect();
        for capture in claimed.run.captures.iter().filter(|capture| capture.dataset == *dataset) {
            let Some(entry) = used.get(path_of(dataset, &capture.capture, &used)) else { continue };
            if columns.iter().all(|column| entry.labels.contains_key(*column)) {
                classes.insert(&capture.capture, selection.class_of(&entry.labels));
            }
        }
    }
    let mut wrong = Vec::new();
    for (flow, &label) in flows.provenance.iter().zip(&flows.labels) {
        let Some(stated) = classes.get(flow.capture.as_str()) else { continue };
        let own = &flows.class_names[label as usize];
        if stated.as_ref() != Some(own) {
            let stated = stated.as_deref().unwrap_or("none of the classes");
            wrong.push(format!("{} is {own}, and its capture {stated}", flow.flow_id()));
        }
    }
    if let Some(first) = wrong.first() {
        let problem = format!("{} flow(s) have another class than the manifest gives, the first: {first}", wrong.len());
        findings.push(Finding::new("labels", name, problem));
    }
}

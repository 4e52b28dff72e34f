//! Checks which flows the selection keeps. Where labels apply to whole captures and nothing but the number of flows left any
//! out, the flows of every class are known from the captures' counts, and `maximum_flows_per_class` is drawn again.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::check_flows::{manifest, used_captures};
use super::claimed::{Claimed, VariantFacts};
use super::rules::Finding;
use etcbench_dataset::Labels;
use etcbench_experiment::Variant;
use etcbench_feature::{DuplicateFlows, FeatureSet, Sample, drawn_flows};
use etcbench_split::SplitMethod;

/// The seed of the draw: the same for all seeds of a run.
const SEED: u64 = 0;

/// Draws the flows of every variant again where that is possible; a note says where it is not, if flows were drawn.
pub(super) fn check(
    claimed: &Claimed,
    flows: &[Option<FeatureSet>],
    findings: &mut Vec<Finding>,
    notes: &mut Vec<String>,
) {
    for (facts, flows) in claimed.run.variants.iter().zip(flows) {
        let variant = claimed.experiment.variants.iter().find(|variant| variant.name == facts.name);
        let (Some(variant), Some(flows)) = (variant, flows) else { continue };
        match candidates(claimed, facts, variant, flows) {
            Ok(candidates) => check_variant(facts, variant, flows, &candidates, findings),
            Err(reason) if variant.selection.maximum_flows_per_class.is_some() => {
                notes.push(format!(
                    "{}: which flows maximum_flows_per_class keeps is not drawn again, since {reason}",
                    facts.name
                ));
            }
            Err(_) => {}
        }
    }
}

/// Most flows of a class that are drawn again: counts in a bundle can be anything.
const MOST: u64 = 1 << 20;

/// A flow: its capture and number.
type FlowName<'a> = (&'a str, u32);

/// The flows of a class before the draw, in the order in which they were read: captures, with their numbers of flows.
#[derive(Default)]
struct Candidates<'a> {
    captures: Vec<(&'a str, u32)>,
    total: u64,
}

impl<'a> Candidates<'a> {
    /// Returns the flows at ascending places.
    fn at(&self, places: &[usize]) -> Vec<FlowName<'a>> {
        let mut captures = self.captures.iter();
        let (mut first, mut current) = (0, ("", 0));
        let mut flows = Vec::new();
        for &place in places {
            while place >= first + current.1 as usize {
                first += current.1 as usize;
                let Some(next) = captures.next() else { return flows };
                current = *next;
            }
            flows.push((current.0, (place - first) as u32));
        }
        flows
    }
}

/// Returns the flows of every class before the draw, in the order in which they were read, or why they are not known.
fn candidates<'a>(
    claimed: &'a Claimed,
    facts: &VariantFacts,
    variant: &Variant,
    flows: &FeatureSet,
) -> Result<BTreeMap<String, Candidates<'a>>, &'static str> {
    let mut labels: HashMap<(&str, &str), Labels> = HashMap::new();
    for dataset in &claimed.run.datasets {
        let manifest = manifest(claimed, dataset).ok_or("a manifest cannot be read")?;
        for (capture, of_capture) in used_captures(claimed, dataset, &manifest) {
            labels.insert((dataset, capture), of_capture);
        }
    }
    if variant.split.method == SplitMethod::Published {
        return Err("flows in none of the published parts are left out");
    }
    if facts.unselected.too_few_packets > 0 || facts.unselected.without_bytes > 0 {
        return Err("flows were left out for other reasons, too");
    }
    let columns = variant.selection.label_columns();
    let mut names: HashSet<&str> = HashSet::new();
    let mut candidates: BTreeMap<String, Candidates<'a>> = BTreeMap::new();
    for capture in &claimed.run.captures {
        if !names.insert(&capture.capture) {
            return Err("the variants have different flows");
        }
        let of_capture = labels.get(&(capture.dataset.as_str(), capture.capture.as_str()));
        let of_capture = of_capture.filter(|labels| columns.iter().all(|column| labels.contains_key(*column)));
        let of_capture = of_capture.ok_or("labels are of single flows")?;
        if [capture.unused_flows, capture.unmatched_flows, capture.ambiguous_flows] != [0; 3] {
            return Err("labels are of single flows");
        }
        let Some(class) = variant.selection.class_of(of_capture) else { continue };
        let count = u32::try_from(capture.flows).map_err(|_| "a capture has impossibly many flows")?;
        let of_class = candidates.entry(class).or_default();
        of_class.captures.push((&capture.capture, count));
        of_class.total += u64::from(count);
    }
    match flows.provenance.iter().all(|flow| names.contains(flow.capture.as_str())) {
        true => Ok(candidates),
        false => Err("flows belong to parts of captures"),
    }
}

fn check_variant(
    facts: &VariantFacts,
    variant: &Variant,
    flows: &FeatureSet,
    candidates: &BTreeMap<String, Candidates<'_>>,
    findings: &mut Vec<Finding>,
) {
    let selection = &variant.selection;
    let most = selection.maximum_flows_per_class.unwrap_or(usize::MAX);
    // Duplicates are dropped after the draw, and packets without bytes are no samples.
    let all_are_kept = selection.duplicates == DuplicateFlows::Keep && selection.sample == Sample::Flow;
    let place = format!("flows/{}.csv", facts.name);
    let nothing = Candidates::default();
    for (class, name) in flows.class_names.iter().enumerate() {
        let of_class = candidates.get(name).unwrap_or(&nothing);
        let own = flows.provenance.iter().zip(&flows.labels).filter(|(_, label)| **label as usize == class);
        let own: HashSet<FlowName<'_>> = own.map(|(flow, _)| (flow.capture.as_str(), flow.number)).collect();
        let expected = of_class.total.min(most as u64);
        if expected > MOST {
            if all_are_kept && own.len() as u64 != expected {
                let problem = format!("has {} flows of class {name}, but its captures have {expected}", own.len());
                findings.push(Finding::new("flows", &place, problem));
            }
            continue;
        }
        let drawn = of_class.at(&drawn_flows(name, of_class.total as usize, most, SEED));
        let known: HashSet<FlowName<'_>> = drawn.iter().copied().collect();
        let mut others: Vec<&FlowName<'_>> = own.difference(&known).collect();
        others.sort_unstable();
        let missing: Vec<&FlowName<'_>> = drawn.iter().filter(|flow| all_are_kept && !own.contains(*flow)).collect();
        for (flows, problem) in [
            (others, "are not among those that the selection keeps"),
            (missing, "of those that the selection keeps are missing"),
        ] {
            if let Some((capture, number)) = flows.first() {
                let problem =
                    format!("{} flow(s) of class {name} {problem}, the first {capture}#{number}", flows.len());
                findings.push(Finding::new("flows", &place, problem));
            }
        }
    }
}

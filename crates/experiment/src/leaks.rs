//! The leak reports of a run: computed before training, stored as `leaks.json` and, one value per line, as `leaks.csv`.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::flows::{Content, LoadedFlows};
use super::{ExperimentError, Variant, VariantRun};
use etcbench_dataset::HeldTimes;
use etcbench_evaluate::Metric;
use etcbench_feature::FeatureSet;
use etcbench_flow::Flow;
use etcbench_leaks::{AlarmKind, LeakReport, leak_reports};
use etcbench_split::Split;

/// The leak report of one split of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitLeaks {
    /// The variant.
    pub variant: String,
    /// The seed.
    pub seed: u64,
    /// The fold, from 0.
    pub fold: usize,
    /// The findings.
    #[serde(flatten)]
    pub report: LeakReport,
}

/// Reports on the splits of a variant.
pub(super) fn reports(
    variant: &Variant,
    features: &FeatureSet,
    loaded: &LoadedFlows,
    splits: &[&Split],
) -> Result<Vec<LeakReport>, ExperimentError> {
    let from_packets = features.provenance.first().is_some_and(|row| row.packet.is_some());
    let Content::Flows(labelled) = &loaded.content else {
        let mut reports = leak_reports(features, None, splits);
        for LeakReport { shared, .. } in &mut reports {
            // Feature files contain no times, so time overlaps are unknown.
            (shared.concurrent_flows, shared.within_training_time_flows) = (0, 0);
        }
        return Ok(reports);
    };
    if from_packets {
        // For single packets, findings on the fields of flows do not apply.
        return Ok(leak_reports(features, None, splits));
    }
    let flows: HashMap<(&str, u32), &Flow> =
        labelled.iter().map(|flow| ((flow.provenance.capture.as_str(), flow.provenance.number), &flow.flow)).collect();
    let rows: Vec<&Flow> = features
        .provenance
        .iter()
        .map(|flow| {
            flows.get(&(flow.capture.as_str(), flow.number)).copied().ok_or_else(|| ExperimentError::Internal {
                problem: format!("flow {} of the features was not loaded", flow.flow_id()),
            })
        })
        .collect::<Result<_, _>>()?;
    let mut reports = {
        // Flows without bytes have no fields to report on.
        let with_bytes = features.tokens.bytes > 0;
        leak_reports(features, with_bytes.then_some((rows.as_slice(), &variant.feature)), splits)
    };
    if loaded.holds.iter().any(|holds| holds.times != HeldTimes::Absolute) {
        for LeakReport { shared, .. } in &mut reports {
            (shared.concurrent_flows, shared.within_training_time_flows) = (0, 0);
        }
        // Times that were not measured cannot leak anything.
        reports.iter_mut().for_each(|report| report.alarms.retain(|alarm| alarm.kind != AlarmKind::Time));
    }
    Ok(reports)
}

/// Returns the leak reports of all variants, in order.
pub fn split_leaks(variants: &[VariantRun]) -> Vec<SplitLeaks> {
    let of_variant = |variant: &VariantRun| -> Vec<SplitLeaks> {
        let leaks = variant.splits.iter().filter_map(|run| {
            let (variant, report) = (variant.name.clone(), run.leaks.clone()?);
            Some(SplitLeaks { variant, seed: run.seed, fold: run.fold, report })
        });
        leaks.collect()
    };
    variants.iter().flat_map(of_variant).collect()
}

/// Writes the reports as CSV: `variant,seed,fold,finding,subject,packet,class,metric,value`, one value per line.
pub(super) fn to_csv(leaks: &[SplitLeaks]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["variant", "seed", "fold", "finding", "subject", "packet", "class", "metric", "value"])?;
    for leak in leaks {
        let (seed, fold) = (leak.seed.to_string(), leak.fold.to_string());
        let mut line =
            |finding: &str, subject: &str, packet: Option<usize>, class: &str, metric: &str, value: String| {
                let packet = packet.map_or(String::new(), |packet| packet.to_string());
                writer.write_record([&leak.variant, &seed, &fold, finding, subject, &packet, class, metric, &value])
            };
        let report = &leak.report;
        line("split", "", None, "", Metric::TRAINING_FLOWS.key, report.training_flows.to_string())?;
        line("split", "", None, "", Metric::TEST_FLOWS.key, report.test_flows.to_string())?;
        line("split", "", None, "", "majority_macro_f1", report.majority_macro_f1.to_string())?;
        for found in &report.duplicates {
            let subject = &found.features;
            for (metric, count) in [
                (Metric::TEST_FLOWS.key, found.test_flows),
                ("of_another_class", found.of_another_class),
                ("of_other_classes_only", found.of_other_classes_only),
            ] {
                line("duplicates", subject, None, "", metric, count.to_string())?;
            }
            for class in &found.classes {
                line("duplicates", subject, None, &class.class, Metric::TEST_FLOWS.key, class.duplicates.to_string())?;
            }
        }
        for alarm in &report.alarms {
            line("alarm", &alarm.subject, None, "", alarm.kind.name(), alarm.value.to_string())?;
        }
        for ceiling in &report.ceilings {
            let subject = &ceiling.input;
            line("ceiling", subject, None, "", Metric::ACCURACY.key, ceiling.accuracy.to_string())?;
            line("ceiling", subject, None, "", "inputs", ceiling.inputs.to_string())?;
        }
        for (finding, scores) in [("field", &report.fields), ("byte_position", &report.byte_positions)] {
            for score in scores {
                for (metric, value) in [
                    (Metric::MACRO_F1.key, score.macro_f1),
                    ("training_macro_f1", score.training_macro_f1),
                    (Metric::ACCURACY.key, score.accuracy),
                ] {
                    line(finding, &score.field, score.packet, "", metric, value.to_string())?;
                }
                line(finding, &score.field, score.packet, "", "values", score.values.to_string())?;
            }
        }
        let shared = &report.shared;
        for (metric, count) in [
            ("captures", shared.captures),
            ("capture_flows", shared.capture_flows),
            ("hosts", shared.hosts),
            ("host_flows", shared.host_flows),
            ("connection_flows", shared.connection_flows),
            ("concurrent_flows", shared.concurrent_flows),
            ("within_training_time_flows", shared.within_training_time_flows),
        ] {
            line("shared", "", None, "", metric, count.to_string())?;
        }
        for class in &report.classes {
            for (metric, count) in [
                ("flows", class.flows),
                ("captures", class.captures),
                ("captures_of_its_own", class.captures_of_its_own),
                ("tested_captures", class.tested.len()),
            ] {
                line("class", "", None, &class.class, metric, count.to_string())?;
            }
        }
    }
    writer.into_inner().map_err(|problem| std::io::Error::other(problem.to_string()).into())
}

//! The text about a split that others released as arrays: a verdict per check, findings, and what single columns and bytes
//! predict.

use super::cell_text::visible;
use super::leak_verdicts::released_verdicts;
use super::leaks::{alarms, fields_table, input_findings};
use etcbench_leaks::LeakReport;

/// What the rows of a released split are, which determines the checks, and what was found about windows.
pub struct ReleasedRows {
    /// Whether they are bytes; else they are columns of numbers.
    pub are_bytes: bool,
    /// Whether the bytes are those of IPv4 packets.
    pub are_packets: bool,
    /// Length in bytes of the runs that windows of one flow share; `None` if rows are too short for windows.
    pub run_length: Option<usize>,
    /// The share of the test rows that are windows of training rows, if it is beyond chance.
    pub windows: Option<f64>,
}

/// Renders the report as Markdown.
pub fn released_text(report: &LeakReport, rows: &ReleasedRows) -> String {
    let mut findings = input_findings(&[report], "row");
    findings.extend(alarms(&[report]));
    if let (Some(share), Some(run)) = (rows.windows, rows.run_length) {
        findings.push(format!(
            "ALARM: {:.1} % of the test rows, duplicates excluded, share half of their runs of {run} bytes with training \
             rows: windows of the same flows, or flows that differ little",
            100.0 * share
        ));
    }
    let mut text = format!(
        "{} training and {} test rows. Shares are of test rows.\n\n{}\n",
        report.training_flows,
        report.test_flows,
        released_verdicts(report, rows).to_markdown()
    );
    for finding in findings {
        text += &format!("- {finding}\n");
    }
    let fields = fields_table("what one field alone predicts".to_owned(), &[report], "");
    visible(&(text + "\n" + fields.to_markdown().trim_end()))
}

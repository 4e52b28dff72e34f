//! `etcbench audit`: checks published tables for impossible arithmetic.

use std::path::{Path, PathBuf};

use clap::Args;

use super::output::JsonOption;
use super::{Verdict, output};
use crate::report::{self, AuditTable, Possible};
use crate::runs::published_folder;

/// `etcbench audit`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench audit                                 the tables of the paper, in paper/published
  etcbench audit paper/published/table3.csv
  etcbench audit mine.csv

A table is a CSV file with the columns row, metric and value, one number per line, as printed:
  row,metric,value
  chat,precision,0.956
  chat,recall,0.892
  mymodel,accuracy,0.942
  table,classes,5                                the number of classes, if not all are printed

Metrics of a class: precision, recall, f1, support; of a model: accuracy, macro_precision, macro_recall, macro_f1,
and the same with weighted_ and micro_. Exit code 1 if something is impossible.")]
pub(super) struct AuditArguments {
    /// Tables; all of paper/published by default.
    files: Vec<PathBuf>,
    #[command(flatten)]
    json: JsonOption,
}

/// Prints what is impossible in each table.
pub(super) fn audit(project: &Path, arguments: &AuditArguments) -> anyhow::Result<Verdict> {
    let as_json = arguments.json.is_asked();
    let mut tables = Vec::new();
    let mut files = arguments.files.clone();
    if files.is_empty() {
        files = published(project);
        if files.is_empty() {
            anyhow::bail!("{}: contains no tables; name one", published_folder(project).display());
        }
    }
    let mut impossible = false;
    for path in &files {
        let findings =
            AuditTable::read(path)?.audit().map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        impossible |= findings.iter().any(|finding| finding.possible == Possible::No);
        let table = report::audit_table(&path.display().to_string(), &findings);
        if as_json {
            tables.push(table.to_json());
        } else {
            say!("{}", output::table(&table));
        }
    }
    if as_json {
        output::json(&serde_json::json!({"impossible": impossible, "tables": tables}));
    }
    Ok(if impossible { Verdict::CheckFailed } else { Verdict::Done })
}

/// Returns the published tables, by name.
pub(super) fn published(project: &Path) -> Vec<PathBuf> {
    let folder = published_folder(project);
    let names = crate::storage::names_with_stock(&folder);
    names.iter().filter(|name| name.ends_with(".csv")).map(|name| folder.join(name)).collect()
}

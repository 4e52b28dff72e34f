//! `etcbench check`: the last run against its stored tolerances.

use std::path::Path;

use anyhow::Context;
use clap::Args;

use super::run::Target;
use super::{Verdict, read_results};
use crate::report::{self, ToleranceFile};
use crate::storage;

/// `etcbench check`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench check table2
  etcbench check table2 --data synth --size ci
  etcbench check table2 --bless            store the last run as the new expectation")]
pub struct CheckArguments {
    #[command(flatten)]
    target: Target,
    /// Store the last run's accuracy and macro F1 as the new expectations.
    #[arg(long)]
    bless: bool,
}

/// Prints what is out of tolerance; blesses when asked to.
pub fn check(project: &Path, arguments: &CheckArguments) -> anyhow::Result<Verdict> {
    let (experiment, _, records) = read_results(project, &arguments.target)?;
    let folder = project.join("results/tolerances");
    let dataset = experiment.datasets.join("+");
    let path = ToleranceFile::path(&folder, &experiment.name, &dataset, &experiment.size);
    if arguments.bless {
        let proposed = report::bless(&records)?.to_toml()?;
        storage::write_whole(&path, proposed.as_bytes()).with_context(|| path.display().to_string())?;
        say!("{} now expects what the last run gave; look at the difference before you commit it", path.display());
        return Ok(Verdict::Done);
    }
    if !path.is_file() {
        anyhow::bail!(
            "{}: there are no tolerances for {} on {dataset} at size {}; --bless stores the last run as the expectation",
            path.display(),
            experiment.name,
            experiment.size
        );
    }
    let verdicts = report::check(&records, &ToleranceFile::read(&path)?)?;
    say!("{}", report::verdict_table(&verdicts).to_markdown());
    let out = verdicts.iter().any(|verdict| !verdict.within);
    Ok(if out { Verdict::CheckFailed } else { Verdict::Done })
}

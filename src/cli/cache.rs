//! `etcbench cache`: shows the size of the cache, prunes it, and checks it for damage.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::{Args, Subcommand};
use rayon::prelude::*;

use super::{Verdict, output, progress, run};
use crate::experiment::{Cache, CacheEntry, PruneLimits};
use crate::storage::counted;

/// `etcbench cache`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench cache                                            its location, and its size by stage
  etcbench cache prune --older-than 30d --dry-run           what would be removed
  etcbench cache prune --older-than 30d --max-size 10G
  etcbench cache verify
  etcbench cache verify --remove

Removed entries are recomputed when a run needs them; no result changes. Files that etcbench did not write stay.")]
pub(super) struct CacheArguments {
    #[command(subcommand)]
    command: Option<CacheCommand>,
}

#[derive(Subcommand)]
enum CacheCommand {
    /// Remove entries that have not been used for a long time, or the least recently used until the rest is small
    /// enough.
    Prune(PruneArguments),
    /// Read every entry and list the damaged ones; exit code 1 if there are any.
    Verify(VerifyArguments),
}

#[derive(Args)]
#[command(after_help = "Examples:
  etcbench cache prune --older-than 30d --dry-run
  etcbench cache prune --older-than 30d --max-size 10G

While a run is active, what it is computing stays, and so does what was used within a day.")]
struct PruneArguments {
    /// Remove entries that no run has used for this long: hours, days or weeks, such as 12h, 30d or 8w.
    #[arg(long, value_name = "TIME", value_parser = parse_time, required_unless_present = "max_size")]
    older_than: Option<Duration>,
    /// Remove the least recently used entries until the rest is no larger than this, such as 500M or 10G.
    #[arg(long, value_name = "SIZE", value_parser = run::parse_size)]
    max_size: Option<u64>,
    /// Show what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
struct VerifyArguments {
    /// Remove the damaged entries.
    #[arg(long)]
    remove: bool,
}

/// Parses a number of hours, days or weeks.
fn parse_time(text: &str) -> Result<Duration, String> {
    const HOUR: u64 = 60 * 60;
    let problem = || format!("`{text}` is not a time such as 12h, 30d or 8w");
    let (count, hours) = [('h', 1), ('d', 24), ('w', 7 * 24)]
        .into_iter()
        .find_map(|(unit, hours)| Some((text.strip_suffix(unit)?, hours)))
        .ok_or_else(problem)?;
    let count: u64 = count.parse().map_err(|_| problem())?;
    count.checked_mul(hours * HOUR).map(Duration::from_secs).ok_or_else(problem)
}

/// Runs `etcbench cache`.
pub(super) fn cache(project: &Path, arguments: &CacheArguments) -> anyhow::Result<Verdict> {
    let cache = run::cache(project);
    let folder = cache.folder().unwrap_or(project).display().to_string();
    match &arguments.command {
        None => show(&cache, &folder),
        Some(CacheCommand::Prune(arguments)) => prune(&cache, &folder, arguments),
        Some(CacheCommand::Verify(arguments)) => verify(&cache, &folder, arguments),
    }
}

fn show(cache: &Cache, folder: &str) -> anyhow::Result<Verdict> {
    let contents = cache.contents().with_context(|| folder.to_owned())?;
    let total: u64 = contents.entries.iter().map(|entry| entry.bytes).sum();
    say!("{folder}: {}, {}", entries(contents.entries.len()), size(total));
    let mut stages: BTreeMap<&str, Vec<&CacheEntry>> = BTreeMap::new();
    for entry in &contents.entries {
        stages.entry(&entry.stage).or_default().push(entry);
    }
    if !stages.is_empty() {
        say!("  {:<12}{:>10}{:>12}  oldest use", "stage", "entries", "size");
    }
    for (stage, of) in stages {
        let bytes = of.iter().map(|entry| entry.bytes).sum();
        let oldest = of.iter().map(|entry| entry.used).min().unwrap_or_else(SystemTime::now);
        say!("  {stage:<12}{:>10}{:>12}  {}", of.len(), size(bytes), age(oldest));
    }
    if contents.other_files > 0 {
        let (files, bytes) = (counted(contents.other_files, "other file"), size(contents.other_bytes));
        say!("  {files}, {bytes}: unfinished or not written by etcbench, and left alone");
    }
    Ok(Verdict::Done)
}

fn prune(cache: &Cache, folder: &str, arguments: &PruneArguments) -> anyhow::Result<Verdict> {
    let limits = PruneLimits { older_than: arguments.older_than, most_bytes: arguments.max_size };
    let pruned = cache.prune(limits, arguments.dry_run).with_context(|| folder.to_owned())?;
    for entry in pruned.removed.iter().filter(|_| arguments.dry_run) {
        say!("{}, {}, {}", entry.name(), size(entry.bytes), age(entry.used));
    }
    let bytes = pruned.removed.iter().map(|entry| entry.bytes).sum();
    let what = if arguments.dry_run { "would remove" } else { "removed" };
    say!("{folder}: {what} {}, {}; {} left", entries(pruned.removed.len()), size(bytes), size(pruned.left_bytes));
    if pruned.in_use > 0 {
        say!(
            "{} stay because a run is active; repeat the command when it has finished",
            entries(pruned.in_use as usize)
        );
    }
    Ok(Verdict::Done)
}

fn verify(cache: &Cache, folder: &str, arguments: &VerifyArguments) -> anyhow::Result<Verdict> {
    let contents = cache.contents().with_context(|| folder.to_owned())?;
    let progress = progress::for_standard_error();
    progress.begin("reading the cache", contents.entries.len() as u64);
    let is_damaged = |entry: &&CacheEntry| {
        let whole = cache.is_whole(entry);
        progress.advance(1);
        // An entry that was pruned in the meantime is not damaged.
        !whole && entry.exists()
    };
    let damaged: Vec<&CacheEntry> = contents.entries.par_iter().filter(is_damaged).collect();
    progress.end();
    for entry in &damaged {
        let removed = arguments.remove && cache.remove(entry).with_context(|| entry.name())?;
        say!("damaged {}, {}{}", entry.name(), size(entry.bytes), if removed { ", removed" } else { "" });
    }
    say!("{folder}: {}, {} damaged", entries(contents.entries.len()), damaged.len());
    if !damaged.is_empty() && !arguments.remove {
        say!("runs recompute damaged entries; remove them with `etcbench cache verify --remove`");
    }
    Ok(if damaged.is_empty() { Verdict::Done } else { Verdict::CheckFailed })
}

fn entries(count: usize) -> String {
    output::count(count, "entry")
}

/// Formats a number of bytes in the units that `--max-size` accepts.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

fn age(used: SystemTime) -> String {
    let hours = SystemTime::now().duration_since(used).unwrap_or_default().as_secs() / 3600;
    match (hours / 24, hours) {
        (0, 0) => "less than an hour".to_owned(),
        (0, 1) => "1 hour".to_owned(),
        (0, hours) => format!("{hours} hours"),
        (1, _) => "1 day".to_owned(),
        (days, _) => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_and_written() {
        assert_eq!(parse_time("12h"), Ok(Duration::from_secs(12 * 3600)));
        assert_eq!(parse_time("30d"), Ok(Duration::from_secs(30 * 24 * 3600)));
        assert_eq!(parse_time("2w"), Ok(Duration::from_secs(14 * 24 * 3600)));
        for bad in ["", "d", "30", "-1d", "1.5d", "30days", "30dd", "99999999999999999999w", "9999999999999999999w"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
        assert_eq!([size(1023), size(1536), size(10 << 30)], ["1023 B", "1.5 KiB", "10.0 GiB"]);
    }
}

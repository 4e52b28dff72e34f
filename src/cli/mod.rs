//! The command line: arguments, progress bars and exit codes; one file per subcommand.

/// Like `println!`, but exits quietly if the reader of standard output is gone (`etcbench ... | head`). If standard
/// output is the file that a subcommand writes, or is reserved for JSON, prints to standard error instead.
macro_rules! say {
    ($($argument:tt)*) => {
        if $crate::cli::output::is_standard_output() {
            tell!($($argument)*)
        } else {
            $crate::cli::write_line(&mut std::io::stdout().lock(), &$crate::cli::output::shown(format!($($argument)*)))
        }
    };
}

/// Like `eprintln!`, unless `--quiet` is set.
macro_rules! tell {
    ($($argument:tt)*) => {
        if $crate::cli::output::verbosity() > $crate::cli::output::Verbosity::Quiet {
            complain!($($argument)*)
        }
    };
}

/// Like `eprintln!`, for errors; a closed standard error never stops the work.
macro_rules! complain {
    ($($argument:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr().lock(), "{}", $crate::cli::output::shown(format!($($argument)*)));
    }};
}

mod appendix;
mod audit;
mod audit_data;
mod cache;
mod check;
mod classify;
mod compare;
mod completions;
mod data;
mod data_files;
mod data_verify;
mod dry_run;
mod explain;
mod export;
mod features;
mod features_output;
mod gpu_check;
mod hand_over;
mod init;
mod interrupt;
mod invocation;
mod ladder;
mod leaderboard;
mod leaks;
mod list;
mod live;
mod model;
mod output;
mod pretrain;
mod progress;
mod report;
mod run;
mod run_summary;
mod split;
mod split_flows;
mod submission;
mod sweep;
mod tables;
mod units;
mod verify_models;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::experiment::{self, LADDER, LadderOverrides, Overrides, Record};
use crate::model::ModelKind;
use crate::project::experiment_file;
use crate::runs::find_run;

/// A reproducible benchmark harness for encrypted-traffic classification.
#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES, max_term_width = 110)]
struct Arguments {
    /// Project folder; by default, the nearest folder from here upwards with `data` and experiment files.
    #[arg(long, global = true, value_name = "FOLDER")]
    project: Option<PathBuf>,
    /// Threads to use; results do not depend on it.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print errors only; the output of a subcommand is still printed, except the tables of a run.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Show what is computed, what comes from the cache, and where time goes.
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  etcbench reproduce all --data synth --size demo     the five tables on generated captures
  etcbench reproduce table2                           table 2 on ISCXVPN2016, once its captures are in data/
  etcbench run experiments/ablation-n.toml            any experiment file
  etcbench check table2                               the last run against its stored tolerances
  etcbench report                                     all stored runs as one page, with figures and tables for a paper
  etcbench compare table2-synth-ci table2-synth-demo  what changed between two runs
  etcbench classify MODEL new.pcap                    a trained model on any capture
  etcbench features capture.pcap -o flows.parquet     the flows of any capture as a table

Exit codes: 0 done, 1 a check failed, 2 bad input, 3 internal error; 130, 143 or 129 when interrupted (Ctrl-C, SIGTERM,
SIGHUP). Repeating the command resumes the work.";

#[derive(Subcommand)]
enum Command {
    /// Create a project folder of your own.
    Init(init::InitArguments),
    /// Run an experiment file and write its records and tables.
    Run(run::RunArguments),
    /// Run one of the paper's tables (table1 to table5, or all) and print it next to the published numbers.
    Reproduce(run::ReproduceArguments),
    /// Evaluate the same flows and models on one split after another, from random packets to whole captures, hosts and
    /// other datasets, to show how much of a score each step costs.
    Ladder(ladder::LadderArguments),
    /// Compare the last run of an experiment with its stored tolerances; exit code 1 if a value is out of tolerance.
    Check(check::CheckArguments),
    /// Show what changed between two runs: experiment, data, program and machine, results and times; exit code 1 if a
    /// result differs.
    Compare(compare::CompareArguments),
    /// Rank the models of several runs: mean ranks, Friedman's test, critical difference.
    Rank(compare::RankArguments),
    /// List the available experiments, datasets, runs and models.
    List(list::ListArguments),
    /// Check published tables for impossible arithmetic; exit code 1 if something is impossible.
    Audit(audit::AuditArguments),
    /// Check a released split (arrays, words or images) for leaks: duplicates, windows of the same flows, labels predicted by one
    /// column; exit code 1 if something leaks beyond chance.
    AuditData(audit_data::AuditDataArguments),
    /// Rebuild the tables of a stored run from its records, without training.
    Tables(tables::TablesArguments),
    /// Show the progress of a run in units (`--jobs`, `--slurm`).
    #[command(subcommand)]
    Sweep(sweep::SweepCommand),
    /// Write all stored runs as one HTML page, and their tables and figures for a paper.
    Report(report::ReportArguments),
    /// Run the fast and the reference implementation of every model on the same flows and compare them.
    VerifyModels(verify_models::VerifyModelsArguments),
    /// Pre-train a model on captures, without labels, and write it to a file for use in experiments.
    Pretrain(pretrain::PretrainArguments),
    /// Write the flows of captures or of an experiment as a table, with statistics and first bytes.
    Features(features::FeaturesArguments),
    /// Write each flow of captures as a capture file of its own, as SplitCap does.
    SplitFlows(split_flows::SplitFlowsArguments),
    /// Classify the flows of any captures with a trained model: class and probability of each flow, and a summary.
    Classify(classify::ClassifyArguments),
    /// Write how an experiment splits its flows as a CSV file, which can also be read back.
    Split(split::SplitArguments),
    /// Write the inputs of models (arrays, labels, splits) for notebooks.
    Export(export::ExportArguments),
    /// Score predictions that were made elsewhere, on the splits of an experiment.
    Import(export::ImportArguments),
    /// Pack a run as one file that others can check, and check such files.
    #[command(subcommand)]
    Submission(submission::SubmissionCommand),
    /// Write a page of checked bundles: entries ranked with intervals, costs, models, history.
    Leaderboard(leaderboard::LeaderboardArguments),
    /// Write the reproducibility appendix of a run, as requested by artifact reviewers.
    Appendix(appendix::AppendixArguments),
    /// Check models in other languages (models/) before trusting them.
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// List datasets, fetch, unpack and verify captures, check labels and leaks, and generate data.
    #[command(subcommand)]
    Data(data::DataCommand),
    /// Show the size of the cache by stage, prune old or excess entries, or check it for damage.
    Cache(cache::CacheArguments),
    /// Explain a key of an experiment: its meaning, default and possible values.
    Explain(explain::ExplainArguments),
    /// Print shell completions.
    Completions(completions::CompletionsArguments),
    /// Write the manual pages, one per subcommand.
    Man(completions::ManArguments),
    /// Check a CUDA device against the CPU, and time it; see scripts/gpu-check.
    #[command(hide = true)]
    GpuCheck(gpu_check::GpuCheckArguments),
}

/// Returns every example in the help of every subcommand: one shell command per line, some followed by a remark.
pub fn examples() -> Vec<String> {
    let mut pending = vec![Arguments::command()];
    let mut examples = Vec::new();
    while let Some(command) = pending.pop() {
        pending.extend(command.get_subcommands().cloned());
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = help.lines().map(str::trim);
        let is_example = |line: &&str| line.starts_with("etcbench ") || line.contains("| etcbench ");
        examples.extend(lines.filter(is_example).map(str::to_owned));
    }
    examples
}

/// Returns the help of `--models`, with the names of the models.
fn models_help() -> String {
    let names: Vec<&str> = ModelKind::all().map(ModelKind::name).collect();
    format!("Only these models, of {}, or of the folders in models/", names.join(", "))
}

/// Replaces `{MODEL}`, `{OTHER}` and, for the model with an ELMo, `{ELMO}` in a help text with names of models.
fn with_models(text: &str) -> String {
    let mut names = ModelKind::all().map(ModelKind::name);
    let (model, other) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
    text.replace("{MODEL}", model).replace("{OTHER}", other).replace("{ELMO}", ModelKind::proposed().name())
}

/// Files refer to flows by 32-bit numbers.
const TOO_MANY_FLOWS: &str = "more than 4,294,967,295 flows in one capture; split it, for example by time";

/// How a subcommand ended, other than with an error.
enum Verdict {
    Done,
    CheckFailed,
}

fn write_line(output: &mut dyn std::io::Write, text: &str) {
    let written = writeln!(output, "{text}").and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            complain!("etcbench: standard output: {error}");
            std::process::exit(3);
        }
        Ok(()) => {}
    }
}

/// Marks errors caused by this program or the machine rather than by the input.
#[derive(Debug)]
struct Internal;

impl std::fmt::Display for Internal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("internal error")
    }
}

/// Runs the command line and returns the process's exit code.
pub fn main() -> ExitCode {
    ExitCode::from(main_with(std::env::args_os()))
}

/// Same as [`main`], with the given arguments; the first is the program's name. May exit the process itself: after
/// `--help`, invalid arguments or a signal.
pub fn main_with(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> u8 {
    let arguments: Vec<std::ffi::OsString> = arguments.into_iter().collect();
    invocation::note(&arguments);
    let arguments = Arguments::parse_from(arguments);
    output::set_verbosity(match (arguments.quiet, arguments.verbose) {
        (true, _) => output::Verbosity::Quiet,
        (false, true) => output::Verbosity::Verbose,
        (false, false) => output::Verbosity::Normal,
    });
    interrupt::listen();
    exit_code(|| dispatch(arguments))
}

/// Returns the exit code of some work, after printing its error. A panic, which is a bug in this program, has already
/// printed its location.
fn exit_code(work: impl FnOnce() -> anyhow::Result<Verdict>) -> u8 {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(Ok(Verdict::Done)) => 0,
        Ok(Ok(Verdict::CheckFailed)) => 1,
        // `etcbench ... -o - | head`
        Ok(Err(_)) if crate::storage::standard_output_is_closed() => 0,
        Ok(Err(error)) => {
            complain!("etcbench: {}", in_lines(&error));
            if error.downcast_ref::<Internal>().is_some() { 3 } else { 2 }
        }
        Err(_) => 3,
    }
}

/// Starts a line of advice in a message.
const ADVICE: &str = "\n  ";

/// Formats an error and its causes on one line, followed by its lines of advice, if any. Many messages already contain
/// the text of their cause; nothing is printed twice.
pub fn in_lines(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for message in error.chain().map(|cause| cause.to_string()) {
        if !text.contains(&message) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&message);
        }
    }
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.split(ADVICE).map(line).collect::<Vec<_>>().join(ADVICE)
}

/// Finds the folder of the run that a subcommand is about: a run given by name or folder, or the last run of an
/// experiment.
fn find_results(project: &Path, target: &run::Target) -> anyhow::Result<PathBuf> {
    let run::Target { experiment: name, data, size } = target;
    let results = experiment::results_folder(project);
    let run = find_run(&results, Path::new(name));
    if let (Ok(folder), true, None) = (&run, data.is_empty(), size) {
        return Ok(folder.clone());
    }
    // The ladder of an experiment has its own name but uses the experiment's file.
    let file = |name: &str| experiment_file(project, Path::new(name));
    let of_ladder = name.strip_suffix(LADDER).filter(|_| file(name).is_err());
    let path = file(of_ladder.unwrap_or(name)).map_err(|_| {
        let mut known = crate::project::experiment_names(project);
        known.extend(crate::runs::run_names(&results).unwrap_or_default());
        let nearest = crate::declarative::did_you_mean(name, known.iter().map(String::as_str));
        anyhow::anyhow!("{name}: no such experiment or run{nearest} (see `etcbench list`)")
    })?;
    let ladder = of_ladder.map(|_| LadderOverrides::default());
    let overrides = Overrides { data: data.clone(), size: size.clone(), ladder, ..Overrides::default() };
    let experiment = experiment::read_experiment(&path, &overrides)?;
    Ok(results.join(experiment::results_name(&experiment, false)))
}

/// Reads the records of the run in a folder.
fn records(folder: &Path) -> anyhow::Result<Vec<Record>> {
    let path = folder.join("records.jsonl");
    if !path.is_file() {
        anyhow::bail!("{}: not found; run the experiment first", path.display());
    }
    Ok(crate::report::read_records(&path)?)
}

/// Starts the threads, as many as there are processors if 0: started on first use, a failure would be a panic.
fn start_threads(threads: usize) -> anyhow::Result<()> {
    let Err(error) = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global() else { return Ok(()) };
    // The other error is that they run already, which is fine unless another number is wanted.
    if threads == 0 && std::error::Error::source(&error).is_none() {
        return Ok(());
    }
    let advice = "cannot start the threads; raise the limit of processes (`ulimit -u`), or use fewer with --threads";
    Err(anyhow::Error::new(error).context(advice).context(Internal))
}

fn dispatch(arguments: Arguments) -> anyhow::Result<Verdict> {
    start_threads(arguments.threads.map_or(0, usize::from))?;
    let project = crate::project::open(arguments.project);
    match arguments.command {
        Command::Init(arguments) => init::init(&arguments),
        Command::Run(arguments) => run::run(&project, &arguments),
        Command::Reproduce(arguments) => run::reproduce(&project, &arguments),
        Command::Ladder(arguments) => ladder::ladder(&project, &arguments),
        Command::Check(arguments) => check::check(&project, &arguments),
        Command::Compare(arguments) => compare::compare(&project, &arguments),
        Command::Rank(arguments) => compare::rank(&project, &arguments),
        Command::List(arguments) => list::list(&project, &arguments),
        Command::Audit(arguments) => audit::audit(&project, &arguments),
        Command::AuditData(arguments) => audit_data::audit_data(&arguments),
        Command::Tables(arguments) => tables::tables(&project, &arguments),
        Command::Sweep(command) => sweep::sweep(&project, &command),
        Command::Report(arguments) => report::report(&project, &arguments),
        Command::VerifyModels(arguments) => verify_models::verify_models(&project, &arguments),
        Command::GpuCheck(arguments) => gpu_check::gpu_check(&arguments),
        Command::Pretrain(arguments) => pretrain::pretrain(&project, &arguments),
        Command::Features(arguments) => features::features(&project, &arguments),
        Command::SplitFlows(arguments) => split_flows::split_flows(&arguments),
        Command::Classify(arguments) => classify::classify(&arguments),
        Command::Split(arguments) => split::split(&project, &arguments),
        Command::Export(arguments) => export::export(&project, &arguments),
        Command::Import(arguments) => export::import(&project, &arguments),
        Command::Submission(command) => submission::submission(&project, &command),
        Command::Leaderboard(arguments) => leaderboard::write(&project, &arguments),
        Command::Appendix(arguments) => appendix::appendix(&project, &arguments),
        Command::Model(command) => model::model(&project, &command),
        Command::Data(command) => data::data(&project, &command),
        Command::Cache(arguments) => cache::cache(&project, &arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Completions(arguments) => completions::completions(&arguments),
        Command::Man(arguments) => completions::man(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_its_exit_code() {
        assert_eq!(exit_code(|| Ok(Verdict::Done)), 0);
        assert_eq!(exit_code(|| Ok(Verdict::CheckFailed)), 1);
        assert_eq!(exit_code(|| Err(anyhow::anyhow!("no such file"))), 2);
        assert_eq!(exit_code(|| Err(anyhow::anyhow!("no such thread").context(Internal))), 3);
        assert_eq!(exit_code(|| panic!("a mistake of the program, as this test wants it")), 3);
    }

    /// Splits an example's line into words, up to its remark, a pipe or a redirection.
    fn words(line: &str) -> Vec<String> {
        let example = line.split_once("   ").map_or(line, |(example, _)| example);
        let example = example.split(" | ").find(|part| part.starts_with("etcbench ")).unwrap_or(example);
        let example = example.split_once(" > ").map_or(example, |(example, _)| example).trim_end();
        // A remark may follow a long example after two spaces.
        let example = example.split_once("  ").map_or(example, |(example, _)| example);
        let mut words = vec![String::new()];
        let mut quoted = false;
        for letter in example.chars() {
            match letter {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                letter => words.last_mut().unwrap().push(letter),
            }
        }
        words
    }

    #[test]
    fn every_example_of_the_help_is_a_command_that_there_is() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut tried = 0;
        for line in examples() {
            // A shell expands this name to several.
            let several = |word: String| match word.contains('?') {
                true => vec![word.replace('?', "1"), word.replace('?', "2")],
                false => vec![word],
            };
            let words: Vec<String> = words(&line).into_iter().flat_map(several).collect();
            let arguments = Arguments::try_parse_from(&words);
            let arguments = arguments.unwrap_or_else(|error| panic!("{line}: {words:?}: {error}"));
            if let Command::Run(run) = &arguments.command {
                experiment_file(project, run.experiment()).unwrap_or_else(|error| panic!("{line}: {error}"));
            }
            tried += 1;
        }
        assert!(tried > 80, "{tried}");
    }
}

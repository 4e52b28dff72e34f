//! The command line: arguments, progress bars and exit codes; one file per subcommand.

/// As `println!`, but a reader that went away (`etcbench ... | head`) ends the program quietly, and where standard output
/// is the file that a subcommand writes, or has JSON alone, the line goes to standard error.
macro_rules! say {
    ($($argument:tt)*) => {
        if $crate::cli::output::is_standard_output() {
            tell!($($argument)*)
        } else {
            $crate::cli::write_line(&mut std::io::stdout().lock(), &$crate::cli::output::shown(format!($($argument)*)))
        }
    };
}

/// As `eprintln!`, unless with `--quiet`.
macro_rules! tell {
    ($($argument:tt)*) => {
        if $crate::cli::output::verbosity() > $crate::cli::output::Verbosity::Quiet {
            complain!($($argument)*)
        }
    };
}

/// As `eprintln!`, for errors, but a closed standard error never stops the work.
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
mod gpu_check;
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
mod submission;
mod sweep;
mod tables;
mod units;
mod verify_models;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::experiment::{self, LADDER, LadderOverrides, Overrides, Record};
use crate::model::{ModelKind, elmo};
use crate::project::experiment_file;
use crate::runs::find_run;

/// Tables of encrypted-traffic classification, rebuilt from captures.
#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES, max_term_width = 110)]
struct Arguments {
    /// The project's folder; the nearest one with `data` and experiment files, from here upwards, when not given.
    #[arg(long, global = true, value_name = "FOLDER")]
    project: Option<PathBuf>,
    /// Threads to use; results do not depend on it.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Tell errors alone; what a subcommand prints for its reader is still printed, but for a run's tables.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Tell what is computed, what comes from the cache, and where time goes.
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
  etcbench features capture.pcap -o flows.parquet     flows of any capture as a table

Exit codes: 0 done, 1 a check failed, 2 bad input, 3 internal error; 130, 143 or 129 when interrupted (Ctrl-C, SIGTERM,
SIGHUP). The same command goes on where it was.";

#[derive(Subcommand)]
enum Command {
    /// Make the folder of a project of your own.
    Init(init::InitArguments),
    /// Run an experiment file and write its records and tables.
    Run(run::RunArguments),
    /// Run one of the paper's tables (table1 to table5, or all) and print it beside the published numbers.
    Reproduce(run::ReproduceArguments),
    /// The same flows and models from packets at random to whole captures, hosts and other datasets: which step takes what
    /// of a score.
    Ladder(ladder::LadderArguments),
    /// Compare the last run of an experiment with its stored tolerances; exit code 1 when something is out.
    Check(check::CheckArguments),
    /// What changed between two runs: experiment, data, program and machine, results and times; exit code 1 when a result
    /// differs.
    Compare(compare::CompareArguments),
    /// Rank the models of several runs: mean ranks, Friedman's test, critical difference.
    Rank(compare::RankArguments),
    /// The experiments, datasets, runs and models there are.
    List(list::ListArguments),
    /// Check published tables for arithmetic that cannot be; exit code 1 when something is impossible.
    Audit(audit::AuditArguments),
    /// What a split that others released as arrays gives away: duplicates, windows, labels told by one column; exit code 1
    /// when something is a leak beyond chance.
    AuditData(audit_data::AuditDataArguments),
    /// Make the tables of a stored run again from its records, without training.
    Tables(tables::TablesArguments),
    /// How far a run in units (`--jobs`, `--slurm`) is.
    #[command(subcommand)]
    Sweep(sweep::SweepCommand),
    /// Write all stored runs as one HTML page, and their tables and figures for a paper.
    Report(report::ReportArguments),
    /// Run the fast and the reference implementation of every model on the same flows and hold them together.
    VerifyModels(verify_models::VerifyModelsArguments),
    /// Pre-train an ELMo on captures, without labels, and write it as a file that experiments can take.
    Pretrain(pretrain::PretrainArguments),
    /// Write the flows of captures or of an experiment, with statistics and first bytes, as a table.
    Features(features::FeaturesArguments),
    /// Ask a trained model about the flows of any captures: class and probability of each, and a summary.
    Classify(classify::ClassifyArguments),
    /// Write how an experiment divides its flows as a CSV file that others can read, or read back.
    Split(split::SplitArguments),
    /// Write what models get (arrays, labels, splits) for notebooks.
    Export(export::ExportArguments),
    /// Score predictions that were made elsewhere, on the splits of an experiment.
    Import(export::ImportArguments),
    /// A run as one file that others can check, and the check of such files.
    #[command(subcommand)]
    Submission(submission::SubmissionCommand),
    /// Write a page of checked bundles: entries ranked with intervals, costs, models, history.
    Leaderboard(leaderboard::LeaderboardArguments),
    /// Write the reproducibility appendix of a run, as reviewers of artifacts ask for it.
    Appendix(appendix::AppendixArguments),
    /// Models in other languages (models/), checked before they are trusted.
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// What datasets there are, whether their captures are here, and generated data.
    #[command(subcommand)]
    Data(data::DataCommand),
    /// How large the cache is, by stage; remove what is old or too much, or check it for damage.
    Cache(cache::CacheArguments),
    /// What a key of an experiment means, its default and the values that it takes.
    Explain(explain::ExplainArguments),
    /// Print the completions of a shell.
    Completions(completions::CompletionsArguments),
    /// Write the manual pages, one per subcommand.
    Man(completions::ManArguments),
    /// Check a CUDA device against the processor, and time it; see scripts/gpu-check.
    #[command(hide = true)]
    GpuCheck(gpu_check::GpuCheckArguments),
}

/// Every example of the help of every subcommand: a line of a shell, with the remark that stands behind some.
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

/// Help of `--models`: which there are.
fn models_help() -> String {
    let names: Vec<&str> = ModelKind::all().map(ModelKind::name).collect();
    format!("Only these models, of {}, or of the folders in models/", names.join(", "))
}

/// Help with names of the table of models in place of `{MODEL}`, `{OTHER}` and, for the one with an ELMo, `{ELMO}`.
fn with_models(text: &str) -> String {
    let mut names = ModelKind::all().map(ModelKind::name);
    let (model, other) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
    text.replace("{MODEL}", model).replace("{OTHER}", other).replace("{ELMO}", elmo::MODEL)
}

/// Flows are numbered in 32 bits in every file that names them.
const TOO_MANY_FLOWS: &str = "more than 4,294,967,295 flows in one capture; divide it, by time for example";

/// How a subcommand ended, apart from errors.
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

/// Marks errors whose cause is this program or the machine, not what it was given.
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

/// As [`main`], with other arguments than the process's; the first is the program's name. It may end the process itself:
/// after `--help`, bad arguments or a signal.
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

/// The exit code of some work, after a line of its error. A panic, a mistake in this program, has already printed its place.
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

/// Begins a line of advice in a message.
const ADVICE: &str = "\n  ";

/// An error with its causes in one line, and below it lines of advice where it has them. Many messages already contain that of
/// their cause; nothing is printed twice.
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

/// The folder of the run that a subcommand is about: the run itself by its name or folder, or the last one of an experiment.
fn find_results(project: &Path, target: &run::Target) -> anyhow::Result<PathBuf> {
    let run::Target { experiment: name, data, size } = target;
    let results = experiment::results_folder(project);
    let run = find_run(&results, Path::new(name));
    if let (Ok(folder), true, None) = (&run, data.is_empty(), size) {
        return Ok(folder.clone());
    }
    // The ladder of an experiment has a name of its own, and the experiment's file.
    let file = |name: &str| experiment_file(project, Path::new(name));
    let of_ladder = name.strip_suffix(LADDER).filter(|_| file(name).is_err());
    let path = file(of_ladder.unwrap_or(name)).map_err(|_| {
        let mut known = crate::project::experiment_names(project);
        known.extend(crate::runs::run_names(&results).unwrap_or_default());
        let nearest = crate::declarative::did_you_mean(name, known.iter().map(String::as_str));
        anyhow::anyhow!("{name}: there is no such experiment or run{nearest} (`etcbench list` names them)")
    })?;
    let ladder = of_ladder.map(|_| LadderOverrides::default());
    let overrides = Overrides { data: data.clone(), size: size.clone(), ladder, ..Overrides::default() };
    let experiment = experiment::read_experiment(&path, &overrides)?;
    Ok(results.join(experiment::results_name(&experiment, false)))
}

/// The records of the run in a folder.
fn records(folder: &Path) -> anyhow::Result<Vec<Record>> {
    let path = folder.join("records.jsonl");
    if !path.is_file() {
        anyhow::bail!("{}: there is no run yet; run the experiment first", path.display());
    }
    Ok(crate::report::read_records(&path)?)
}

fn dispatch(arguments: Arguments) -> anyhow::Result<Verdict> {
    if let Some(threads) = arguments.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.into())
            .build_global()
            .map_err(|error| anyhow::Error::new(error).context(Internal))?;
    }
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

    /// The words of an example's line up to its remark, a pipe or a file that a shell writes.
    fn words(line: &str) -> Vec<String> {
        let example = line.split_once("   ").map_or(line, |(example, _)| example);
        let example = example.split(" | ").find(|part| part.starts_with("etcbench ")).unwrap_or(example);
        let example = example.split_once(" > ").map_or(example, |(example, _)| example).trim_end();
        // A remark may stand two spaces behind a long example.
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
            // A shell makes several names of this one.
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

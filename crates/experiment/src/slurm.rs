//! Units as Slurm job arrays: one job that puts the flows into the cache, then arrays of units that wait for it, then
//! one job that puts everything together. Only `sbatch` and `squeue` are used, so no accounting database is needed.
//!
//! What Slurm says decides what is submitted, never what is done. `afterok` counts as satisfied where the failed job
//! was purged already: a unit then finds no flows in the cache and reads the captures itself. A node that dies may
//! leave a process that goes on while its job is queued again: both store the same.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{ExperimentError, PlannedRun, Submission};

/// What is asked of Slurm, as `sbatch` takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlurmOptions {
    /// `--partition`.
    pub partition: Option<String>,
    /// `--time`, per unit.
    pub time: Option<String>,
    /// `--mem`, per unit.
    pub memory: Option<String>,
    /// `--cpus-per-task`, per unit.
    pub cpus: Option<u32>,
    /// `--gpus`, per unit; the jobs before and after the units need none.
    pub gpus: Option<String>,
    /// Any other options.
    pub others: Vec<String>,
}

/// Why Slurm does not do what is asked.
#[derive(Debug, thiserror::Error)]
pub enum SlurmError {
    /// A program that cannot be started.
    #[error("{program}: {problem}; --slurm needs Slurm's own commands on this machine")]
    Missing {
        /// The program.
        program: &'static str,
        /// What the system said.
        problem: String,
    },
    /// A program that refused.
    #[error("{program}: {problem}")]
    Refused {
        /// The program.
        program: &'static str,
        /// What it said.
        problem: String,
    },
    /// What was submitted cannot be noted down.
    #[error(transparent)]
    Store(#[from] ExperimentError),
}

fn output(program: &'static str, arguments: &[String], input: &str) -> Result<String, SlurmError> {
    let missing = |error: std::io::Error| SlurmError::Missing { program, problem: error.to_string() };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that refuses its arguments reads nothing; its exit code tells.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(missing)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    let problem = if said.is_empty() { output.status.to_string() } else { said };
    Err(SlurmError::Refused { program, problem })
}

/// The elements of job arrays that wait or run: array and index, and Slurm's word for their state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    elements: BTreeMap<(u64, u64), String>,
}

impl Queue {
    /// Asks `squeue` for this user's jobs.
    ///
    /// # Errors
    /// A `squeue` that is missing, or that gets no answer.
    pub fn ask() -> Result<Self, SlurmError> {
        let arguments = ["--me", "--noheader", "--array", "--format=%F %K %T"].map(str::to_owned);
        Ok(Self::parse(&output("squeue", &arguments, "")?))
    }

    /// Lines of array, index and state; jobs that are no arrays have no index and are not among them.
    fn parse(text: &str) -> Self {
        let element = |line: &str| {
            let mut words = line.split_whitespace();
            let key = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            Some((key, words.next()?.to_lowercase()))
        };
        Self { elements: text.lines().filter_map(element).collect() }
    }

    /// The state of every unit that waits or runs.
    pub fn units(&self, submissions: &[Submission]) -> BTreeMap<usize, String> {
        let mut units = BTreeMap::new();
        for Submission { job, first, units: submitted } in submissions {
            for &unit in submitted {
                if let Some(state) = self.elements.get(&(*job, (unit - first) as u64)) {
                    units.insert(unit, state.clone());
                }
            }
        }
        units
    }

    fn holds(&self, job: u64) -> bool {
        self.elements.keys().any(|(array, _)| *array == job)
    }
}

/// Submits these units of a plan, and the job that puts the results together after them where `gather` asks for it.
/// Gives the number of that job, or else that of the last array.
///
/// # Errors
/// A `sbatch` that is missing or refuses.
pub fn submit(
    planned: &PlannedRun,
    project: &Path,
    units: &[usize],
    options: &SlurmOptions,
    queue: &Queue,
    gather: bool,
) -> Result<u64, SlurmError> {
    let program = etcbench_storage::program()
        .map_err(|error| SlurmError::Missing { program: "sbatch", problem: format!("this program's path: {error}") })?;
    let job = Job { planned, project, options, program: &program };
    let after_flows = match planned.shared_is_loaded() {
        true => None,
        false => Some(format!("afterok:{}", job.submit(&Part::Shared, None)?)),
    };
    let mut arrays: Vec<u64> =
        planned.submissions().iter().map(|submission| submission.job).filter(|job| queue.holds(*job)).collect();
    let limit = largest_array();
    let mut rest = units;
    while let Some(&first) = rest.first() {
        let count = rest.iter().take_while(|&&unit| unit - first < limit).count();
        let (now, later) = rest.split_at(count);
        let array = job.submit(&Part::Units { first, units: now }, after_flows.as_deref())?;
        planned.add_submission(Submission { job: array, first, units: now.to_vec() })?;
        arrays.push(array);
        rest = later;
    }
    if gather {
        let arrays: Vec<String> = arrays.iter().map(u64::to_string).collect();
        let after = (!arrays.is_empty()).then(|| format!("afterany:{}", arrays.join(":")));
        return job.submit(&Part::Gather, after.as_deref());
    }
    Ok(arrays.last().copied().unwrap_or_default())
}

/// One more than the largest index of an array (`MaxArraySize`); Slurm's own default where it does not say.
fn largest_array() -> usize {
    let text = output("scontrol", &["show".to_owned(), "config".to_owned()], "").unwrap_or_default();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("MaxArraySize"));
    let value = line.and_then(|line| line.trim_start_matches([' ', '=']).trim().parse().ok());
    value.filter(|&size: &usize| size > 0).unwrap_or(1001)
}

enum Part<'a> {
    Shared,
    Units { first: usize, units: &'a [usize] },
    Gather,
}

struct Job<'a> {
    planned: &'a PlannedRun,
    project: &'a Path,
    options: &'a SlurmOptions,
    program: &'a [std::ffi::OsString],
}

impl Job<'_> {
    fn submit(&self, part: &Part<'_>, dependency: Option<&str>) -> Result<u64, SlurmError> {
        let said = output("sbatch", &self.arguments(part, dependency), &self.script(part))?;
        // `--parsable` prints the job, and the cluster after a semicolon where there are several.
        let job = said.trim().split(';').next().and_then(|job| job.parse().ok());
        job.ok_or_else(|| SlurmError::Refused { program: "sbatch", problem: format!("no job number in `{said}`") })
    }

    fn arguments(&self, part: &Part<'_>, dependency: Option<&str>) -> Vec<String> {
        let options = self.options;
        let (word, log) = match part {
            Part::Shared => ("flows", "flows-%j"),
            Part::Units { .. } => ("units", "%A_%a"),
            Part::Gather => ("gather", "gather-%j"),
        };
        let log = self.planned.folder().join("log").join(format!("{log}.txt"));
        let mut arguments = vec![
            "--parsable".to_owned(),
            format!("--job-name=etcbench-{word}-{}", self.planned.plan.name),
            format!("--output={}", log.display()),
            "--open-mode=append".to_owned(),
            // A node that fails costs no more than the work of its units.
            "--requeue".to_owned(),
            "--kill-on-invalid-dep=yes".to_owned(),
            format!("--chdir={}", self.project.display()),
        ];
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                arguments.push(format!("--{name}={value}"));
            }
        };
        add("partition", options.partition.clone());
        add("time", options.time.clone());
        add("mem", options.memory.clone());
        add("cpus-per-task", options.cpus.map(|cpus| cpus.to_string()));
        if let Part::Units { first, units } = part {
            add("gpus", options.gpus.clone());
            add("array", Some(units.iter().map(|unit| (unit - first).to_string()).collect::<Vec<_>>().join(",")));
        }
        add("dependency", dependency.map(str::to_owned));
        arguments.extend(options.others.iter().cloned());
        arguments
    }

    fn script(&self, part: &Part<'_>) -> String {
        let words = match part {
            Part::Shared => "flows".to_owned(),
            Part::Units { first, .. } => format!("unit --number $(({first} + SLURM_ARRAY_TASK_ID))"),
            Part::Gather => "gather".to_owned(),
        };
        let program: Vec<String> = self.program.iter().map(|word| quoted(&word.to_string_lossy())).collect();
        format!(
            "#!/bin/sh\nexec {} --project {} --threads \"${{SLURM_CPUS_ON_NODE:-1}}\" sweep {words} {}\n",
            program.join(" "),
            quoted(&self.project.display().to_string()),
            quoted(&self.planned.plan.name)
        )
    }
}

/// A word of a shell script that is taken as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_found_in_the_queue_by_array_and_index() {
        let queue = Queue::parse("12 0 PENDING\n12 3 RUNNING\n13 N/A RUNNING\n14 1 COMPLETING\n");
        let submissions = [
            Submission { job: 12, first: 0, units: vec![0, 1, 3] },
            Submission { job: 14, first: 1000, units: vec![1000, 1001] },
        ];
        let units = queue.units(&submissions);
        let expected = [(0, "pending"), (3, "running"), (1001, "completing")];
        assert_eq!(units, expected.map(|(unit, state)| (unit, state.to_owned())).into());
        assert!(queue.holds(12) && !queue.holds(13));
    }

    #[test]
    fn words_of_a_script_are_quoted() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
    }
}

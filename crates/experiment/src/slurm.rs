//! Submits units as Slurm job arrays: one job that puts the flows into the cache, then arrays of units that wait for
//! it, then one job that assembles the results. Uses only `sbatch` and `squeue`, so no accounting database is needed.
//!
//! Slurm's answers determine what is submitted, never what counts as done. `afterok` counts as satisfied if the failed
//! job has already been purged: a unit then finds no flows in the cache and reads the captures itself. A failing node
//! may leave a process running while its job is queued again: both store the same results.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{ExperimentError, PlannedRun, Submission};

/// Options for Slurm, passed to `sbatch`.
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
    /// `--gpus`, per task; only units with a model that can use one get it.
    pub gpus: Option<String>,
    /// `--partition` of the jobs that need no GPU: those before and after the units, and units without such a model.
    pub cpu_partition: Option<String>,
    /// Number of units per array element, computed one after another; 0 counts as 1.
    pub units_per_task: usize,
    /// Maximum number of array elements that run at once; unlimited if `None`.
    pub tasks_at_once: Option<u32>,
    /// Any other options.
    pub others: Vec<String>,
}

/// Why a Slurm command failed.
#[derive(Debug, thiserror::Error)]
pub enum SlurmError {
    /// A program could not be started.
    #[error("{program}: {problem}; --slurm requires Slurm's commands on this machine")]
    Missing {
        /// The program.
        program: &'static str,
        /// The system's error.
        problem: String,
    },
    /// A program returned an error.
    #[error("{program}: {problem}")]
    Refused {
        /// The program.
        program: &'static str,
        /// The program's error output.
        problem: String,
    },
    /// A job was refused after others had been submitted.
    #[error(
        "{problem}; already in the queue: {jobs}; the same command submits the rest later, or cancel them with \
         `scancel {jobs}`"
    )]
    Partial {
        /// Why the job was refused.
        problem: Box<SlurmError>,
        /// The IDs of the jobs in the queue.
        jobs: String,
    },
    /// `sbatch` succeeded, but its output has no job ID.
    #[error(
        "sbatch: no job ID in `{printed}`; if `squeue --me` shows a new job, cancel it with `scancel --name={name}` \
         before you run the command again"
    )]
    NoId {
        /// What `sbatch` printed.
        printed: String,
        /// The job's name.
        name: String,
    },
    /// A submission could not be recorded.
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
        // A program that rejects its arguments reads no input; its exit code is checked below.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(missing)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    let problem = if message.is_empty() { output.status.to_string() } else { message };
    Err(SlurmError::Refused { program, problem })
}

/// The array elements that wait or run: array and index, with the state reported by Slurm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    elements: BTreeMap<(u64, u64), String>,
}

impl Queue {
    /// Queries `squeue` for this user's jobs.
    ///
    /// # Errors
    /// `squeue` is missing or fails.
    pub fn ask() -> Result<Self, SlurmError> {
        let arguments = ["--me", "--noheader", "--array", "--format=%F %K %T"].map(str::to_owned);
        Ok(Self::parse(&output("squeue", &arguments, "")?))
    }

    /// Parses lines of array, index and state; jobs that are not arrays have no index and are skipped.
    fn parse(text: &str) -> Self {
        let element = |line: &str| {
            let mut words = line.split_whitespace();
            let key = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            Some((key, words.next()?.to_lowercase()))
        };
        Self { elements: text.lines().filter_map(element).collect() }
    }

    /// Returns the state of every unit that waits or runs.
    pub fn units(&self, submissions: &[Submission]) -> BTreeMap<usize, String> {
        let mut units = BTreeMap::new();
        for submission in submissions {
            for (index, task) in submission.tasks() {
                if let Some(state) = self.elements.get(&(submission.job, index as u64)) {
                    units.extend(task.iter().map(|&unit| (unit, state.clone())));
                }
            }
        }
        units
    }

    fn holds(&self, job: u64) -> bool {
        self.elements.keys().any(|(array, _)| *array == job)
    }
}

/// Submits the given units of a plan, followed by the job that assembles the results if `gather` is set. Returns the ID
/// of that job, or else of the last array.
///
/// # Errors
/// `sbatch` is missing or fails.
pub fn submit(
    planned: &PlannedRun,
    project: &Path,
    units: &[usize],
    options: &SlurmOptions,
    queue: &Queue,
    gather: bool,
) -> Result<u64, SlurmError> {
    let program = program()?;
    let job = Job { planned, project, options, program: &program };
    let waiting =
        planned.submissions().iter().map(|submission| submission.job).filter(|job| queue.holds(*job)).collect();
    let mut submitted: Vec<u64> = Vec::new();
    let last = job.all(units, waiting, gather, |arguments, script, submission| {
        let printed = output("sbatch", arguments, script)?;
        let id = job_id(&printed).ok_or_else(|| {
            let name = arguments.iter().find_map(|argument| argument.strip_prefix("--job-name=")).unwrap_or_default();
            let printed = printed.split_whitespace().collect::<Vec<_>>().join(" ");
            SlurmError::NoId { printed, name: name.to_owned() }
        })?;
        submitted.push(id);
        if let Some(submission) = submission {
            planned.add_submission(Submission { job: id, ..submission })?;
        }
        Ok(id)
    });
    last.map_err(|problem| match submitted.is_empty() {
        true => problem,
        false => {
            let jobs: Vec<String> = submitted.iter().map(u64::to_string).collect();
            SlurmError::Partial { problem: Box::new(problem), jobs: jobs.join(" ") }
        }
    })
}

/// Returns the job ID that `sbatch --parsable` printed: a line of its own, followed by a semicolon and the cluster if
/// there are several. A cluster's submit plugin or wrapper may print lines of text before and after it.
fn job_id(printed: &str) -> Option<u64> {
    let id = |line: &str| {
        let mut parts = line.trim().splitn(2, ';');
        let id = parts.next()?.parse().ok()?;
        parts.next().is_none_or(|cluster| !cluster.contains(char::is_whitespace)).then_some(id)
    };
    printed.lines().rev().find_map(id)
}

/// Returns what [`submit`] would submit if nothing of the plan were in the queue: each job's `sbatch` arguments and
/// script. Dependencies refer to jobs by their position in the list, from 1.
///
/// # Errors
/// The path of this program is unknown.
pub fn preview(
    planned: &PlannedRun,
    project: &Path,
    units: &[usize],
    options: &SlurmOptions,
    gather: bool,
) -> Result<Vec<(Vec<String>, String)>, SlurmError> {
    let program = program()?;
    let mut jobs = Vec::new();
    let job = Job { planned, project, options, program: &program };
    job.all(units, Vec::new(), gather, |arguments, script, _| {
        jobs.push((arguments.to_vec(), script.to_owned()));
        Ok(jobs.len() as u64)
    })?;
    Ok(jobs)
}

fn program() -> Result<Vec<std::ffi::OsString>, SlurmError> {
    etcbench_storage::program()
        .map_err(|error| SlurmError::Missing { program: "sbatch", problem: format!("this program's path: {error}") })
}

/// Returns the largest array index plus one (`MaxArraySize`), or Slurm's default if it is not reported.
fn largest_array() -> usize {
    let text = output("scontrol", &["show".to_owned(), "config".to_owned()], "").unwrap_or_default();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("MaxArraySize"));
    let value = line.and_then(|line| line.trim_start_matches([' ', '=']).trim().parse().ok());
    value.filter(|&size: &usize| size > 0).unwrap_or(1001)
}

enum Part<'a> {
    Shared,
    Units { submission: &'a Submission, use_gpu: bool },
    Gather,
}

impl Part<'_> {
    fn uses_gpu(&self) -> bool {
        matches!(self, Self::Units { use_gpu: true, .. })
    }
}

struct Job<'a> {
    planned: &'a PlannedRun,
    project: &'a Path,
    options: &'a SlurmOptions,
    program: &'a [std::ffi::OsString],
}

impl Job<'_> {
    /// Passes every job to `send`, which returns its ID: the job for the flows, unless they are loaded; arrays of these
    /// units; and, if `gather` is set, the job that assembles the results after these arrays and the `waiting` ones.
    /// Returns the last ID.
    fn all(
        &self,
        units: &[usize],
        waiting: Vec<u64>,
        gather: bool,
        mut send: impl FnMut(&[String], &str, Option<Submission>) -> Result<u64, SlurmError>,
    ) -> Result<u64, SlurmError> {
        let mut submit = |part: &Part<'_>, dependency: Option<&str>| {
            let submission = match part {
                Part::Units { submission, .. } => Some((*submission).clone()),
                Part::Shared | Part::Gather => None,
            };
            send(&self.arguments(part, dependency), &self.script(part), submission)
        };
        let after_flows = match self.planned.shared_is_loaded() {
            true => None,
            false => Some(format!("afterok:{}", submit(&Part::Shared, None)?)),
        };
        let mut arrays = waiting;
        let limit = largest_array();
        let per_task = self.options.units_per_task.max(1);
        let (with_gpu, without): (Vec<usize>, Vec<usize>) =
            units.iter().partition(|&&unit| self.planned.can_use_gpu(unit));
        for (units, use_gpu) in [(with_gpu, true), (without, false)] {
            let mut rest = units.as_slice();
            while let Some(&first) = rest.first() {
                let count = match per_task {
                    1 => rest.iter().take_while(|&&unit| unit - first < limit).count(),
                    per_task => rest.len().min(limit.saturating_mul(per_task)),
                };
                let (now, later) = rest.split_at(count);
                let submission = Submission { job: 0, first, units: now.to_vec(), per_task };
                arrays.push(submit(&Part::Units { submission: &submission, use_gpu }, after_flows.as_deref())?);
                rest = later;
            }
        }
        if gather {
            let arrays: Vec<String> = arrays.iter().map(u64::to_string).collect();
            let after = (!arrays.is_empty()).then(|| format!("afterany:{}", arrays.join(":")));
            return submit(&Part::Gather, after.as_deref());
        }
        Ok(arrays.last().copied().unwrap_or_default())
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
            // If a node fails, only the work of its units is lost.
            "--requeue".to_owned(),
            "--kill-on-invalid-dep=yes".to_owned(),
            format!("--chdir={}", self.project.display()),
        ];
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                arguments.push(format!("--{name}={value}"));
            }
        };
        let of_cpus = options.cpu_partition.clone().filter(|_| !part.uses_gpu());
        add("partition", of_cpus.or_else(|| options.partition.clone()));
        add("time", options.time.clone());
        add("mem", options.memory.clone());
        add("cpus-per-task", options.cpus.map(|cpus| cpus.to_string()));
        if let Part::Units { submission, use_gpu } = part {
            add("gpus", options.gpus.clone().filter(|_| *use_gpu));
            let indices: Vec<String> = submission.tasks().map(|(index, _)| index.to_string()).collect();
            let most = options.tasks_at_once.map_or(String::new(), |most| format!("%{most}"));
            add("array", Some(indices.join(",") + &most));
        }
        add("dependency", dependency.map(str::to_owned));
        arguments.extend(options.others.iter().cloned());
        arguments
    }

    fn script(&self, part: &Part<'_>) -> String {
        let words = match part {
            Part::Shared => "flows".to_owned(),
            Part::Units { submission: Submission { first, per_task: 1, .. }, .. } => {
                format!("unit --number $(({first} + SLURM_ARRAY_TASK_ID))")
            }
            Part::Units { .. } => "unit --number \"$1\"".to_owned(),
            Part::Gather => "gather".to_owned(),
        };
        let program: Vec<String> = self.program.iter().map(|word| quoted(&word.to_string_lossy())).collect();
        let command = format!(
            "{} --project {} --threads \"${{SLURM_CPUS_ON_NODE:-1}}\" sweep {words} {}",
            program.join(" "),
            quoted(&self.project.display().to_string()),
            quoted(&self.planned.plan.name)
        );
        match part {
            // A failing unit does not prevent the others of its task from being computed.
            Part::Units { submission: Submission { units, per_task, .. }, .. } if *per_task > 1 => {
                let units: Vec<String> = units.iter().map(usize::to_string).collect();
                format!(
                    "#!/bin/sh\nset -- {}\nshift $((SLURM_ARRAY_TASK_ID * {per_task}))\nstatus=0\nleft={per_task}\n\
                     while [ $# -gt 0 ] && [ $left -gt 0 ]; do\n    {command} || status=$?\n    shift\n    left=$((left - 1))\n\
                     done\nexit $status\n",
                    units.join(" ")
                )
            }
            _ => format!("#!/bin/sh\nexec {command}\n"),
        }
    }
}

/// Quotes a text as a literal word of a shell script.
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
            Submission { job: 12, first: 0, units: vec![0, 1, 3], per_task: 1 },
            Submission { job: 14, first: 1000, units: vec![1000, 1001], per_task: 1 },
        ];
        let units = queue.units(&submissions);
        let expected = [(0, "pending"), (3, "running"), (1001, "completing")];
        assert_eq!(units, expected.map(|(unit, state)| (unit, state.to_owned())).into());
        assert!(queue.holds(12) && !queue.holds(13));
        // Several units of a task share the state of their task.
        let several = [Submission { job: 12, first: 5, units: vec![5, 6, 9, 10, 11, 20, 21], per_task: 2 }];
        let expected = [(5, "pending"), (6, "pending"), (21, "running")];
        assert_eq!(queue.units(&several), expected.map(|(unit, state)| (unit, state.to_owned())).into());
        // Records of older versions had one unit per task.
        let old: Submission = serde_json::from_str("{\"job\": 1, \"first\": 3, \"units\": [3, 5]}").unwrap();
        assert_eq!(old.tasks().collect::<Vec<_>>(), [(0, &[3][..]), (2, &[5][..])]);
    }

    #[test]
    fn a_job_id_is_found_among_lines_of_text() {
        for printed in
            ["100\n", "100;cluster1\n", "sbatch: lua: Job submitted to partition 7\n100\n", "Hello\n 100;c \nBye 5\n"]
        {
            assert_eq!(job_id(printed), Some(100), "{printed}");
        }
        for printed in ["", "\n", "Submitted batch job 100\n", "-1\n", "100; and more\n"] {
            assert_eq!(job_id(printed), None, "{printed}");
        }
    }

    #[test]
    fn words_of_a_script_are_quoted() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
    }
}

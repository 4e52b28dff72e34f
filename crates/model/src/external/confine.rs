//! Starts a model's program and restricts what it may do. The program gets its own environment, its own process group,
//! no open files except its three streams, and a memory limit. If the kernel allows it, the program also has no network
//! and its own PID namespace, so that all processes it started end with it (`unshare` of util-linux); it ends when this
//! process does, however that ends (`setpriv`); it can only read and write what it needs (Landlock); and as root it has
//! none of root's capabilities but those over files. [`Confinement`] records what was not available and becomes a note
//! of the fit.
//!
//! A thread of its own starts the program and waits for it, because `setpriv` ends the program with that thread. The
//! rules of Landlock apply to the program alone (see `landlocked`).

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::landlocked::{self, Rules};
use super::manifest::Gpu;
use super::package::{Package, project};
use super::processes;

/// Marks a model's processes in their environment.
const MARK: &str = "ETCBENCH_MODEL_PROCESS";

/// Where to look for the tools of util-linux.
const TOOL_FOLDERS: [&str; 6] =
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/run/current-system/sw/bin"];

/// Readable by every program: libraries, settings, kernel information.
const SYSTEM: [&str; 13] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/nix",
    "/run/current-system",
    "/proc",
    "/sys",
];
/// Devices that every program may write to.
const DEVICES: [&str; 7] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/shm", "/dev/tty"];

/// Sets the limits and executes the program.
const SCRIPT: &str = "ulimit -c 0; [ \"$1\" = - ] || ulimit -d \"$1\" 2>/dev/null; shift; exec \"$@\"";

/// Leaders of the running process groups.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
/// Temporary folders of the running programs.
static FOLDERS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Registers a temporary folder for removal by [`end_all`] until this is dropped.
pub(super) struct Removed(PathBuf);

impl Removed {
    pub(super) fn at_the_end(folder: &Path) -> Self {
        FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned());
        Self(folder.to_owned())
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// What follows after [`end_all`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AfterEnd {
    /// This process exits; until then, threads that use a model wait.
    Exit = 1,
    /// Threads that use a model unwind; [`start_again`] follows.
    Unwind = 2,
}

/// The value of [`AfterEnd`] since [`end_all`]; 0 before.
static ENDED: AtomicU8 = AtomicU8::new(0);

/// Ends the programs of all external models immediately and removes their temporary folders. That is no failure of
/// theirs: nothing is recorded of it, and checkpoints are kept as they are.
pub fn end_all(after: AfterEnd) {
    ENDED.store(after as u8, Ordering::SeqCst);
    for leader in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        processes::kill_group(*leader);
    }
    for folder in FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        // What cannot be removed remains in the system's folder for temporary files.
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// Permits models to be started again after [`end_all`].
pub fn start_again() {
    ENDED.store(0, Ordering::SeqCst);
}

/// Returns whether [`end_all`] has been called.
pub(super) fn is_ended() -> bool {
    ENDED.load(Ordering::SeqCst) != 0
}

/// Does not return after [`end_all`], so that its effects are not taken for those of a program.
pub(super) fn return_unless_ended() {
    let ended = ENDED.load(Ordering::SeqCst);
    if ended == AfterEnd::Unwind as u8 {
        std::panic::resume_unwind(Box::new(AfterEnd::Unwind));
    }
    if ended == AfterEnd::Exit as u8 {
        loop {
            std::thread::park();
        }
    }
}

/// The restrictions of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confinement {
    /// Whether it has no network access.
    pub network: bool,
    /// Whether it has its own PID namespace, so that no process it started outlives it.
    pub processes: bool,
    /// Whether it can only read and write what it needs.
    pub files: bool,
    /// Whether it lacks the capabilities with which root reads the memory of other processes.
    pub capabilities: bool,
}

impl fmt::Display for Confinement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, processes, files, capabilities } = *self;
        let parts = [
            (network, "no network", "network access is not blocked"),
            (processes, "own PID namespace", "its processes are only ended as a group"),
            (files, "files restricted by Landlock", "it may read whatever the user may"),
            (capabilities, "no capabilities over other processes", "it has root's capabilities"),
        ];
        let told: Vec<&str> = parts.iter().map(|(held, yes, no)| if *held { *yes } else { *no }).collect();
        let word = if parts.iter().all(|(held, ..)| *held) { "confined" } else { "NOT fully confined here" };
        write!(formatter, "{word}: {}", told.join(", "))
    }
}

/// How to start a program.
pub(super) struct Launch<'a> {
    /// The model.
    pub package: &'a Package,
    /// The program and its arguments.
    pub command: &'a [String],
    /// A folder that it may read, in addition to its own.
    pub data: &'a Path,
    /// The folder that it may write to.
    pub scratch: &'a Path,
    /// Maximum number of threads.
    pub threads: usize,
    /// Number of the GPU that it can see; `None` if it can see none.
    pub card: Option<usize>,
    /// Maximum memory of a process, in bytes.
    pub memory: Option<u64>,
    /// Whether to use a separate PID namespace, if available.
    pub own_processes: bool,
    /// Distinguishes this start from others.
    pub nonce: &'a str,
}

/// A running program.
pub(super) struct Running {
    /// Leader of its process group.
    pub leader: u32,
    pub stdin: ChildStdin,
    pub stdout: ChildStdout,
    pub stderr: ChildStderr,
    /// Receives the exit status once it has ended.
    pub ended: Receiver<std::io::Result<ExitStatus>>,
    /// Its restrictions.
    pub confinement: Confinement,
    /// The environment variable that marks its processes.
    pub mark: String,
}

/// Starts a program.
///
/// # Errors
/// Why it cannot be started, on one line.
pub(super) fn start(launch: &Launch<'_>) -> Result<Running, String> {
    return_unless_ended();
    let means = means();
    let package = launch.package;
    let mut arguments: Vec<String> = Vec::new();
    if let Some(setpriv) = &means.setpriv {
        arguments.extend([setpriv.display().to_string(), "--pdeathsig".to_owned(), "KILL".to_owned()]);
    }
    let unshare = means.unshare.as_ref().filter(|_| launch.own_processes);
    if let Some((unshare, options)) = unshare {
        arguments.push(unshare.display().to_string());
        arguments.extend(options.iter().map(|&option| option.to_owned()));
    }
    // After `unshare`, which needs them.
    if let (Capabilities::Dropped, Some(setpriv)) = (means.capabilities, &means.setpriv) {
        arguments.push(setpriv.display().to_string());
        arguments.extend(DROPPING.map(str::to_owned));
    }
    let limit = launch.memory.map_or_else(|| "-".to_owned(), |bytes| (bytes / 1024).to_string());
    arguments.extend(["/bin/sh", "-c", SCRIPT, "sh", &limit].map(str::to_owned));
    let mut program = launch.command.to_vec();
    // A program in the model's folder, rather than one of the same name elsewhere.
    if program[0].contains('/') && Path::new(&program[0]).is_relative() {
        program[0] = package.folder.join(&program[0]).display().to_string();
    }
    let found = find_program(&program[0])
        .ok_or_else(|| format!("program {} not found; install it, or correct model.toml", program[0]))?;
    arguments.extend(program);
    let mark = format!("{MARK}={}", launch.nonce);
    let mut command = Command::new(&arguments[0]);
    command
        .args(&arguments[1..])
        .env_clear()
        .envs(environment(launch))
        .env(MARK, launch.nonce)
        .current_dir(&package.folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut readable: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    readable.extend([package.folder.clone(), launch.data.to_owned()]);
    readable.extend(homes_of_programs(&found));
    readable.extend(package.manifest.needs.read.iter().map(|path| expanded(path)));
    readable.extend(folders_in_environment(&package.manifest.needs.environment));
    let mut writable: Vec<PathBuf> = DEVICES.iter().map(PathBuf::from).collect();
    writable.push(launch.scratch.to_owned());
    if launch.card.is_some() {
        writable.extend(graphics_devices());
    }
    let rules = Rules { readable, writable, maps_users: means.maps_users() };
    let confinement = Confinement {
        network: unshare.is_some(),
        processes: unshare.is_some(),
        files: means.landlock,
        capabilities: means.capabilities != Capabilities::Kept,
    };
    spawn(command, Some(rules).filter(|_| means.landlock), confinement, mark)
}

/// Starts a command, to which the rules apply, from its own thread, which waits for the command to end.
fn spawn(
    mut command: Command,
    rules: Option<Rules>,
    confinement: Confinement,
    mark: String,
) -> Result<Running, String> {
    let (tell, told) = channel();
    let (end, ended) = channel();
    let work = move || {
        if let Some(rules) = rules
            && let Err(problem) = landlocked::restrict(&mut command, &rules)
        {
            let _ = tell.send(Err(problem));
            return;
        }
        // The program must not inherit what our parent process left open.
        #[cfg(unix)]
        close_fds::set_fds_cloexec(3, &[]);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let _ = tell.send(Err(format!("{}: {error}", command.get_program().to_string_lossy())));
                return;
            }
        };
        let leader = child.id();
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).insert(leader);
        if is_ended() {
            processes::kill_group(leader);
        }
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let _ = tell.send(Ok((leader, streams)));
        let status = child.wait();
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).remove(&leader);
        let _ = end.send(status);
    };
    std::thread::Builder::new().name("external model".to_owned()).spawn(work).map_err(|error| error.to_string())?;
    let (leader, streams) = told.recv().map_err(|_| "the thread that starts it ended".to_owned())??;
    let (Some(stdin), Some(stdout), Some(stderr)) = streams else { return Err("it has no streams".to_owned()) };
    Ok(Running { leader, stdin, stdout, stderr, ended, confinement, mark })
}

/// Returns the environment of a program: only the variables listed here and those its manifest declares.
fn environment(launch: &Launch<'_>) -> Vec<(String, String)> {
    let needs = &launch.package.manifest.needs;
    let passed = ["PATH", "HOME", "LANG"].into_iter().chain(needs.environment.iter().map(String::as_str));
    let mut variables: Vec<(String, String)> =
        passed.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))).collect();
    for name in [
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "RAYON_NUM_THREADS",
    ] {
        variables.push((name.to_owned(), launch.threads.to_string()));
    }
    variables.push(("TMPDIR".to_owned(), launch.scratch.display().to_string()));
    if needs.gpu != Gpu::None {
        variables.push(("CUDA_VISIBLE_DEVICES".to_owned(), launch.card.map_or(String::new(), |card| card.to_string())));
    }
    variables
}

/// Returns the folders listed in declared variables, such as PYTHONPATH, which would be unusable otherwise.
fn folders_in_environment(names: &[String]) -> Vec<PathBuf> {
    let values = names.iter().filter_map(std::env::var_os);
    let paths = values.flat_map(|value| std::env::split_paths(&value).collect::<Vec<_>>());
    paths.filter(|path| path.is_absolute() && path.is_dir() && is_apart(path)).collect()
}

fn expanded(path: &str) -> PathBuf {
    match path.strip_prefix("~/") {
        Some(rest) => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(rest),
        None => PathBuf::from(path),
    }
}

/// Finds a program: the path itself if the name is a path, otherwise in the first folder of PATH that contains it.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Returns where a program and the folders of PATH are installed: the folders above their `bin`. Never a folder that
/// contains a home, the data or the project, because the labels are there.
fn homes_of_programs(program: &Path) -> Vec<PathBuf> {
    let mut homes = Vec::new();
    let real = std::fs::canonicalize(program).ok();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    let own = [Some(program.to_owned()), real].into_iter().flatten();
    for folder in own.filter_map(|path| path.parent().map(Path::to_owned)).chain(folders) {
        let above = folder.parent().filter(|above| is_apart(above)).map(Path::to_owned);
        homes.extend(above.or_else(|| is_apart(&folder).then(|| folder.clone())));
    }
    homes
}

/// Returns whether a folder contains none of the project, the data folder and the user's home.
fn is_apart(folder: &Path) -> bool {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let data = std::env::var_os("ETCBENCH_DATA").map(PathBuf::from);
    let within = [home, data, project()];
    within.into_iter().flatten().all(|path| !path.starts_with(folder))
}

/// Returns the device files of GPUs.
fn graphics_devices() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten().map(|entry| entry.path());
    let is_card = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("nvidia") || name == "dri" || name == "kfd"
    };
    entries.filter(is_card).collect()
}

/// The means of confinement that this machine offers.
struct Means {
    setpriv: Option<PathBuf>,
    unshare: Option<(PathBuf, &'static [&'static str])>,
    landlock: bool,
    capabilities: Capabilities,
}

/// What a program has of root's capabilities.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Capabilities {
    /// The user has none.
    None,
    /// `setpriv` drops those that [`DROPPING`] does not list.
    Dropped,
    /// It has those of the user.
    Kept,
}

/// Options of `setpriv` with which root keeps the access to files of other users that it has by default, which Landlock
/// restricts, but loses the memory and environment of other processes, devices and mounts.
/// What is inheritable is not limited by the bounding set.
const DROPPING: [&str; 4] =
    ["--inh-caps=-all", "--ambient-caps=-all", "--bounding-set", "-all,+chown,+dac_override,+fowner,+fsetid"];

impl Means {
    /// Returns whether `unshare` writes its user maps, which Landlock must permit.
    fn maps_users(&self) -> bool {
        self.unshare.as_ref().is_some_and(|(_, options)| options.contains(&"--user"))
    }
}

/// Network and PID namespaces, for root and for other users.
const NAME_SPACES: [&[&str]; 2] = [
    &["--net", "--pid", "--fork", "--kill-child=KILL", "--"],
    &["--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child=KILL", "--"],
];

/// Determines the means by trying them, once.
fn means() -> &'static Means {
    static MEANS: OnceLock<Means> = OnceLock::new();
    MEANS.get_or_init(|| {
        let tool =
            |name: &str| TOOL_FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
        let landlock = landlocked::is_held();
        let works = |command: Command, maps_users: bool| {
            let everything = || vec![PathBuf::from("/")];
            let rules = Rules { readable: everything(), writable: vec!["/dev/null".into()], maps_users };
            let nothing = Confinement { network: false, processes: false, files: false, capabilities: false };
            let running = spawn(command, Some(rules).filter(|_| landlock), nothing, String::new());
            running.is_ok_and(|running| running.ended.recv().is_ok_and(|ended| ended.is_ok_and(|code| code.success())))
        };
        let quiet = |program: &Path| {
            let mut command = Command::new(program);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command
        };
        let setpriv = tool("setpriv").filter(|setpriv| {
            let mut command = quiet(setpriv);
            command.args(["--pdeathsig", "KILL", "/bin/true"]);
            works(command, false)
        });
        let unshare = tool("unshare").and_then(|unshare| {
            let works = |options: &&&'static [&'static str]| {
                let mut command = quiet(&unshare);
                command.args(**options).arg("/bin/true");
                works(command, options.contains(&"--user"))
            };
            NAME_SPACES.iter().find(works).map(|&options| (unshare.clone(), options))
        });
        let drops = |setpriv: &PathBuf| {
            let mut command = quiet(setpriv);
            command.args(DROPPING).arg("/bin/true");
            works(command, false)
        };
        let capabilities = match has_capabilities() {
            false => Capabilities::None,
            true if setpriv.as_ref().is_some_and(drops) => Capabilities::Dropped,
            true => Capabilities::Kept,
        };
        Means { setpriv, unshare, landlock, capabilities }
    })
}

/// Returns whether this process has capabilities, as root does by default.
#[cfg(target_os = "linux")]
fn has_capabilities() -> bool {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.map_or(true, |status| status.capeff != 0)
}

#[cfg(not(target_os = "linux"))]
fn has_capabilities() -> bool {
    false
}

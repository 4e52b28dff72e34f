//! What a model's program may do, and how it is started. It gets an environment of its own, a process group of its own, no
//! open files but its three streams, and a limit of memory. Where the kernel lets us, it has no network and process
//! numbers of its own, so that all that it started ends with it (`unshare` of util-linux), it ends when this process
//! does, however that ends (`setpriv`), and it reads and writes nothing but what it needs (Landlock). What could not be
//! had is said in [`Confinement`], which becomes a note of the fit.
//!
//! Landlock is applied to the thread that starts the program, which the program inherits; the thread then waits for it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::manifest::Gpu;
use super::package::{Package, project};
use super::processes;

/// Marks the processes of a model in their environment.
const MARK: &str = "ETCBENCH_MODEL_PROCESS";

/// Where the tools of util-linux are.
const TOOL_FOLDERS: [&str; 6] =
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/run/current-system/sw/bin"];

/// What every program reads: libraries, settings, what the kernel tells.
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
/// Devices that every program writes.
const DEVICES: [&str; 7] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/shm", "/dev/tty"];

/// Sets the limits and becomes the program.
const SCRIPT: &str = "ulimit -c 0; [ \"$1\" = - ] || ulimit -d \"$1\" 2>/dev/null; shift; exec \"$@\"";

/// The leaders of the process groups that run now.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
/// The temporary folders of the programs that run now.
static FOLDERS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Holds a temporary folder among those that [`end_all`] removes, until it is dropped.
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

/// Ends the programs of all external models at once and removes their temporary folders; for a process that is about to
/// end itself.
pub fn end_all() {
    for leader in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        processes::kill_group(*leader);
    }
    for folder in FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        // What cannot be removed stays in the system's folder for temporary files.
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// What a program is kept from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confinement {
    /// Whether it has no network at all.
    pub network: bool,
    /// Whether it has process numbers of its own, so that nothing that it started outlives it.
    pub processes: bool,
    /// Whether it reads and writes only what it needs.
    pub files: bool,
}

impl fmt::Display for Confinement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, processes, files } = self;
        let parts = [
            (network, "no network", "the network is open to it"),
            (processes, "own process numbers", "its processes are ended by their group alone"),
            (files, "files by Landlock", "it may read whatever the user may"),
        ];
        let told: Vec<&str> = parts.iter().map(|(held, yes, no)| if **held { *yes } else { *no }).collect();
        let word = if *network && *processes && *files { "confined" } else { "NOT fully confined here" };
        write!(formatter, "{word}: {}", told.join(", "))
    }
}

/// What is to be started.
pub(super) struct Launch<'a> {
    /// The model.
    pub package: &'a Package,
    /// Its program and the arguments.
    pub command: &'a [String],
    /// The folder that it may read, beside its own.
    pub data: &'a Path,
    /// The folder that it may write.
    pub scratch: &'a Path,
    /// How many threads it may use.
    pub threads: usize,
    /// The number of the graphics card that it sees; none where it sees none.
    pub card: Option<usize>,
    /// The most memory of a process, in bytes.
    pub memory: Option<u64>,
    /// Whether its processes have numbers of their own where that can be had.
    pub own_processes: bool,
    /// Tells this start from others.
    pub nonce: &'a str,
}

/// A program that runs.
pub(super) struct Running {
    /// The leader of its process group.
    pub leader: u32,
    pub stdin: ChildStdin,
    pub stdout: ChildStdout,
    pub stderr: ChildStderr,
    /// How it ended, once it has.
    pub ended: Receiver<std::io::Result<ExitStatus>>,
    /// What it is kept from.
    pub confinement: Confinement,
    /// What marks its processes.
    pub mark: String,
}

/// Starts a program.
///
/// # Errors
/// Why it cannot be started, in a line.
pub(super) fn start(launch: &Launch<'_>) -> Result<Running, String> {
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
    let limit = launch.memory.map_or_else(|| "-".to_owned(), |bytes| (bytes / 1024).to_string());
    arguments.extend(["/bin/sh", "-c", SCRIPT, "sh", &limit].map(str::to_owned));
    let mut program = launch.command.to_vec();
    // A program in the model's folder, and not one of that name elsewhere.
    if program[0].contains('/') && Path::new(&program[0]).is_relative() {
        program[0] = package.folder.join(&program[0]).display().to_string();
    }
    let found = find_program(&program[0])
        .ok_or_else(|| format!("there is no program {} to be found; install it, or correct model.toml", program[0]))?;
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
    let confinement = Confinement { network: unshare.is_some(), processes: unshare.is_some(), files: means.landlock };
    spawn(command, Some(rules).filter(|_| means.landlock), confinement, mark)
}

/// Starts a command from a thread of its own, which holds the rules and stays until the command ends.
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
            && let Err(problem) = rules.apply()
        {
            let _ = tell.send(Err(problem));
            return;
        }
        // What whoever started us left open is not the program's.
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

/// The environment of a program: nothing of ours but what is named here and what its manifest declares.
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

/// The folders that declared variables name, such as those of PYTHONPATH, which would be of no use otherwise.
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

/// Where a program is: as it stands where it is a path, else in the first folder of PATH that has it.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Where a program, and what PATH names, is installed: the folders above their `bin`. Never a home, nor what the
/// project is in, since the labels are there.
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

/// Whether neither the project nor the user's home is in a folder.
fn is_apart(folder: &Path) -> bool {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let data = std::env::var_os("ETCBENCH_DATA").map(PathBuf::from);
    let within = [home, data, project()];
    within.into_iter().flatten().all(|path| !path.starts_with(folder))
}

/// The devices of graphics cards.
fn graphics_devices() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten().map(|entry| entry.path());
    let is_card = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("nvidia") || name == "dri" || name == "kfd"
    };
    entries.filter(is_card).collect()
}

/// What this machine has to confine a program with.
struct Means {
    setpriv: Option<PathBuf>,
    unshare: Option<(PathBuf, &'static [&'static str])>,
    landlock: bool,
}

impl Means {
    /// Whether `unshare` writes its maps of users, which Landlock must let it do.
    fn maps_users(&self) -> bool {
        self.unshare.as_ref().is_some_and(|(_, options)| options.contains(&"--user"))
    }
}

/// Name spaces of the network and of processes, for root and for others.
const NAME_SPACES: [&[&str]; 2] = [
    &["--net", "--pid", "--fork", "--kill-child=KILL", "--"],
    &["--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child=KILL", "--"],
];

/// Looks, once, by trying.
fn means() -> &'static Means {
    static MEANS: OnceLock<Means> = OnceLock::new();
    MEANS.get_or_init(|| {
        let tool =
            |name: &str| TOOL_FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
        let landlock = is_held();
        let works = |command: Command, maps_users: bool| {
            let everything = || vec![PathBuf::from("/")];
            let rules = Rules { readable: everything(), writable: vec!["/dev/null".into()], maps_users };
            let nothing = Confinement { network: false, processes: false, files: false };
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
        Means { setpriv, unshare, landlock }
    })
}

/// What a program may read and write.
struct Rules {
    readable: Vec<PathBuf>,
    writable: Vec<PathBuf>,
    /// Whether a tool on the way writes `/proc/self/uid_map`.
    maps_users: bool,
}

#[cfg(target_os = "linux")]
mod landlocked {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
        path_beneath_rules,
    };

    use super::Rules;

    /// The newest version of Landlock whose rules are asked for; older kernels hold what they know of.
    const VERSION: ABI = ABI::V6;

    fn restrict(rules: &Rules) -> Result<RulesetStatus, RulesetError> {
        let read = path_beneath_rules(&rules.readable, AccessFs::from_read(VERSION));
        let write = path_beneath_rules(&rules.writable, AccessFs::from_all(VERSION));
        let maps: &[&str] = if rules.maps_users { &["/proc"] } else { &[] };
        let maps = path_beneath_rules(maps, AccessFs::from_read(VERSION) | AccessFs::WriteFile);
        let status = Ruleset::default()
            .handle_access(AccessFs::from_all(VERSION))?
            .handle_access(AccessNet::from_all(VERSION))?
            .scope(Scope::from_all(VERSION))?
            .create()?
            .add_rules(read)?
            .add_rules(write)?
            .add_rules(maps)?
            .restrict_self()?;
        Ok(status.ruleset)
    }

    impl Rules {
        /// Holds the calling thread, and all that it starts, to the rules, for ever.
        pub(super) fn apply(&self) -> Result<(), String> {
            restrict(self).map(drop).map_err(|error| format!("Landlock: {error}"))
        }
    }

    /// Whether the kernel holds a thread to rules, tried by one that ends.
    pub(super) fn is_held() -> bool {
        let nothing = || restrict(&Rules { readable: Vec::new(), writable: Vec::new(), maps_users: false });
        let tried = std::thread::spawn(move || nothing().is_ok_and(|status| status != RulesetStatus::NotEnforced));
        tried.join().unwrap_or(false)
    }
}
#[cfg(target_os = "linux")]
use landlocked::is_held;

#[cfg(not(target_os = "linux"))]
impl Rules {
    fn apply(&self) -> Result<(), String> {
        let Self { readable: _, writable: _, maps_users: _ } = self;
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
fn is_held() -> bool {
    false
}

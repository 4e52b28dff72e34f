//! Faults of the program of an external model: each is caught and named, the other models have results, the exit code
//! is 1, and no process remains.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::Project;
use crate::common::external::{has_python, processes_with, project};

/// A fault, and the expected message.
struct Fault {
    name: &'static str,
    /// Further keys of the model.
    keys: &'static [&'static str],
    kind: &'static str,
    words: &'static [&'static str],
}

const fn fault(name: &'static str, kind: &'static str, words: &'static [&'static str]) -> Fault {
    Fault { name, keys: &[], kind, words }
}

const FAULTS: &[Fault] = &[
    fault("crash_fit", "crashed", &["exit code 3", "`fitted`", "last words"]),
    fault("crash_predict", "crashed", &["exit code 3", "`predicted`"]),
    fault("crash_save", "crashed", &["exit code 3", "`saved`"]),
    fault("abort_fit", "crashed", &["signal"]),
    Fault { name: "hang_fit", keys: &["fit_seconds=1"], kind: "time_limit", words: &["`fitted` within 1 s"] },
    Fault { name: "hang_predict", keys: &["predict_seconds=1"], kind: "time_limit", words: &["`predicted`"] },
    Fault { name: "hang_save", keys: &["predict_seconds=1"], kind: "time_limit", words: &["`saved`"] },
    fault("error_fit", "reported", &["cannot go on"]),
    fault("error_predict", "reported", &["cannot go on"]),
    fault("garbage_fit", "protocol", &["Epoch 1/10", "print to standard error"]),
    fault("garbage_predict", "protocol", &["Epoch 1/10"]),
    // An intermediate process keeps its standard output open.
    Fault { name: "close_fit", keys: &["fit_seconds=2"], kind: "time_limit", words: &["`fitted` within 2 s"] },
    fault("wrong_message_fit", "protocol", &["`saved` instead of `fitted`"]),
    fault("wrong_message_predict", "protocol", &["`saved` instead of `predicted`"]),
    fault("unknown_key_fit", "protocol", &["colour"]),
    fault("no_seconds", "protocol", &["`seconds` of 0, below 0, or not finite"]),
    fault("endless_lines", "endless_output", &["lines before `fitted`"]),
    fault("endless_line", "endless_output", &["bytes on standard output"]),
    fault("endless_errors", "endless_output", &["standard error"]),
    Fault { name: "allocate", keys: &["memory=\"200M\""], kind: "memory_limit", words: &["200 MiB"] },
    Fault { name: "allocate_at_once", keys: &["memory=\"200M\""], kind: "memory_limit", words: &["200 MiB"] },
    Fault { name: "allocate_in_children", keys: &["memory=\"200M\""], kind: "memory_limit", words: &["200 MiB"] },
    fault("not_a_number", "invalid_answer", &["NaN as a probability"]),
    fault("infinite", "invalid_answer", &["inf as a probability"]),
    fault("negative", "invalid_answer", &["negative probability"]),
    fault("sums", "invalid_answer", &["must sum to 1"]),
    fault("more_classes", "invalid_answer", &["its shape is [15, 4]; it must be [15, 3]"]),
    fault("fewer_rows", "invalid_answer", &["its shape is [14, 3]; it must be [15, 3]"]),
    fault("no_answer", "invalid_answer", &["it was not written"]),
    fault("link", "invalid_answer", &["not a regular file"]),
    fault("pipe", "invalid_answer", &["not a regular file"]),
    fault("text", "invalid_answer", &["not a .npy file"]),
    fault("cut", "invalid_answer", &["fewer values"]),
    fault("whole_numbers", "invalid_answer", &["<i8"]),
    fault("fortran", "invalid_answer", &["Fortran order"]),
    fault("saved_link", "invalid_answer", &["neither a file nor a folder"]),
    Fault {
        name: "linked_save",
        keys: &["where=\"/etc\""],
        kind: "invalid_answer",
        words: &["already in the scratch"],
    },
    Fault { name: "swapped_save", keys: &["where=\"/etc\""], kind: "invalid_answer", words: &["no longer a folder"] },
    fault("batch", "depends_on_batch", &["batch normalisation"]),
    fault("order", "depends_on_batch", &["another order"]),
    fault("random", "depends_on_batch", &["drawn at random"]),
];

/// Runs the experiment with a fault and expects it to be a result like any other.
#[track_caller]
fn fails(project: &Project, Fault { name, keys, kind, words }: &Fault) {
    let mut arguments = vec!["run".to_owned(), "experiments/points.toml".to_owned(), "--overwrite".to_owned()];
    let keys = keys.iter().map(|key| format!("model.faulty.{key}"));
    for key in [format!("model.faulty.fault={name}")].into_iter().chain(keys) {
        arguments.extend(["--set".to_owned(), key]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = project.etcbench(&arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{name}: {told}");
    let folders = fs::read_dir(project.path("results")).unwrap().map(|entry| entry.unwrap().path());
    let folder = folders.filter(|path| path.join("run.json").is_file()).collect::<Vec<_>>();
    assert_eq!(folder.len(), 1, "{name}: {folder:?}");
    let folder = &folder[0];
    let run: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("run.json")).unwrap()).unwrap();
    let failures = run["failures"].as_array().unwrap();
    assert_eq!((failures.len(), failures[0]["kind"].as_str()), (1, Some(*kind)), "{name}: {failures:?}");
    let whole = failures[0].to_string();
    for word in *words {
        assert!(whole.contains(word), "{name}: `{word}` is not in {whole}");
    }
    assert!(told.contains("1 fit failed") && told.contains("faulty: "), "{name}: {told}");
    let records = fs::read_to_string(folder.join("records.csv")).unwrap();
    assert!(records.contains(&format!("failed_{kind}")), "{name}");
    assert!(records.contains(",majority,statistics,fast,0,0,,,,,accuracy,"), "{name}");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        table.contains("| failed") && table.contains(&format!("{} (1)", kind.replace('_', " "))),
        "{name}: {table}"
    );
    fs::remove_dir_all(folder).unwrap();
}

/// Creates a model's folder whose `run` contains a mark that identifies its processes.
fn marked() -> (Project, String) {
    let project = project();
    let mark = format!("mark-{}-{:p}", std::process::id(), &project);
    let manifest = fs::read_to_string(project.path("models/faulty/model.toml")).unwrap();
    project.write("models/faulty/model.toml", manifest.replace("MARK", &mark));
    (project, mark)
}

#[test]
fn every_fault_is_caught_and_named_and_leaves_nothing_behind() {
    if !has_python() {
        return;
    }
    let (project, mark) = marked();
    for fault in FAULTS {
        fails(&project, fault);
        assert_eq!(processes_with(&mark), Vec::<String>::new(), "{}", fault.name);
    }
}

#[test]
fn what_goes_wrong_before_the_first_fit_is_named_too() {
    if !has_python() {
        return;
    }
    let (project, mark) = marked();
    let manifest = fs::read_to_string(project.path("models/faulty/model.toml")).unwrap();
    let cases = [
        ("crash_describe", "crashed", &["exit code 3", "`description`"][..]),
        ("hang_describe", "time_limit", &["`description` within 2 s"]),
        ("garbage_describe", "protocol", &["Epoch 1/10"]),
        ("version", "protocol", &["etcbench-model-9", "etcbench-model-1"]),
        ("other_inputs", "protocol", &["model.toml lists the input statistics, but its description lists sequences"]),
        ("unknown_key_describe", "protocol", &["colour"]),
        ("no_claims", "protocol", &["`microseconds_per_flow` of 0, below 0, or not finite"]),
    ];
    for (name, kind, words) in cases {
        let changed = manifest
            .replace(&format!("\"{mark}\""), &format!("\"{mark}\", \"{name}\""))
            .replace("start_seconds = 60", "start_seconds = 2");
        project.write("models/faulty/model.toml", changed);
        fails(&project, &Fault { name: "none", keys: &[], kind, words });
        assert_eq!(processes_with(&mark), Vec::<String>::new(), "{name}");
    }
    project.write("models/faulty/model.toml", manifest.replace("python3", "no-such-program"));
    fails(&project, &fault("none", "not_started", &["no-such-program"]));
    project.write("models/faulty/model.toml", format!("build = [\"false\"]\n{manifest}"));
    fails(&project, &fault("none", "not_started", &["build: false ended with"]));
}

#[test]
fn a_run_that_is_stopped_takes_its_programs_and_their_files_along() {
    if !has_python() {
        return;
    }
    let (project, mark) = marked();
    let temporary = tempfile::tempdir().unwrap();
    // With --jobs the processes of units are stopped in the same way as the run, and also leave nothing behind.
    let alone = &["--no-cache"][..];
    let jobs = &["--jobs", "2"][..];
    for (signal, how, code) in
        [("-TERM", alone, Some(143)), ("-TERM", jobs, Some(143)), ("-KILL", jobs, None), ("-KILL", alone, None)]
    {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("etcbench"))
            .args(["run", "experiments/points.toml", "--set", "model.faulty.fault=hang_fit"])
            .args(how)
            .current_dir(project.path(""))
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let patience = Duration::from_secs(60);
        // A process that only describes the model ends by itself; the one that hangs is there at every look.
        let mut looks = 0;
        while looks < 25 && begun.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(20));
            looks = if processes_with(&mark).is_empty() { 0 } else { looks + 1 };
        }
        assert_eq!(looks, 25, "{signal}");
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), code, "{signal}");
        let stopped = Instant::now();
        while !processes_with(&mark).is_empty() && stopped.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(processes_with(&mark), Vec::<String>::new(), "{signal}");
        // Only a run that is itself killed while it uses such a folder cannot remove it.
        let removed = || fs::read_dir(temporary.path()).unwrap().count() == 0;
        if code.is_some() || how == jobs {
            while !removed() && stopped.elapsed() < patience {
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(removed(), "{signal} {how:?}");
        }
    }
    // The next run that starts such a program removes that folder, and nothing else.
    let left =
        || -> Vec<PathBuf> { fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().path()).collect() };
    assert_eq!(left().len(), 1, "{:?}", left());
    assert!(left()[0].join("scratch").is_dir());
    let kept = temporary.path().join("etcbench-model-mine");
    fs::create_dir(&kept).unwrap();
    let output = Command::new(assert_cmd::cargo::cargo_bin("etcbench"))
        .args(["run", "experiments/points.toml", "--no-cache"])
        .current_dir(project.path(""))
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(left(), [kept]);
}

/// Returns the restrictions that this machine's kernel enforces, as reported by a run.
fn confinement(project: &Project) -> String {
    project.done(&["run", "experiments/points.toml"]);
    let run = fs::read_to_string(project.path("results/points-points-full/run.json")).unwrap();
    fs::remove_dir_all(project.path("results/points-points-full")).unwrap();
    run
}

#[test]
fn a_program_reads_and_writes_only_what_it_may_and_has_no_network() {
    if !has_python() {
        return;
    }
    let (project, _) = marked();
    let held = confinement(&project);
    let at = |path: &str| format!("model.faulty.where={}", project.path(path).display());
    let runs = |name: &str, place: &str| {
        let fault = format!("model.faulty.fault={name}");
        let output = project.etcbench(&["run", "experiments/points.toml", "--set", &fault, "--set", place]);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    if held.contains("files restricted by Landlock") {
        for (name, place) in [
            ("read_outside", at("data/points/points.csv")),
            ("read_outside", at("experiments/points.toml")),
            ("write_outside", at("data/points")),
            ("write_own_folder", at("")),
            ("write_data", at("")),
        ] {
            let told = runs(name, &place);
            assert!(told.contains("Permission denied"), "{name}: {told}");
        }
        for left in ["data/points/written-by-a-model", "models/faulty/written-by-a-model"] {
            assert!(!project.path(left).exists(), "{left}");
        }
    } else {
        eprintln!("skipped: this kernel has no Landlock");
    }
    if held.contains("no network") {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let told = runs("connect", &format!("model.faulty.where=\"{}\"", listener.local_addr().unwrap()));
        assert!(told.contains("a fit failed: faulty: crashed"), "{told}");
    } else {
        eprintln!("skipped: this machine has no name spaces");
    }
}

#[test]
fn what_a_program_left_running_ends_with_it() {
    if !has_python() {
        return;
    }
    let (project, _) = marked();
    for (index, fault) in ["children", "daemons"].iter().enumerate() {
        let seconds = format!("{}.{}", 1000 + index, std::process::id());
        let arguments = [
            "run",
            "experiments/points.toml",
            "--set",
            &format!("model.faulty.fault={fault}"),
            "--set",
            &format!("model.faulty.where=\"{seconds}\""),
        ];
        project.done(&arguments);
        assert_eq!(processes_with(&format!("sleep {seconds}")), Vec::<String>::new(), "{fault}");
    }
}

#[test]
fn a_program_sees_no_test_labels_no_flow_ids_and_nothing_of_our_process() {
    if !has_python() {
        return;
    }
    let (project, _) = marked();
    let held = confinement(&project);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_root = status.lines().any(|line| line.starts_with("CapEff") && !line.ends_with("\t0000000000000000"));
    let dropped = is_root && held.contains("no capabilities over other processes");
    // A shell that leaves a file with the labels open, as a notebook or a scheduler may, and an inheritable capability,
    // as a container may.
    let script = "exec 9< data/points/points.csv; setpriv --inh-caps +sys_ptrace true && \
                  exec setpriv --inh-caps +sys_ptrace --ambient-caps +sys_ptrace \"$0\" \"$@\"; exec \"$0\" \"$@\"";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(assert_cmd::cargo::cargo_bin("etcbench"))
        .args(["run", "experiments/points.toml", "--set", "model.faulty.fault=look_around"])
        .current_dir(project.path(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut folders = fs::read_dir(project.path("results")).unwrap().map(|entry| entry.unwrap().path());
    let folder = folders.find(|path| path.join("run.json").is_file()).unwrap();
    let run: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("run.json")).unwrap()).unwrap();
    let notes = run["fits"][0]["notes"].as_array().unwrap();
    let seen = notes.iter().find_map(|note| note.as_str()?.strip_prefix("faulty: {")).unwrap();
    let seen: serde_json::Value = serde_json::from_str(&format!("{{{seen}")).unwrap();
    let allowed = [
        "CUDA_VISIBLE_DEVICES",
        "ETCBENCH_MODEL_PROCESS",
        "HOME",
        "LANG",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "PATH",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
        "RAYON_NUM_THREADS",
        "TMPDIR",
        "VECLIB_MAXIMUM_THREADS",
    ];
    for name in seen["environment"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
        // A Python that is started by a script adds its own names.
        assert!(allowed.contains(&name) || name.contains("PYENV"), "{name}");
    }
    let keys: Vec<&str> = seen["request"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
    let known = [
        "checkpoint",
        "class_names",
        "device",
        "input",
        "message",
        "pad",
        "parameters",
        "scratch",
        "seconds",
        "seed",
        "statistic_names",
        "threads",
        "training",
        "validation",
    ];
    assert_eq!(keys, known);
    // The protocol's stream, saved aside, and what lists the folder: not the file of labels.
    assert!(seen["files"].as_u64().unwrap() <= 2, "{seen}");
    if dropped {
        let file_capabilities = (1 << 0) | (1 << 1) | (1 << 3) | (1 << 4);
        for (name, mask) in
            ["inherited", "permitted", "effective", "ambient"].iter().zip(seen["capabilities"].as_array().unwrap())
        {
            let mask = u64::from_str_radix(mask.as_str().unwrap(), 16).unwrap();
            assert_eq!(mask & !file_capabilities, 0, "{name}: {seen}");
        }
    }
    // It sees that this process runs, but reads neither its memory, where the labels are, nor its environment.
    assert!(seen["processes"].as_u64().unwrap() >= 1, "{seen}");
    if held.contains("files restricted by Landlock, no capabilities over other processes") {
        assert_eq!(seen["read"].as_array().unwrap().len(), 0, "{seen}");
    } else {
        eprintln!("skipped: this kernel has no Landlock, or setpriv is not here");
    }
}

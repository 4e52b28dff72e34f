//! User files are preserved: files in a results folder, an older run with other results, and the targets of output
//! paths: a link, a pipe, a device, a file that others may not read.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::common::{Project, contents, every_stage, small_experiment};

const RUN: [&str; 2] = ["run", "experiments/small.toml"];

/// A project with captures and a fast experiment.
fn project() -> Project {
    let project = every_stage::project();
    write_experiment(&project, 2);
    project
}

fn write_experiment(project: &Project, packets: usize) {
    let rest = "[model.random_forest]\ntrees = 4\n[variant.whole]\n[variant.short]\nflow = { idle_timeout = 2.5 }\n";
    let experiment = small_experiment("small", "kind", &["knn", "random_forest"], [packets, 24]);
    project.write("experiments/small.toml", experiment + rest);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns the runs in the results folder, sorted by name.
fn runs(project: &Project) -> Vec<String> {
    let entries = fs::read_dir(project.path("results")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("small-"));
    names.sort();
    names
}

/// Returns the content of a folder, by path.
fn bytes(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = every_stage::files(folder).into_iter();
    files.map(|path| (path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

#[test]
fn a_run_removes_nothing_that_it_did_not_write() {
    let project = project();
    let folder = project.path("results/small-small-full");
    project.done(&[&RUN[..], &["--save-models"]].concat());
    let user_files = ["notes.md", "plots/mine.svg", "tables/mine.csv", "models/mine.bin", "predictions.txt"];
    for name in user_files {
        project.write(&format!("results/small-small-full/{name}"), name);
    }
    fs::set_permissions(folder.join("notes.md"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("notes.md", folder.join("link.md")).unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    let keeps_user_files = |what: &str| {
        for name in user_files {
            assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), name, "{what}");
        }
        assert_eq!(folder.join("notes.md").metadata().unwrap().permissions().mode() & 0o777, 0o600, "{what}");
        assert!(folder.join("link.md").is_symlink() && folder.join("empty").is_dir(), "{what}");
    };
    let models = |run: &str| every_stage::files(&project.path(&format!("results/{run}/models"))).len();

    // A repeated run: no older run is kept, models and everything else stay.
    let first = contents_of_run(&folder);
    for more in [&[][..], &["--jobs", "2"], &["--overwrite"], &["--no-cache"]] {
        let again = project.done(&[&RUN[..], more].concat());
        assert!(!text(&again.stderr).contains("kept"), "{}", text(&again.stderr));
        keeps_user_files("the same again");
        assert_eq!((runs(&project).len(), models("small-small-full")), (1, 5), "{more:?}");
        assert!(contents_of_run(&folder) == first, "{more:?}");
    }
    // Tables that `etcbench tables` regenerates belong to the run.
    project.done(&["tables", "small"]);
    project.done(&RUN);
    assert_eq!(runs(&project).len(), 1);

    // Another experiment: the previous run is kept unchanged, with its models; the user's files stay.
    let before = bytes(&folder);
    write_experiment(&project, 3);
    let printed = text(&project.done(&RUN).stderr);
    assert!(
        printed.contains("small: older, different results are kept in ./results/small-small-full.1 (--overwrite"),
        "{printed}"
    );
    keeps_user_files("another experiment");
    assert_eq!(runs(&project), ["small-small-full", "small-small-full.1"]);
    assert_eq!((models("small-small-full"), models("small-small-full.1")), (1, 4));
    let kept = bytes(&project.path("results/small-small-full.1"));
    assert!(kept.iter().all(|(name, content)| before[name] == *content));
    assert_eq!(kept.len(), before.len() - user_files.len() - 1);
    for run in runs(&project) {
        let mut checked = Command::new("sha256sum");
        checked.args(["--check", "--quiet", "SHA256SUMS"]).current_dir(project.path(&format!("results/{run}")));
        if let Ok(output) = checked.output() {
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
    }

    // An edited table also belongs to the user, and its run is kept.
    fs::write(folder.join("tables/small.md"), "with a remark").unwrap();
    let printed = text(&project.done(&RUN).stderr);
    assert!(printed.contains("kept in ./results/small-small-full.2"), "{printed}");
    assert_eq!(
        fs::read_to_string(project.path("results/small-small-full.2/tables/small.md")).unwrap(),
        "with a remark"
    );
    assert!(fs::read_to_string(folder.join("tables/small.md")).unwrap().contains("| knn"));

    // On request, a run replaces the older one, and nothing else.
    write_experiment(&project, 1);
    let printed = text(&project.done(&[&RUN[..], &["--overwrite"]].concat()).stderr);
    assert!(!printed.contains("kept") && runs(&project).len() == 3, "{printed}");
    keeps_user_files("overwritten");
    // Also in units.
    write_experiment(&project, 2);
    let printed = text(&project.done(&[&RUN[..], &["--jobs", "2", "--overwrite"]].concat()).stderr);
    assert!(!printed.contains("kept") && runs(&project).len() == 3, "{printed}");
    write_experiment(&project, 3);
    let printed = text(&project.done(&[&RUN[..], &["--jobs", "2"]].concat()).stderr);
    assert!(printed.contains("kept in ./results/small-small-full.3"), "{printed}");
    assert!(project.path("results/small-small-full.3/units.json").is_file());
    keeps_user_files("in units");

    // The files of a run of an older version are identified by name.
    fs::remove_file(folder.join("SHA256SUMS")).unwrap();
    project.done(&RUN);
    assert_eq!(runs(&project).len(), 4);
    keeps_user_files("the same without a list");
    fs::remove_file(folder.join("SHA256SUMS")).unwrap();
    write_experiment(&project, 2);
    project.done(&RUN);
    assert!(project.path("results/small-small-full.4/records.csv").is_file());
    for name in ["notes.md", "plots/mine.svg", "models/mine.bin", "predictions.txt"] {
        assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), name);
    }
    // A file that may belong to the run by its name is in one of the two folders.
    assert!(project.path("results/small-small-full.4/tables/mine.csv").is_file());
}

/// Returns the files of the run, without those of the user and models.
fn contents_of_run(folder: &Path) -> BTreeMap<String, String> {
    let copy = tempfile::tempdir().unwrap();
    for path in every_stage::files(folder) {
        let name = path.strip_prefix(folder).unwrap();
        if !name.starts_with("models") && name.file_stem().is_some_and(|stem| stem != "mine") {
            fs::create_dir_all(copy.path().join(name).parent().unwrap()).unwrap();
            fs::copy(&path, copy.path().join(name)).unwrap();
        }
    }
    contents(copy.path())
}

#[test]
fn a_folder_that_is_no_run_is_not_replaced() {
    let project = project();
    project.write("results/small-small-full/records.csv", "mine");
    project.write("results/small-small-full/data.bin", "mine");
    let printed = text(&project.done(&RUN).stderr);
    assert!(printed.contains("kept in ./results/small-small-full.1"), "{printed}");
    assert_eq!(fs::read_to_string(project.path("results/small-small-full.1/records.csv")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(project.path("results/small-small-full/data.bin")).unwrap(), "mine");
    assert!(project.path("results/small-small-full/records.jsonl").is_file());
    fs::remove_dir_all(project.path("results/small-small-full")).unwrap();
    project.write("results/small-small-full", "mine");
    project.refused(&RUN, &["results/small-small-full", "is not a folder"]);
    assert_eq!(fs::read_to_string(project.path("results/small-small-full")).unwrap(), "mine");
}

#[test]
fn older_runs_are_recognised() {
    let project = project();
    project.done(&[&RUN[..], &["--save-models"]].concat());
    write_experiment(&project, 3);
    project.done(&RUN);
    let listed = text(&project.done(&["list", "runs"]).stdout);
    assert_eq!(listed.lines().filter(|line| !line.starts_with(' ')).count(), 2, "{listed}");
    assert_eq!(listed.matches(", older]").count(), 1, "{listed}");
    let models = text(&project.done(&["list", "models"]).stdout);
    assert_eq!(models.matches("small-small-full.1/models/").count(), 4, "{models}");
    let compared = project.etcbench(&["compare", "small-small-full.1", "small-small-full"]);
    assert_eq!(compared.status.code(), Some(1));
    assert!(text(&compared.stdout).contains("| feature.packets | 2     | 3      |"), "{}", text(&compared.stdout));
    let report = project.done(&["report"]);
    assert!(text(&report.stdout).contains("report.html: 1 run;"), "{}", text(&report.stdout));
    assert!(text(&report.stderr).contains("1 older run left out"), "{}", text(&report.stderr));
    let report = project.done(&["report", "small-small-full.1", "small-small-full"]);
    assert!(text(&report.stdout).contains("report.html: 2 runs") && !text(&report.stderr).contains("left out"));
    project.done(&["tables", "small"]);
    assert!(
        fs::read_to_string(project.path("results/small-small-full/experiment.toml")).unwrap().contains("packets = 3")
    );
}

/// Every option for an output file or folder, as in the help of its subcommand, and a command that writes it to `{}`.
const OUTPUTS: [(&str, &[&str]); 11] = [
    ("features --output", &["features", "data/small/one.pcap", "-o", "{}"]),
    ("features --output", &["features", "data/small/one.pcap", "--format", "csv", "-o", "{}"]),
    ("classify --output", &["classify", "model.safetensors", "data/small/one.pcap", "-o", "{}"]),
    ("split --output", &["split", "small", "--variants", "whole", "-o", "{}"]),
    ("data leaks --output", &["data", "leaks", "small", "--variants", "whole", "-o", "{}"]),
    ("report --output", &["report", "small-small-full", "--paper", "elsewhere", "-o", "{}"]),
    ("appendix --output", &["appendix", "small-small-full", "-o", "{}"]),
    ("data verify --manifest", &["data", "verify", "small", "--manifest", "{}"]),
    ("data labels --list", &["data", "labels", "small", "--list", "{}"]),
    ("data synth --output", &["data", "synth", "--packets", "50", "--active-flows", "5", "-o", "{}"]),
    (
        "pretrain --output",
        &[
            "pretrain",
            "small",
            "--like",
            "small",
            "--variants",
            "whole",
            "--set",
            r#"models=["attention_lstm"]"#,
            "-o",
            "{}",
        ],
    ),
];

/// Options for a file or folder that is read, or that cannot be written here.
const OTHERS: [&str; 15] = [
    "data verify --against",
    "pretrain --show",
    "export --output",
    "submission pack --output",
    "leaderboard --output",
    "model check --path",
    "data unpack --into",
    "data fetch --into",
    "data init --folder",
    "report --paper",
    "man --output",
    "features --relative-to",
    "split-flows --output",
    "gpu-check --csv",
    "--project",
];

fn with_output(project: &Project, arguments: &[&str], output: &str) -> Output {
    let arguments: Vec<&str> = arguments.iter().map(|&part| if part == "{}" { output } else { part }).collect();
    project.etcbench(&arguments)
}

fn output_project() -> Project {
    let project = project();
    project.done(&[&RUN[..], &["--save-models"]].concat());
    let model = "results/small-small-full/models/whole-random_forest-bytes-seed0.safetensors";
    fs::copy(project.path(model), project.path("model.safetensors")).unwrap();
    project
}

#[test]
fn an_output_goes_where_its_name_leads_to() {
    let project = output_project();
    let pipe = |name: &str| assert!(Command::new("mkfifo").arg(project.path(name)).status().unwrap().success());
    for (option, command) in OUTPUTS {
        let what = format!("{option} {command:?}");
        let write = |output: &str| {
            let done = with_output(&project, command, output);
            assert!(done.status.success(), "{what} {output}: {}", text(&done.stderr));
            done
        };
        for name in ["plain", "link", "dangling", "target", "made", "pipe", "-"] {
            let _ = fs::remove_file(project.path(name));
        }
        write("plain");
        let expected = fs::read(project.path("plain")).unwrap();
        assert!(!expected.is_empty(), "{what}");
        // A file keeps its mode.
        fs::write(project.path("plain"), "old").unwrap();
        fs::set_permissions(project.path("plain"), fs::Permissions::from_mode(0o600)).unwrap();
        write("plain");
        assert!(fs::read(project.path("plain")).unwrap() == expected, "{what}");
        assert_eq!(project.path("plain").metadata().unwrap().permissions().mode() & 0o777, 0o600, "{what}");
        // A link stays, and its target is written.
        project.write("target", "old");
        for (name, target) in [("link", "target"), ("dangling", "made")] {
            symlink(target, project.path(name)).unwrap();
            write(name);
            assert!(project.path(name).is_symlink(), "{what}");
            assert!(fs::read(project.path(target)).unwrap() == expected, "{what}");
        }
        // The reader of a pipe receives the output.
        pipe("pipe");
        let path = project.path("pipe");
        let reader = std::thread::spawn(move || fs::read(path).unwrap());
        write("pipe");
        assert!(reader.join().unwrap() == expected, "{what}");
        assert!(project.path("pipe").symlink_metadata().unwrap().file_type().is_fifo(), "{what}");
        // Standard output contains nothing else.
        for name in ["-", "/dev/stdout", "/dev/fd/1"] {
            assert!(write(name).stdout == expected, "{what} {name}");
        }
        assert!(!project.path("-").exists(), "{what}");
        // A folder is refused.
        fs::create_dir_all(project.path("folder")).unwrap();
        let refused = with_output(&project, command, "folder");
        assert_eq!(refused.status.code(), Some(2), "{what}");
        assert!(text(&refused.stderr).contains("is a folder; name a file"), "{what}: {}", text(&refused.stderr));
        assert_eq!(every_stage::leftovers(&project.path("")), Vec::<PathBuf>::new(), "{what}");
    }
}

/// Creates a device that behaves like /dev/null; `None` if that is not permitted.
fn device(project: &Project) -> Option<PathBuf> {
    let path = project.path("device");
    let made = Command::new("mknod").arg(&path).args(["c", "1", "3"]).stderr(Stdio::null()).status();
    let opened = || fs::File::options().write(true).open(&path).is_ok();
    (made.is_ok_and(|made| made.success()) && opened()).then_some(path)
}

#[test]
fn a_device_stays_a_device() {
    let project = output_project();
    let Some(device) = device(&project) else {
        println!("not run: no device can be made and opened here");
        return;
    };
    for (option, command) in OUTPUTS {
        let done = with_output(&project, command, "device");
        assert!(done.status.success(), "{option}: {}", text(&done.stderr));
        assert!(device.symlink_metadata().unwrap().file_type().is_char_device(), "{option}");
    }
}

#[test]
fn standard_output_is_written_from_where_it_is() {
    let project = output_project();
    let shell = |script: &str| {
        let output = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_etcbench")])
            .current_dir(project.path(""))
            .env_remove("ETCBENCH_DATA")
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {}", text(&output.stderr));
        output
    };
    shell("\"$0\" features data/small/one.pcap -o plain.csv");
    let plain = fs::read_to_string(project.path("plain.csv")).unwrap();
    for name in ["-", "/dev/stdout", "/proc/self/fd/1"] {
        project.write("log", "before\n");
        shell(&format!("\"$0\" features data/small/one.pcap --format csv -o {name} >> log; echo after >> log"));
        assert_eq!(fs::read_to_string(project.path("log")).unwrap(), format!("before\n{plain}after\n"), "{name}");
    }
    shell("\"$0\" features data/small/one.pcap --format csv -o /dev/fd/3 3> third");
    assert_eq!(fs::read_to_string(project.path("third")).unwrap(), plain);
    // If a reader closes the pipe, the program ends quietly.
    let output = shell("(\"$0\" data synth --packets 200000 -o -; echo $? >&2) | head -c 5 > /dev/null");
    assert_eq!(text(&output.stderr).lines().last(), Some("0"), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("etcbench: "), "{}", text(&output.stderr));
}

#[test]
fn captures_come_from_standard_input() {
    let project = output_project();
    let classify = ["classify", "model.safetensors", "-", "--decide-after", "end"];
    for arguments in [&["features", "-", "--format", "csv", "-o", "-"][..], &classify] {
        let output = assert_cmd::Command::cargo_bin("etcbench")
            .unwrap()
            .current_dir(project.path(""))
            .args(arguments)
            .write_stdin(fs::read(project.path("data/small/one.pcap")).unwrap())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout).lines().count(), 11, "{}", text(&output.stdout));
    }
    project.refused(&["features", "-", "-"], &["standard input is listed twice"]);
    project.refused(&["classify", "model.safetensors", "-", "/dev/stdin"], &["standard input is listed twice"]);
    for command in [&["features"][..], &["classify", "model.safetensors"]] {
        symlink("data/small/one.pcap", project.path("one")).unwrap();
        let arguments = [command, &["data/small/one.pcap", "-o", "one"]].concat();
        project.refused(&arguments, &["is both an input and the output"]);
        fs::remove_file(project.path("one")).unwrap();
    }
    project.refused(&["data", "synth", "-o", "-"], &["are written to a folder", "--packets"]);
}

#[test]
fn every_option_that_names_a_file_is_tried_here() {
    let project = Project::new();
    let mut found = Vec::new();
    let mut pending = vec![Vec::new()];
    while let Some(command) = pending.pop() {
        let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = text(&project.done(&arguments).stdout);
        let mut in_commands = false;
        for line in help.lines() {
            in_commands = line == "Commands:" || (in_commands && !line.is_empty());
            let word = line.split_whitespace().next().unwrap_or_default();
            let is_command = in_commands && line.starts_with("  ") && !line.starts_with("   ");
            if is_command && word != "help" && word != "Commands:" {
                pending.push([&command[..], &[word.to_owned()]].concat());
            }
            let names_one = ["<FILE>", "<PATH>", "<FOLDER>"].iter().any(|value| line.contains(value));
            if let Some(option) = line.split_whitespace().find(|word| word.starts_with("--") && names_one) {
                let name =
                    if option == "--project" { option.to_owned() } else { format!("{} {option}", command.join(" ")) };
                found.push(name);
            }
        }
    }
    // Hidden from help.
    found.push("gpu-check --csv".to_owned());
    found.sort();
    found.dedup();
    let mut known: Vec<String> = OUTPUTS.iter().map(|(option, _)| (*option).to_owned()).collect();
    known.extend(OTHERS.map(str::to_owned));
    known.sort();
    known.dedup();
    assert_eq!(found, known);
}

//! Runs every example of every `--help` in a shell, in a project where the names used by examples refer to something
//! small. Examples that cannot be run there, or have an exit code other than 0, are listed with the reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::every_stage::capture;

/// Datasets used in examples, each with the same few captures.
const DATASETS: [&str; 6] = ["synth", "lab", "iscxvpn2016", "ctu13", "ustc-tfc2016", "ndpi"];

fn dataset(name: &str) -> String {
    let downloads: String = ["1", "9"]
        .map(|part| {
            format!("[[download]]\nurl = \"https://example.org/{part}\"\npath = \"{part}.pcap\"\npart = \"{part}\"\n")
        })
        .concat();
    format!(
        "name = \"{name}\"\nlabel_columns = [\"kind\"]\n[files]\npatterns = [\"*.pcap\"]\n[[rule]]\nstem = \"^(?<kind>[a-z]+)\"\n{}",
        if name == "ctu13" { downloads } else { String::new() }
    )
}

/// Experiments used in examples.
const EXPERIMENTS: [&str; 10] = [
    "table1",
    "table2",
    "table3",
    "table4",
    "table5",
    "ablation-n",
    "tuning",
    "ustc-traffic",
    "ustc-application",
    "verify-models",
];

fn experiment(name: &str) -> String {
    let rest = match name {
        "ablation-n" => "[sweep.feature]\npackets = [2, 4]\n",
        "tuning" => "[tune]\nsearch = \"grid\"\nbudget = 2\n[tune.space.svm]\n[tune.space.random_forest]\n",
        _ => "[variant.random_split]\n[variant.without_shortcuts]\nfeature.masks = [\"ip_addresses\"]\n",
    };
    let models = match name {
        "table2" | "table3" => "[\"svm\", \"random_forest\", \"attention_lstm\"]",
        _ => "[\"svm\", \"random_forest\"]",
    };
    // The ladder of the examples is on `lab`: hundreds of fits.
    format!(
        "title = \"A small {name}\"\nseeds = [0]\nmodels = {models}\n[dataset]\nnames = [\"iscxvpn2016\"]\n[selection]\n\
         label = \"kind\"\n[feature]\npackets = 2\nbytes = 24\n[split]\nmethod = \"stratified\"\n[model.random_forest]\n\
         trees = 4\n[model.attention_lstm]\nlstm = 8\ndense = 8\nepochs = 1\nbatch = 8\n\
         elmo = {{ embedding = 4, hidden = 4, layers = 1, epochs = 1, batch = 8 }}\n[on.lab]\nmodels = [\"random_forest\"]\n{rest}"
    )
}

/// Examples that are not run, by prefix, with the reason.
const NOT_RUN: [(&str, &str); 14] = [
    ("tcpdump ", "it captures on an interface"),
    ("etcbench data synth --packets 10000000", "ten million packets take a minute"),
    ("etcbench data fetch ctu13 --part 1,9", "it downloads"),
    ("etcbench data fetch ctu13 --part 9  ", "it downloads"),
    ("etcbench model check", "it needs a Python with scikit-learn; external models have tests of their own"),
    ("etcbench import", "it needs predictions of another program, which `import` has tests for"),
    ("etcbench audit-data", "it needs arrays that others released, which `audit-data` has tests for"),
    ("etcbench features 'VPN-PCAPS-01.zip", "it needs the publisher's archive"),
    ("etcbench classify MODEL capture.pcapng --probabilities | csvlook", "csvlook is a program of others"),
    ("etcbench classify results/ustc-traffic-...", "a part of the name stands for others"),
    ("etcbench verify-models --device cuda", "it needs a graphics card"),
    ("etcbench verify-models", "two implementations agree within their bounds on more flows than are here"),
    ("etcbench reproduce all --slurm", "it needs Slurm"),
    ("etcbench run experiments/ablation-n.toml --slurm --partition", "it needs Slurm"),
];

/// Examples with an exit code other than 0, by prefix.
const ENDS: [(&str, i32); 4] = [
    // Results differ, as the help says.
    ("etcbench compare table2-synth-ci table2-synth-demo", 1),
    ("etcbench compare table2-synth-ci.1 table2-synth-ci", 1),
    // Where to go for data behind a form.
    ("etcbench data fetch iscxvpn2016", 1),
    // The paper's tables have impossible numbers.
    ("etcbench audit", 1),
];

/// Prepares the project before any example.
fn prepare(project: &Path) {
    let write = |path: &str, content: &[u8]| {
        let path = project.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    for name in DATASETS {
        write(&format!("data/{name}.toml"), dataset(name).as_bytes());
        for number in 1..=8_u16 {
            for (kind, port, length) in [("one", 1000, 60), ("two", 2000, 64)] {
                write(&format!("data/{name}/{kind}-{number}.pcap"), &capture(port + 100 * number, length + number));
            }
        }
    }
    for name in EXPERIMENTS {
        write(&format!("experiments/{name}.toml"), experiment(name).as_bytes());
    }
    for size in ["demo", "ci"] {
        write(&format!("experiments/sizes/{size}.toml"), b"seeds = [0]\n");
    }
    let capture = capture(1000, 60);
    for path in
        ["capture.pcap", "new.pcap", "capture.pcapng", "gre.pcap.gz", "captures/chat/a.pcap", "captures/mail/b.pcap"]
    {
        write(path, &capture);
    }
    write("captures/c.pcap.gz", &capture);
    write("captures/d.pcap", &capture);
    write("data/mine/e.pcap", &capture);
    write("mine.csv", b"row,metric,value\nchat,precision,0.956\nchat,recall,0.892\nchat,f1,0.923\n");
    for archive in ["Tor.tar.xz", "Session.zip"] {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(capture.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, "t.pcap", &capture[..]).unwrap();
        write(archive, &tar.into_inner().unwrap());
    }
    // Runs the steps that examples assume.
    for line in [
        "etcbench reproduce all --data synth --size demo",
        "etcbench run table2 --data synth --size ci --overwrite",
        "sed -i 's/trees = 4/trees = 2/' experiments/table2.toml && etcbench run table2 --data synth --size ci",
        "etcbench run table2 --save-models && cp results/table2-iscxvpn2016-full/models/random_split-random_forest-*.safetensors MODEL",
        "etcbench check table2 --update --write && etcbench check table2 --data synth --size ci --update --write",
        "mkdir -p ../before/results && cp -r results/table2-synth-ci ../before/results/",
        "etcbench data verify iscxvpn2016 --manifest ours.json && cp ours.json theirs.json",
        "etcbench split table2 --variants random_split -o split.csv",
        "etcbench run ablation-n --jobs 2",
        "etcbench pretrain table2 --variants without_shortcuts --seed 3 -o elmo.safetensors",
        "etcbench run table2 --data lab --size demo && etcbench submission pack table2-lab-demo -o table2.etcbundle",
        "mkdir leaderboard && etcbench submission pack table2-lab-demo -o leaderboard",
    ] {
        let output = shell(project, line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Runs a line like a user, with the program on the path and the project as home.
fn shell(folder: &Path, line: &str) -> Output {
    let binary = Path::new(env!("CARGO_BIN_EXE_etcbench")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(folder).env("PATH", path).env("HOME", folder).env_remove("ETCBENCH_DATA");
    command.output().unwrap()
}

#[test]
fn every_example_of_the_help_does_what_it_says() {
    let temporary = tempfile::tempdir().unwrap();
    let prepared = temporary.path().join("prepared");
    fs::create_dir(&prepared).unwrap();
    prepare(&prepared);
    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    let mut ran = 0;
    let (mut unused, mut ends): (Vec<&str>, Vec<&str>) =
        (NOT_RUN.map(|(begin, _)| begin).into(), ENDS.map(|(begin, _)| begin).into());
    for example in etcbench::cli::examples() {
        if let Some((begin, _)) = NOT_RUN.iter().find(|(begin, _)| example.starts_with(begin)) {
            unused.retain(|other| other != begin);
            continue;
        }
        // A remark follows several spaces, or a # as in a shell.
        let line = example.split("  ").next().unwrap().trim().to_owned();
        if !seen.insert(line.clone()) {
            continue;
        }
        let project = temporary.path().join("project");
        // Hard links suffice, since written files replace the previous ones.
        let copied = Command::new("cp").arg("-al").args([&prepared, &project]).status().unwrap();
        assert!(copied.success());
        // The outputs of these must not exist yet.
        for (begin, folder) in [("etcbench data synth", "captures"), ("etcbench data init", "data/mine")] {
            if line.starts_with(begin) {
                fs::remove_dir_all(project.join(folder)).unwrap();
            }
        }
        for folder in [".local/share/bash-completion/completions", ".config/fish/completions"] {
            fs::create_dir_all(project.join(folder)).unwrap();
        }
        let output = shell(&project, &line);
        let expected = ENDS.iter().find(|(begin, _)| line.starts_with(begin));
        if let Some((begin, _)) = expected {
            ends.retain(|other| other != begin);
        }
        if output.status.code() != Some(expected.map_or(0, |(_, code)| *code)) {
            faults.push(format!("{line}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
        }
        ran += 1;
        fs::remove_dir_all(&project).unwrap();
    }
    assert!(faults.is_empty(), "{} of {ran}:\n{}", faults.len(), faults.join("\n"));
    assert!(ran > 80, "{ran}");
    assert!(unused.is_empty() && ends.is_empty(), "no example begins so: {unused:?} {ends:?}");
}

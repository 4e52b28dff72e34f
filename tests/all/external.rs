//! External models work like built-in ones: caching, tuning, units, saved models and tables. A changed folder is a
//! different model, and unusable models are refused with one line.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::external::{add_model, has_python, project};
use crate::common::{Project, contents, every_stage, small_experiment};

/// Returns the line of standard error that counts fits, such as `2 fits, 1 of them from the cache`.
fn told(project: &Project, arguments: &[&str]) -> String {
    String::from_utf8_lossy(&project.done(arguments).stderr).into_owned()
}

#[test]
fn a_fit_is_cached_by_the_content_of_its_folder_and_by_its_keys() {
    if !has_python() {
        return;
    }
    let project = project();
    let run = ["run", "experiments/points.toml"];
    let reused = |arguments: &[&str], count: usize| {
        let told = told(&project, arguments);
        assert!(told.contains(&format!("2 fits, {count} of them from the cache")), "{told}");
    };
    reused(&run, 0);
    let first = contents(&project.path("results/points-points-full"));
    let table = &first["tables/points.csv"];
    assert!(table.contains("faulty,statistics,external,default,"), "{table}");
    let curve = first["records.csv"].lines().any(|line| line.contains("classes_training_loss,0.5"));
    assert!(curve, "the training curve is missing");
    reused(&run, 2);
    assert_eq!(first, contents(&project.path("results/points-points-full")));
    reused(&[&run[..], &["--set", "model.faulty.sharpness=2"]].concat(), 1);
    // Python's cache files are not part of the model; a new file is.
    project.write("models/faulty/__pycache__/main.pyc", "x");
    project.write("models/faulty/.hidden", "x");
    reused(&run, 2);
    project.write("models/faulty/notes.txt", "x");
    reused(&run, 1);
    fs::remove_file(project.path("models/faulty/notes.txt")).unwrap();
    reused(&run, 2);
    let main = fs::read_to_string(project.path("models/faulty/main.py")).unwrap();
    project.write("models/faulty/main.py", main + "\n# another\n");
    reused(&run, 1);
    // Without a cache the results are bit-identical.
    fs::remove_dir_all(project.path("results")).unwrap();
    project.done(&run);
    assert_eq!(first["predictions/default-faulty-statistics-seed0.csv"], {
        contents(&project.path("results/points-points-full"))["predictions/default-faulty-statistics-seed0.csv"].clone()
    });
}

#[test]
fn what_a_program_computes_with_is_in_the_key_of_every_fit_that_it_has_a_part_in() {
    if !has_python() {
        return;
    }
    let project = project();
    let manifest = fs::read_to_string(project.path("models/faulty/model.toml")).unwrap();
    let versions = |code: &str| {
        let versions = format!("versions = [\"python3\", \"-c\", \"{code}\"]\n[limits]\n");
        project.write("models/faulty/model.toml", manifest.replace("[limits]\n", &versions));
    };
    // A hidden file is not part of the folder's content.
    versions("print(open('.library').read())");
    let experiment = fs::read_to_string(project.path("experiments/points.toml")).unwrap();
    let ensemble = "[model.ensemble]\nof = [\"faulty\", \"majority\"]\n";
    let models = experiment.replace("\"majority\"]", "\"majority\", \"ensemble\"]");
    project.write("experiments/points.toml", models + ensemble);
    let reused = |count: usize| {
        let told = told(&project, &["run", "experiments/points.toml"]);
        assert!(told.contains(&format!("3 fits, {count} of them from the cache")), "{told}");
    };
    let library = |version: &str| project.write("models/faulty/.library", version);
    library("1.0");
    reused(0);
    reused(3);
    library("1.1");
    reused(1);
    let run = fs::read_to_string(project.path("results/points-points-full/run.json")).unwrap();
    assert!(run.contains("faulty: computed with 1.1"), "{run}");
    library("1.0");
    reused(3);
    // A failing command fails its fits; that of the other model succeeds.
    versions("import no_such_library");
    let output = project.etcbench(&["run", "experiments/points.toml", "--models", "faulty,majority"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("not_started") || told.contains("not started"), "{told}");
    assert!(told.contains("versions: python3 -c import no_such_library") && told.contains("1 fit failed"), "{told}");
    versions("");
    let told = project.etcbench(&["run", "experiments/points.toml", "--models", "faulty,majority"]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("it printed nothing"));
}

#[cfg(unix)]
#[test]
fn a_program_that_is_found_outside_the_folder_is_asked_for_its_version() {
    if !has_python() {
        return;
    }
    let project = project();
    let real = Command::new("python3").args(["-c", "import sys; print(sys.executable, end='')"]).output().unwrap();
    let real = String::from_utf8(real.stdout).unwrap();
    let path = format!("{}:{}", project.path("other/bin").display(), std::env::var("PATH").unwrap());
    let python = |answer: &str| {
        let script = format!("#!/bin/sh\n[ \"$1\" = --version ] && {{ {answer}; }}\nexec '{real}' \"$@\"\n");
        project.write("other/bin/python3", script);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(project.path("other/bin/python3"), mode).unwrap();
    };
    let reused = |count: usize| {
        let output = assert_cmd::Command::cargo_bin("etcbench")
            .unwrap()
            .args(["run", "experiments/points.toml"])
            .current_dir(project.path(""))
            .env("PATH", &path)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(&format!("2 fits, {count} of them from the cache")), "{told}");
    };
    python("echo Python 9.1; exit 0");
    reused(0);
    reused(2);
    python("echo Python 9.2; exit 0");
    reused(1);
    // Output on standard error makes no difference.
    python("echo Python 9.1 >&2; exit 0");
    reused(2);
    // One without versions is identified by its file.
    python("exit 2");
    reused(1);
    python("exit 3");
    reused(1);
    reused(2);
}

#[test]
fn tuning_seeds_folds_and_units_work_as_with_any_model() {
    if !has_python() {
        return;
    }
    let project = project();
    let text = fs::read_to_string(project.path("experiments/points.toml")).unwrap();
    let text = text.replace("seeds = [0]", "seeds = [0, 1]").replace(
        "method = \"stratified\"\ntrain = 0.5\nvalidation = 0.25\ntest = 0.25\n",
        "method = \"k_fold\"\nfolds = 2\n",
    ) + "[tune]\nsearch = \"grid\"\nbudget = 3\n[tune.space.faulty]\nsharpness = [0.5, 2.0]\n[tune.space.majority]\n";
    project.write("experiments/points.toml", text);
    project.done(&["run", "experiments/points.toml"]);
    let alone = contents(&project.path("results/points-points-full"));
    let records = &alone["records.csv"];
    assert_eq!(records.matches("tuning_chosen_macro_f1").count(), 4, "two seeds of two folds");
    assert!(alone["comparisons.csv"].contains("wilcoxon"));
    fs::remove_dir_all(project.path("results")).unwrap();
    project.done(&["run", "experiments/points.toml", "--jobs", "2"]);
    assert_eq!(alone, contents(&project.path("results/points-points-full")));
}

#[test]
fn a_failed_fit_in_a_unit_is_a_result_and_the_same_command_tries_it_again() {
    if !has_python() {
        return;
    }
    let project = project();
    let text = fs::read_to_string(project.path("experiments/points.toml")).unwrap();
    project.write(
        "experiments/points.toml",
        text.replace("seeds = [0]", "seeds = [0, 1]")
            + "[variant.sound]\n[variant.broken]\nmodel.faulty.fault = \"crash_fit\"\n",
    );
    for _ in 0..2 {
        let output = project.etcbench(&["run", "experiments/points.toml", "--jobs", "2"]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        let folder = project.path("results/points-points-full");
        let run: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("run.json")).unwrap()).unwrap();
        assert_eq!(run["failures"].as_array().unwrap().len(), 2, "{told}");
        assert_eq!(run["fits"].as_array().unwrap().len(), 6, "{told}");
        let table = fs::read_to_string(folder.join("tables/points.md")).unwrap();
        assert!(table.contains("faulty (statistics, broken) failed in 2 of 2 fits: crashed (2)"), "{table}");
    }
    // A setting that fails in tuning has no score; the others have one.
    let tuned =
        "[tune]\nsearch = \"grid\"\nbudget = 2\n[tune.space.faulty]\nfault = [\"crash_fit\"]\n[tune.space.majority]\n";
    project.write("experiments/points.toml", text + tuned);
    project.done(&["run", "experiments/points.toml"]);
    let records = fs::read_to_string(project.path("results/points-points-full/records.csv")).unwrap();
    assert!(records.contains("\"fault = \"\"crash_fit\"\"\",,tuning_macro_f1,\n"), "{records}");
}

#[test]
fn a_saved_model_classifies_captures_by_its_program() {
    if !has_python() {
        return;
    }
    let project = every_stage::project();
    add_model(&project, "tests/fixtures/external/faulty", "faulty");
    let experiment = small_experiment("small", "kind", &["faulty"], [2, 24])
        + "[model.faulty]\ninput = [\"bytes\", \"all\"]\n[feature.sequences]\npackets = 3\n";
    project.write("experiments/small.toml", experiment);
    project.done(&["run", "experiments/small.toml", "--save-models"]);
    for input in ["bytes", "all"] {
        let model = format!("results/small-small-full/models/default-faulty-{input}-seed0.safetensors");
        project.done(&["classify", &model, "data/small/one.pcap", "--probabilities", "-o", "flows.csv"]);
        let flows = fs::read_to_string(project.path("flows.csv")).unwrap();
        let predictions = format!("results/small-small-full/predictions/default-faulty-{input}-seed0.csv");
        let predictions = fs::read_to_string(project.path(&predictions)).unwrap();
        // The test flows of this capture have the same predictions as in the run.
        let mut compared = 0;
        for line in predictions.lines().skip(1).filter(|line| line.contains("one.pcap")) {
            let number = line.split(',').next().unwrap().rsplit('#').next().unwrap().to_owned();
            let probability = line.rsplit(',').next().unwrap();
            let flow = flows.lines().find(|flow| flow.split(',').next().unwrap().ends_with(&format!("#{number}")));
            assert_eq!(flow.unwrap().rsplit(',').next(), Some(probability), "{line}");
            compared += 1;
        }
        assert!(compared > 0, "{predictions}");
    }
    let main = fs::read_to_string(project.path("models/faulty/main.py")).unwrap();
    project.write("models/faulty/main.py", main + "\n# another\n");
    let model = "results/small-small-full/models/default-faulty-bytes-seed0.safetensors";
    project.refused(&["classify", model, "data/small/one.pcap"], &["a different content", "models/faulty"]);
    fs::remove_dir_all(project.path("models")).unwrap();
    project.refused(&["classify", model, "data/small/one.pcap"], &["faulty"]);
}

#[test]
fn a_program_that_fails_to_load_its_model_is_named() {
    if !has_python() {
        return;
    }
    let project = every_stage::project();
    add_model(&project, "tests/fixtures/external/faulty", "faulty");
    let model = "results/small-small-full/models/default-faulty-bytes-seed0.safetensors";
    for (fault, word) in [
        ("crash_load", "exit code 3 before `loaded`"),
        ("error_load", "cannot go on"),
        ("garbage_load", "is not a message"),
        ("wrong_message_load", "`saved` instead of `loaded`"),
    ] {
        let keys = format!("[model.faulty]\ninput = \"bytes\"\nfault = \"{fault}\"\n");
        project.write("experiments/small.toml", small_experiment("small", "kind", &["faulty"], [2, 24]) + &keys);
        project.done(&["run", "experiments/small.toml", "--save-models", "--overwrite"]);
        project.refused(&["classify", model, "data/small/one.pcap"], &["faulty", word]);
    }
}

#[cfg(unix)]
#[test]
fn a_fit_that_was_killed_goes_on_from_its_checkpoint_and_one_that_failed_does_not() {
    if !has_python() {
        return;
    }
    let project = project();
    let run = ["run", "experiments/points.toml", "--checkpoint-seconds", "0", "--set", "model.faulty.fault=resumes"];
    let artifacts = || fs::read_dir(project.path("results/cache/artifacts")).into_iter().flatten().count();
    // Kept with the file of the last step, not only with the one that is about to replace it.
    let is_kept = || {
        let entries = fs::read_dir(project.path("results/cache/artifacts")).into_iter().flatten().flatten();
        // What is still being written does not count.
        let whole = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with(".partial-"));
        whole.filter_map(|entry| fs::read(entry.path()).ok()).any(|content| {
            let name = b"\"file/step\"";
            content.windows(name.len()).any(|bytes| bytes == name)
        })
    };
    // Where the program began, by its notes, or by its standard error if it failed.
    let step = || -> u32 {
        let mut folders = fs::read_dir(project.path("results")).unwrap().map(|entry| entry.unwrap().path());
        let folder = folders.find(|path| path.join("run.json").is_file()).unwrap();
        let text = fs::read_to_string(folder.join("run.json")).unwrap();
        fs::remove_dir_all(folder).unwrap();
        let after = text.split("begun at step ").nth(1).unwrap();
        after.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    // SIGTERM removes the program's folders, and with many files that takes a while.
    for (signal, place) in [("-KILL", "model.faulty.where=anywhere"), ("-TERM", "model.faulty.where=many_files")] {
        let run = [&run[..], &["--set", place]].concat();
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("etcbench"))
            .args(&run)
            .current_dir(project.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while !is_kept() && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(is_kept(), "{signal}");
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        child.wait().unwrap();
        project.done(&run);
        assert!(step() > 0, "{signal}");
        assert_eq!(artifacts(), 0, "the checkpoint of a stored fit is removed");
    }
    // Failures during the fit, and afterwards.
    for place in ["model.faulty.where=crash", "model.faulty.where=predict"] {
        for _ in 0..2 {
            assert_eq!(project.etcbench(&[&run[..], &["--set", place]].concat()).status.code(), Some(1));
            assert_eq!(step(), 0, "{place}");
        }
        assert_eq!(artifacts(), 0, "{place}");
    }
    project.done(&[&run[..2], &["--no-cache", "--set", "model.faulty.fault=resumes"]].concat());
    assert_eq!(step(), 0);
}

#[cfg(unix)]
#[test]
fn a_link_in_place_of_the_checkpoint_folder_leads_nowhere() {
    if !has_python() {
        return;
    }
    let project = project();
    let labels = format!("model.faulty.where={}", project.path("data/points").display());
    let fault = "model.faulty.fault=linked_checkpoint";
    let run = ["run", "experiments/points.toml", "--checkpoint-seconds", "0", "--set", fault, "--set", &labels];
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("etcbench"))
        .args(run)
        .current_dir(project.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Everything that is kept at any time during the fit.
    let name = b"points.csv";
    while child.try_wait().unwrap().is_none() {
        let entries = fs::read_dir(project.path("results/cache/artifacts")).into_iter().flatten().flatten();
        for content in entries.filter_map(|entry| fs::read(entry.path()).ok()) {
            assert!(!content.windows(name.len()).any(|bytes| bytes == name), "the labels are in the checkpoint");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let mut folders = fs::read_dir(project.path("results")).unwrap().map(|entry| entry.unwrap().path());
    let run = folders.find_map(|path| fs::read_to_string(path.join("run.json")).ok()).unwrap();
    assert!(run.contains("its last checkpoint was not kept: ") && run.contains("is no longer a folder"), "{run}");
}

#[test]
fn members_of_an_ensemble_that_are_one_model_have_checkpoints_of_their_own() {
    if !has_python() {
        return;
    }
    let project = every_stage::project();
    add_model(&project, "tests/fixtures/external/faulty", "faulty");
    let experiment = small_experiment("small", "kind", &["ensemble"], [2, 24])
        + "[model.ensemble]\nof = [\"faulty\"]\n[model.faulty]\ninput = [\"bytes\", \"statistics\"]\n\
           fault = \"resumes\"\n";
    project.write("experiments/small.toml", experiment);
    let told = told(&project, &["run", "experiments/small.toml", "--checkpoint-seconds", "0"]);
    let run = fs::read_to_string(project.path("results/small-small-full/run.json")).unwrap();
    assert_eq!(run.matches("begun at step 0").count(), 2, "{told}");
    assert_eq!(run.matches("begun at step ").count(), 2, "{run}");
}

#[test]
fn what_a_program_says_of_its_speed_stands_beside_what_is_measured() {
    if !has_python() {
        return;
    }
    let project = project();
    let fit = || -> serde_json::Value {
        project.done(&["run", "experiments/points.toml"]);
        let run = fs::read(project.path("results/points-points-full/run.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&run).unwrap()["fits"][0].clone()
    };
    assert!(fit().get("claims").is_none());
    let manifest = fs::read_to_string(project.path("models/faulty/model.toml")).unwrap();
    let manifest =
        manifest.replace("\"MARK\"", "\"MARK\", \"claims\"").replace("= \"none\"\ninputs", "= \"a corpus\"\ninputs");
    project.write("models/faulty/model.toml", manifest);
    let fit = fit();
    assert!(fit["notes"].to_string().contains("faulty: pre-trained, by its own account: a corpus"), "{fit}");
    assert_eq!(fit["claims"], serde_json::json!({"fit_seconds": 0.25, "microseconds_per_flow": 12.5}));
    assert!(fit["fit"]["wall_seconds"].as_f64().unwrap() > 0.0);
    assert!(fit["notes"].to_string().contains("by its own account 12.5 µs per flow"), "{fit}");
}

#[test]
fn a_model_may_be_anywhere_and_what_cannot_be_used_is_refused_in_a_line() {
    if !has_python() {
        return;
    }
    let project = project();
    add_model(&project, "tests/fixtures/external/faulty", "../elsewhere/mine");
    let run = ["run", "experiments/points.toml", "--models"];
    let with = |more: &[&'static str]| [&run[..], more].concat();
    project.done(&with(&["mine", "--set", "model.mine.path=elsewhere/mine", "--set", "model.mine.fit_seconds=60"]));
    project.refused(&with(&["mine", "--set", "model.mine.path=elsewhere"]), &["elsewhere/model.toml"]);
    project.refused(&with(&["mine", "--set", "model.mine.path=3"]), &["path = 3"]);
    project.refused(&with(&["fautly"]), &["unknown value `fautly`", "did you mean `faulty`?"]);
    project.refused(&with(&["faulty", "--set", "model.faulty.sharpnes=2"]), &["did you mean `sharpness`?"]);
    project.refused(&with(&["faulty", "--set", "model.faulty.sharpness=soft"]), &["it must be a float"]);
    project.refused(&with(&["faulty", "--set", "model.faulty.memory=much"]), &["is not a size"]);
    project.refused(&with(&["faulty", "--set", "model.faulty.fit_seconds=0"]), &["above 0"]);
    project.refused(&with(&["faulty", "--set", "model.faulty.implementation=reference"]), &["one implementation"]);
    project.refused(&with(&["faulty", "--set", "model.faulty.input=sequences_and_statistics"]), &["does not read"]);
    add_model(&project, "tests/fixtures/external/faulty", "majority");
    project.refused(&with(&["majority"]), &["models/majority has the name of a built-in model"]);
    fs::remove_dir_all(project.path("models/majority")).unwrap();
    let manifest = fs::read_to_string(project.path("models/faulty/model.toml")).unwrap();
    let weights = "\n[[weights]]\nfile = \"main.py\"\nsha256 = \"";
    project.write("models/faulty/model.toml", format!("{manifest}{weights}{}\"\n", "0".repeat(64)));
    project.refused(&with(&["faulty"]), &["weights", "SHA-256 is"]);
    project.write("models/faulty/model.toml", manifest.replace("licence", "license"));
    project.refused(&with(&["faulty"]), &["models/faulty/model.toml, line 4", "did you mean `licence`?"]);
}

/// Returns the lines of the transcript in the protocol's page, each with its sender.
fn transcript() -> Vec<(bool, String)> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/models/PROTOCOL.md");
    let page = fs::read_to_string(page).unwrap();
    let block = page.split("```transcript\n").nth(1).unwrap().split("```").next().unwrap();
    let line = |line: &str| Some((line.starts_with("> "), line.get(2..)?.to_owned()));
    block.lines().filter(|text| text.starts_with(['>', '<'])).filter_map(line).collect()
}

/// Writes a matrix or a list of numbers as a `.npy` file.
fn npy(descr: &str, shape: &str, values: &[Vec<u8>]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.into_bytes());
    bytes.extend(values.concat());
    bytes
}

#[test]
fn the_transcript_of_the_protocol_is_what_a_program_says() {
    if !has_python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    fs::create_dir(place("data")).unwrap();
    fs::create_dir_all(place("scratch/saved")).unwrap();
    let numbers = |values: &[f64]| values.iter().map(|value| value.to_le_bytes().to_vec()).collect::<Vec<_>>();
    let labels = |values: &[u32]| values.iter().map(|value| value.to_le_bytes().to_vec()).collect::<Vec<_>>();
    let four = numbers(&[1.0, 2.0, 1.5, 2.0, 8.0, 1.0, 9.0, 1.0]);
    fs::write(place("data/training-statistics.npy"), npy("<f8", "4, 2", &four)).unwrap();
    fs::write(place("data/training-labels.npy"), npy("<u4", "4,", &labels(&[0, 0, 1, 1]))).unwrap();
    fs::write(place("data/validation-statistics.npy"), npy("<f8", "1, 2", &four[..2])).unwrap();
    fs::write(place("data/validation-labels.npy"), npy("<u4", "1,", &labels(&[0]))).unwrap();
    fs::write(place("data/predict-1-statistics.npy"), npy("<f8", "2, 2", &four[2..6])).unwrap();
    let main = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/external/faulty/main.py");
    let mut child = Command::new("python3").arg(main).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut lines) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
    let mut heard = 0;
    for (is_asked, line) in transcript() {
        if is_asked {
            let line = line.replace("/tmp/etcbench-model-x", folder.path().to_str().unwrap());
            writeln!(stdin, "{line}").unwrap();
        } else {
            let said: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            assert_eq!(said, serde_json::from_str::<serde_json::Value>(&line).unwrap());
            heard += 1;
        }
    }
    assert!(heard >= 5 && child.wait().unwrap().success() && place("scratch/answer-1.npy").is_file());
}

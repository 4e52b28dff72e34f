//! Live captures through the real binary: flows are classified while the pipe is open, and nothing is lost when it
//! closes or on Ctrl-C.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::common::Project;
use crate::common::every_stage::{RUN, project};

/// Much longer than a decision takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A project with a model on bytes and one on statistics.
fn project_with_models() -> Project {
    let project = project();
    project.done(&[&RUN[..], &["--save-models"]].concat());
    for (name, model) in [("bytes", "random_forest-bytes"), ("statistics", "knn-statistics")] {
        let saved = project.path(&format!("results/small-small-full/models/whole-{model}-seed0.safetensors"));
        fs::copy(saved, project.path(&format!("{name}.safetensors"))).unwrap();
    }
    project
}

/// A process of `classify` that reads a pipe.
struct Live {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Live {
    fn start(project: &Project, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_etcbench"))
            .args([&["classify"], more, &["-"]].concat())
            .current_dir(project.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let input = child.stdin.take();
        Self { child, input, lines }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
        self.input.as_mut().unwrap().flush().unwrap();
    }

    fn next(&self) -> Vec<String> {
        let line = self.lines.recv_timeout(PATIENCE).expect("a line while the pipe is open");
        line.split(',').map(str::to_owned).collect()
    }

    /// Returns the remaining lines, standard error, and the exit status.
    fn end(mut self) -> (Vec<Vec<String>>, String, ExitStatus) {
        drop(self.input.take());
        let rest = self.lines.iter().map(|line| line.split(',').map(str::to_owned).collect()).collect();
        let output = self.child.wait_with_output().unwrap();
        (rest, String::from_utf8(output.stderr).unwrap(), output.status)
    }
}

/// Returns the number of bytes of the header and of the packets of the first flow.
fn first_flow(capture: &[u8]) -> usize {
    (0..4).fold(24, |place, _| {
        place + 16 + u32::from_le_bytes(capture[place + 8..place + 12].try_into().unwrap()) as usize
    })
}

#[test]
fn flows_are_decided_while_the_capture_is_written() {
    let project = project_with_models();
    let capture = fs::read(project.path("data/small/one.pcap")).unwrap();
    let mut live = Live::start(&project, &["bytes.safetensors"]);
    let first = first_flow(&capture);
    live.write(&capture[..first]);
    assert_eq!(live.next()[..2], ["event", "flow_id"]);
    // The pipe is open, and no flow has ended.
    let decided = live.next();
    assert_eq!(decided[0], "decision");
    live.write(&capture[first..]);
    let (mut lines, printed, status) = live.end();
    assert!(status.success(), "{printed}");
    assert!(printed.contains("10 flows") && printed.contains("10 answers in "), "{printed}");
    lines.insert(0, decided);
    let events = |event: &str| -> Vec<(String, String)> {
        let lines = lines.iter().filter(|line| line[0] == event);
        lines.map(|line| (line[2].clone(), line[9].clone())).collect()
    };
    let (decisions, mut ends) = (events("decision"), events("end"));
    assert_eq!((decisions.len(), ends.len()), (10, 10));
    ends.sort();
    let mut decided = decisions;
    decided.sort();
    // By source: each decision equals the class at the flow's end and the class from the capture as a file.
    assert_eq!(decided, ends);
    let file =
        String::from_utf8(project.done(&["classify", "bytes.safetensors", "data/small/one.pcap"]).stdout).unwrap();
    let fields = file.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let mut of_file: Vec<(String, String)> = fields.map(|line| (line[1].clone(), line[8].clone())).collect();
    of_file.sort();
    assert_eq!(of_file, ends);
    // At its decision a flow has the packets that the model reads, and at its end all packets.
    for line in &lines {
        assert_eq!(line[7], if line[0] == "decision" { "2" } else { "4" }, "{line:?}");
    }
}

#[test]
fn a_model_on_whole_flows_decides_at_their_end() {
    let project = project_with_models();
    let capture = fs::read(project.path("data/small/one.pcap")).unwrap();
    let mut live = Live::start(&project, &["statistics.safetensors"]);
    live.write(&capture);
    let (lines, printed, status) = live.end();
    assert!(status.success() && printed.contains("this model needs features of complete flows"), "{printed}");
    assert_eq!(lines.len(), 11);
    assert!(lines[1..].iter().all(|line| line[0] == "end"), "{lines:?}");
    // One line per flow and no events, as for a file.
    let mut live = Live::start(&project, &["bytes.safetensors", "--decide-after", "end"]);
    live.write(&capture);
    let (lines, ..) = live.end();
    assert_eq!((lines.len(), lines[0][0].as_str()), (11, "flow_id"));
    // Flows of a file can also be decided early.
    let early = ["classify", "bytes.safetensors", "data/small/one.pcap", "--decide-after", "packets"];
    let output = String::from_utf8(project.done(&early).stdout).unwrap();
    assert_eq!(output.lines().filter(|line| line.starts_with("decision,")).count(), 10, "{output}");
    assert_eq!(output.lines().count(), 21);
}

#[test]
fn control_c_ends_the_capture_and_loses_no_flow() {
    let project = project_with_models();
    let capture = fs::read(project.path("data/small/one.pcap")).unwrap();
    let mut live = Live::start(&project, &["bytes.safetensors"]);
    live.write(&capture);
    for _ in 0..11 {
        live.next();
    }
    let process = live.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &process]).status().unwrap().success());
    let ends: Vec<String> = (0..10).map(|_| live.next()[0].clone()).collect();
    assert_eq!(ends, ["end"; 10]);
    // The pipe is still open.
    let status = live.child.wait().unwrap();
    assert!(status.success(), "{status}");
}

/// By source: class and probability of each flow, of lines whose first column is the id.
fn answers(lines: &[Vec<String>]) -> Vec<[String; 3]> {
    let mut answers: Vec<[String; 3]> = lines.iter().map(|line| [1, 8, 9].map(|column| line[column].clone())).collect();
    answers.sort();
    answers
}

#[test]
fn no_flow_is_decided_before_the_packets_are_there_that_decide_it() {
    let project = project();
    let capture = fs::read(project.path("data/small/one.pcap")).unwrap();
    // Flows have four packets. A flow with fewer packets than the minimum has no class yet; with payloads the model may
    // read any kept packet, so flows are only classified at their end.
    for (set, decided) in [
        ("selection.minimum_packets=3", Some("3")),
        ("selection.minimum_packets=4", Some("4")),
        ("feature.packet_start=\"payload\"", None),
    ] {
        let run = ["--models", "random_forest", "--save-models", "--variants", "whole", "--set", set];
        project.done(&[&RUN[..], &run].concat());
        let folders = fs::read_dir(project.path("results")).unwrap().map(|entry| entry.unwrap().path());
        let model = |folder: std::path::PathBuf| folder.join("models/whole-random_forest-bytes-seed0.safetensors");
        let model = folders.map(model).find(|path| path.is_file()).unwrap();
        fs::rename(&model, project.path("model.safetensors")).unwrap();
        let mut live = Live::start(&project, &["model.safetensors"]);
        live.write(&capture);
        let (lines, printed, status) = live.end();
        assert!(status.success(), "{set}: {printed}");
        let (decisions, ends): (Vec<_>, Vec<_>) = lines[1..].iter().cloned().partition(|line| line[0] == "decision");
        assert_eq!(decisions.len(), if decided.is_some() { 10 } else { 0 }, "{set}");
        assert!(decisions.iter().all(|line| Some(line[7].as_str()) == decided), "{set}: {decisions:?}");
        let without_event: Vec<Vec<String>> = ends.iter().map(|line| line[1..].to_vec()).collect();
        let file = String::from_utf8(project.done(&["classify", "model.safetensors", "data/small/one.pcap"]).stdout);
        let fields = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
        let file: Vec<Vec<String>> = file.unwrap().lines().skip(1).map(fields).collect();
        assert_eq!(answers(&without_event), answers(&file), "{set}");
        assert!(file.iter().all(|line| !line[8].is_empty()), "{set}: {file:?}");
    }
}

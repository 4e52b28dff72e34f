//! The versions that a model's program computes with, of its interpreter and libraries. The folder's content does not
//! include them, and another version produces other bits, so they are part of every cache key. The manifest gives a
//! command that prints them; without one, a program that is installed outside the folder is asked for its own version.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::confine::{self, Launch};
use super::package::Package;
use super::{digest, processes};
use etcbench_storage::TemporaryFolder;

/// Maximum length of an answer in bytes.
const LONGEST_ANSWER: u64 = 1 << 16;

/// Argument for a program without a command in the manifest.
const QUESTION: &str = "--version";

impl Package {
    /// Returns the versions that the program computes with, queried once per process: a few lines, or empty if the
    /// program is in the folder and the manifest gives no command.
    ///
    /// # Errors
    /// Why they are not available, on one line; then either the program cannot run, or the manifest's command is wrong.
    pub fn versions(&self) -> Result<String, String> {
        static ASKED: Mutex<BTreeMap<String, Result<String, String>>> = Mutex::new(BTreeMap::new());
        let key = format!("{} {}", self.digest, self.folder.display());
        let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
        asked.entry(key).or_insert_with(|| self.ask_versions()).clone()
    }

    /// Returns what determines a fit in addition to its keys and data: the folder's content, the model's own version,
    /// and the versions that it computes with. If these are not available, the model cannot be fitted.
    pub fn identity(&self) -> [String; 3] {
        let versions = self.versions().unwrap_or_else(|problem| format!("unknown: {problem}"));
        [self.digest.clone(), self.manifest.version.clone(), versions]
    }

    fn ask_versions(&self) -> Result<String, String> {
        let declared = &self.manifest.versions;
        if !declared.is_empty() {
            return self.answer(declared).map_err(|problem| format!("versions: {}: {problem}", declared.join(" ")));
        }
        let program = &self.manifest.run[0];
        if program.contains('/') && Path::new(program).is_relative() {
            return Ok(String::new());
        }
        self.answer(&[program.clone(), QUESTION.to_owned()]).or_else(|_| {
            let found = confine::find_program(program).ok_or_else(|| format!("program {program} not found"))?;
            Ok(format!("{program}: sha256 {}", hex::encode(digest::of_file(&found)?)))
        })
    }

    /// Returns what a command prints, run like the model's program.
    fn answer(&self, command: &[String]) -> Result<String, String> {
        let folders =
            TemporaryFolder::new(super::FOLDER_PREFIX).map_err(|error| format!("a temporary folder: {error}"))?;
        let guard = confine::Removed::at_the_end(folders.path());
        let (data, scratch) = (folders.path().join("data"), folders.path().join("scratch"));
        for folder in [&data, &scratch] {
            std::fs::create_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let nonce = format!("{}-versions", std::process::id());
        let launch = Launch {
            package: self,
            command,
            data: &data,
            scratch: &scratch,
            threads: 1,
            card: None,
            memory: None,
            own_processes: true,
            nonce: &nonce,
        };
        let running = confine::start(&launch)?;
        drop(running.stdin);
        let (output, errors) = (read(running.stdout), read(running.stderr));
        let patience = Duration::from_secs_f64(self.manifest.limits.start_seconds);
        let ended = running.ended.recv_timeout(patience);
        // Processes it left running would keep its streams open.
        processes::kill_group(running.leader);
        if !running.confinement.processes {
            processes::kill_marked(&running.mark);
        }
        let (output, errors) = (output.join().unwrap_or_default(), errors.join().unwrap_or_default());
        drop(guard);
        let status = ended
            .map_err(|_| format!("no answer within {} s (limits.start_seconds)", patience.as_secs_f64()))?
            .map_err(|error| error.to_string())?;
        if !status.success() {
            let last = errors.trim_end().lines().last().map_or_else(String::new, |line| format!(": {line}"));
            return Err(format!("it ended with {status}{last}"));
        }
        // Some programs print their version to standard error.
        let answer = [output.trim(), errors.trim()].into_iter().find(|text| !text.is_empty());
        answer.map(str::to_owned).ok_or_else(|| "it printed nothing".to_owned())
    }
}

/// Reads a stream to its end, keeping the beginning.
fn read(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let _ = (&mut stream).take(LONGEST_ANSWER).read_to_end(&mut kept);
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
        String::from_utf8_lossy(&kept).into_owned()
    })
}

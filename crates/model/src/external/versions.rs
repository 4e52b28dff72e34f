//! The versions that a model's program computes with: of its interpreter, of libraries. The folder's content does not say
//! them, and another version gives other bits, so they are a part of every key of the cache. The manifest names a command
//! that prints them; without one, a program that is found outside the folder is asked for its own.

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

/// The most bytes of an answer.
const LONGEST_ANSWER: u64 = 1 << 16;

/// What a program without a command in the manifest is asked.
const QUESTION: &str = "--version";

impl Package {
    /// The versions that its program computes with, asked once per process: a few lines, empty for a program that is in the
    /// folder and whose manifest names no command.
    ///
    /// # Errors
    /// Why they cannot be had, in a line; the program can then not be run either, or the manifest's command is wrong.
    pub fn versions(&self) -> Result<String, String> {
        static ASKED: Mutex<BTreeMap<String, Result<String, String>>> = Mutex::new(BTreeMap::new());
        let key = format!("{} {}", self.digest, self.folder.display());
        let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
        asked.entry(key).or_insert_with(|| self.ask_versions()).clone()
    }

    /// What determines a fit beside its keys and data: the folder's content, the model's own version, and the versions that it
    /// computes with. Where these cannot be had there is no fit.
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
            let found = confine::find_program(program).ok_or_else(|| format!("there is no program {program}"))?;
            Ok(format!("{program}: sha256 {}", hex::encode(digest::of_file(&found)?)))
        })
    }

    /// What a command prints, run as the model's program is.
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
        // Whatever it left running would keep its streams open.
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
        // Some print their version to standard error.
        let answer = [output.trim(), errors.trim()].into_iter().find(|text| !text.is_empty());
        answer.map(str::to_owned).ok_or_else(|| "it printed nothing".to_owned())
    }
}

/// Reads a stream to its end, and keeps the beginning.
fn read(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let _ = (&mut stream).take(LONGEST_ANSWER).read_to_end(&mut kept);
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
        String::from_utf8_lossy(&kept).into_owned()
    })
}

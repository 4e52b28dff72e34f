//! `synth`: captures generated from a seed, with real header layouts, for demonstrations, scale tests and fault tests.
//! They are processed in the same way as real captures.
//!
//! [`generate`] writes one folder of small pcap files. A capture contains conversations of one class, which is part of
//! its path:
//!
//! ```text
//! <tunnel>/<traffic>-<tunnel>-<category>-<application>-<index>.pcap
//! non_vpn/normal-non_vpn-voip-facebook-003.pcap
//! ```
//!
//! [`CAPTURE_STEM`] extracts the label columns from the file's stem. [`generate_large`] writes one capture of any
//! number of packets in bounded memory.

mod capture_file;
mod certificate;
mod classes;
mod conversation;
mod draw;
mod large;
mod media;
mod network;
mod openvpn;
mod path;
mod pcap;
mod plain;
mod quic;
mod shape;
mod ssh;
mod tcp;
mod tls;
mod wire;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use etcbench_storage as storage;
use etcbench_storage::progress::Progress;

pub use classes::{CLASSES, SynthClass};
pub use large::{LargeOptions, LargeSummary, generate_large};

/// The regular expression that extracts `traffic`, `tunnel`, `category`, `application` and `index` from the stem of a
/// generated capture's file name.
pub const CAPTURE_STEM: &str = "^(?P<traffic>normal|botnet)-(?P<tunnel>non_vpn|vpn|tor)-(?P<category>[a-z]+)-(?P<application>[a-z_]+)-(?P<index>[0-9]{3})$";

/// Client ports do not repeat within this many conversations of a capture.
const MAXIMUM_FLOWS_PER_CAPTURE: usize = 4096;
/// The capture's index has three digits in file names.
const MAXIMUM_CAPTURES_PER_CLASS: usize = 1000;

/// Options of the generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SynthOptions {
    /// The seed; the same options produce the same bytes.
    pub seed: u64,
    /// Conversations of each class over all its captures, rounded up to a multiple of `captures_per_class`.
    pub flows_per_class: usize,
    /// Number of captures of each class.
    pub captures_per_class: usize,
    /// Probability that a conversation is background traffic that every host produces (names, time, web services),
    /// whatever its class: such flows cannot be distinguished from those of other classes by their content.
    pub background: f64,
}

impl Default for SynthOptions {
    fn default() -> Self {
        Self { seed: 0, flows_per_class: 60, captures_per_class: 5, background: 0.1 }
    }
}

/// One written capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynthCapture {
    /// Path relative to the folder, with `/` as separator.
    pub path: String,
    /// The class of its flows.
    pub class: SynthClass,
    /// Number of conversations.
    pub flows: usize,
    /// Number of packets.
    pub packets: usize,
    /// Length of the file in bytes.
    pub bytes: u64,
}

/// Everything that was written, in the order of [`CLASSES`] and of captures within a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynthSummary {
    /// The captures.
    pub captures: Vec<SynthCapture>,
}

impl SynthSummary {
    /// Returns the number of conversations in all captures.
    pub fn flows(&self) -> usize {
        self.captures.iter().map(|capture| capture.flows).sum()
    }

    /// Returns the number of packets in all captures.
    pub fn packets(&self) -> usize {
        self.captures.iter().map(|capture| capture.packets).sum()
    }

    /// Returns the length of all captures in bytes.
    pub fn bytes(&self) -> u64 {
        self.captures.iter().map(|capture| capture.bytes).sum()
    }
}

/// Why captures could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    /// An option is out of range.
    #[error("the generator's option `{option}` is {problem}")]
    Options {
        /// The option's name.
        option: &'static str,
        /// Its value and its valid range.
        problem: String,
    },
    /// A capture could not be written to its file.
    #[error("cannot write the generated capture {path}: {source}; check the folder's permissions and free space")]
    Write {
        /// The file.
        path: PathBuf,
        /// Error reported by the file system.
        source: std::io::Error,
    },
    /// A large capture could not be written to its writer.
    #[error("cannot write the generated capture: {0}")]
    Stream(std::io::Error),
}

/// Writes captures of every class into `folder`, in the layout described by the module. Files with other names in the
/// folder are not touched. Reports one step per capture.
///
/// # Errors
/// [`SynthError::Options`] for options out of range, [`SynthError::Write`] if a file cannot be written.
pub fn generate(options: &SynthOptions, folder: &Path, progress: &dyn Progress) -> Result<SynthSummary, SynthError> {
    let flows = check(options)?;
    progress.begin("generating captures", (CLASSES.len() * options.captures_per_class) as u64);
    let mut captures = Vec::with_capacity(CLASSES.len() * options.captures_per_class);
    for class in CLASSES {
        for index in 0..options.captures_per_class {
            let content = capture_file::CaptureContent::new(options.seed, class, index, flows, options.background);
            let path = format!("{}/{}.pcap", class.tunnel, capture_file::stem(class, index));
            let file = folder.join(&path);
            storage::write_whole_with(&file, |writer| content.write(writer))
                .map_err(|source| SynthError::Write { path: file.clone(), source })?;
            captures.push(SynthCapture {
                path,
                class,
                flows,
                packets: content.packets(),
                bytes: content.file_length(),
            });
            progress.advance(1);
        }
    }
    progress.end();
    Ok(SynthSummary { captures })
}

/// Validates the options and returns the number of flows in each capture.
fn check(options: &SynthOptions) -> Result<usize, SynthError> {
    let error = |option: &'static str, problem: String| Err(SynthError::Options { option, problem });
    if options.flows_per_class == 0 {
        return error("flows_per_class", "0, but must be at least 1".into());
    }
    if options.captures_per_class == 0 || options.captures_per_class > MAXIMUM_CAPTURES_PER_CLASS {
        let problem = format!("{}, but must be between 1 and {MAXIMUM_CAPTURES_PER_CLASS}", options.captures_per_class);
        return error("captures_per_class", problem);
    }
    if !(0.0..=1.0).contains(&options.background) {
        return error("background", format!("{}, but must be between 0 and 1", options.background));
    }
    let flows = options.flows_per_class.div_ceil(options.captures_per_class);
    if flows > MAXIMUM_FLOWS_PER_CAPTURE {
        let problem = format!(
            "{}, which means {flows} flows per capture, but the maximum is {MAXIMUM_FLOWS_PER_CAPTURE}; \
             raise `captures_per_class`",
            options.flows_per_class
        );
        return error("flows_per_class", problem);
    }
    Ok(flows)
}

// Run the README's example as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

//! What determines a result: named facts in a fixed order. Every key of the cache, of checkpoints and of plans is the
//! hash of such a list, so that a stored result is only used for exactly the computation that produced it.
//!
//! A list begins with [`RESULT_VERSION`], the kind of result, and the version of the code that computes it. It is
//! printed as one fact per line.

use std::fmt;
use std::sync::OnceLock;

use serde::Serialize;
use sha2::{Digest, Sha256};

/// Version of the results of the whole program. Releases do not bump it, so caches survive releases. Bump it when a
/// change affects results that no narrower version covers: a dependency or compiler that rounds differently, the
/// drawing of random numbers, the order of rows. What a single stage or model computes has its own version: flows
/// (`etcbench-experiment`), features (`etcbench-feature`), each model and each device's kernels (`etcbench-model`).
pub const RESULT_VERSION: u32 = 1;

/// Tests raise the version by the number in this variable, to check that no older results are used.
const RAISED_BY: &str = "ETCBENCH_TEST_RAISE_RESULT_VERSION";

/// Facts longer than this many bytes are stored and printed as their hash.
const LONGEST: usize = 256;

/// The named facts that determine a result, in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Determinants {
    facts: Vec<(&'static str, String)>,
}

impl Determinants {
    /// Starts the list of a result of kind `what`, such as a fit, computed by code of this version.
    pub fn of(what: &'static str, version: u32) -> Self {
        Self { facts: Vec::new() }
            .and("result_version", &result_version())
            .and("result", &what)
            .and("version", &version)
    }

    /// Adds a fact, as JSON.
    ///
    /// # Panics
    /// On a value that cannot be JSON, such as a map whose keys are not strings.
    #[must_use]
    pub fn and(self, name: &'static str, value: &(impl Serialize + ?Sized)) -> Self {
        let json = serde_json::to_string(value).expect("facts can be serialized as JSON");
        let fact = if json.len() <= LONGEST { json } else { hashed(Sha256::digest(&json)) };
        self.with(name, fact)
    }

    /// Adds the hash of data that `fill` supplies piece by piece; piece boundaries affect the hash.
    #[must_use]
    pub fn and_data(self, name: &'static str, fill: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Self {
        let mut hasher = Sha256::new();
        fill(&mut |piece| {
            hasher.update((piece.len() as u64).to_le_bytes());
            hasher.update(piece);
        });
        self.with(name, hashed(hasher.finalize()))
    }

    fn with(mut self, name: &'static str, fact: String) -> Self {
        debug_assert!(self.facts.iter().all(|(known, _)| *known != name), "duplicate fact {name}");
        self.facts.push((name, fact));
        self
    }

    /// Returns the key of the result: SHA-256 over all facts, as 64 hexadecimal digits.
    pub fn key(&self) -> String {
        hex::encode(Sha256::digest(self.to_string()))
    }
}

/// One fact per line, as `name: JSON`; this JSON contains no line breaks.
impl fmt::Display for Determinants {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.facts.iter().try_for_each(|(name, fact)| writeln!(formatter, "{name}: {fact}"))
    }
}

fn hashed(digest: impl AsRef<[u8]>) -> String {
    format!("sha256 {}", hex::encode(digest))
}

fn result_version() -> u32 {
    static VERSION: OnceLock<u32> = OnceLock::new();
    let raised_by = || std::env::var(RAISED_BY).ok()?.parse::<u32>().ok();
    *VERSION.get_or_init(|| RESULT_VERSION + raised_by().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(version: u32) -> Determinants {
        Determinants::of("fit", version).and("seed", &3).and("rows", &[1, 2])
    }

    #[test]
    fn facts_are_printed_in_their_order() {
        let expected = format!("result_version: {RESULT_VERSION}\nresult: \"fit\"\nversion: 7\nseed: 3\nrows: [1,2]\n");
        assert_eq!(fit(7).to_string(), expected);
        let line_break = Determinants::of("fit", 7).and("name", "a\nseed: 4");
        assert_eq!(line_break.to_string().lines().count(), 4);
    }

    #[test]
    fn every_fact_its_name_and_its_place_are_in_the_key() {
        let key = fit(7).key();
        assert_eq!(key, fit(7).key());
        let others = [
            fit(8),
            Determinants::of("trial", 7).and("seed", &3).and("rows", &[1, 2]),
            Determinants::of("fit", 7).and("seed", &3).and("rows", &[2, 1]),
            Determinants::of("fit", 7).and("seed", &3).and("row", &[1, 2]),
            Determinants::of("fit", 7).and("rows", &[1, 2]).and("seed", &3),
            Determinants::of("fit", 7).and("seed", &3),
            fit(7).and("fold", &None::<u32>),
        ];
        for (place, other) in others.iter().enumerate() {
            assert_ne!(other.key(), key, "{other}");
            assert!(others[..place].iter().all(|another| another.key() != other.key()), "{other}");
        }
    }

    #[test]
    fn long_facts_and_data_are_hashed_whole() {
        let rows = |last: usize| (0..1000).chain([last]).collect::<Vec<_>>();
        let long = |last| Determinants::of("fit", 1).and("rows", &rows(last));
        assert_ne!(long(1).key(), long(2).key());
        assert!(long(1).to_string().len() < LONGEST);
        let data = |pieces: &[&str]| {
            Determinants::of("fit", 1).and_data("data", |add| pieces.iter().for_each(|piece| add(piece.as_bytes())))
        };
        assert_eq!(data(&["ab", "c"]), data(&["ab", "c"]));
        assert_ne!(data(&["ab", "c"]).key(), data(&["a", "bc"]).key());
    }
}

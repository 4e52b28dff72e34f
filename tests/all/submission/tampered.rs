//! A tampered bundle, whose files can be changed as text, JSON, lines and records.

use super::{Files, sha256};

/// The files of a tampered bundle.
pub(super) struct Tampered(pub(super) Files);

impl Tampered {
    pub(super) fn text(&self, name: &str) -> String {
        let content = self.0.get(name).unwrap_or_else(|| panic!("{name} is not among {:?}", self.0.keys()));
        String::from_utf8(content.clone()).unwrap()
    }

    pub(super) fn set(&mut self, name: &str, text: String) {
        self.0.insert(name.to_owned(), text.into_bytes());
    }

    /// Changes a file, and asserts that it changed.
    pub(super) fn edit(&mut self, name: &str, change: impl FnOnce(String) -> String) {
        let before = self.text(name);
        let after = change(before.clone());
        assert_ne!(before, after, "{name} is as it was");
        self.set(name, after);
    }

    pub(super) fn replace(&mut self, name: &str, from: &str, to: &str) {
        self.edit(name, |text| text.replacen(from, to, 1));
    }

    pub(super) fn edit_json(&mut self, name: &str, change: impl FnOnce(&mut serde_json::Value)) {
        let mut value: serde_json::Value = serde_json::from_str(&self.text(name)).unwrap();
        change(&mut value);
        self.set(name, serde_json::to_string_pretty(&value).unwrap());
    }

    /// Keeps the header of a file and the lines for which `kept` is true.
    pub(super) fn retain_lines(&mut self, name: &str, kept: impl Fn(&str) -> bool) {
        self.edit(name, |text| {
            let lines = text.lines().enumerate().filter(|(number, line)| *number == 0 || kept(line));
            lines.map(|(_, line)| format!("{line}\n")).collect()
        });
    }

    /// Changes the last column of the first record that contains all of these words.
    pub(super) fn edit_record(&mut self, words: &[&str], change: impl Fn(f64) -> f64) {
        self.edit("records.csv", |text| {
            let line = text.lines().find(|line| words.iter().all(|word| line.contains(word)));
            let line = line.unwrap_or_else(|| panic!("no record has {words:?}"));
            let (start, value) = line.rsplit_once(',').unwrap();
            text.replacen(line, &format!("{start},{}", change(value.parse().unwrap())), 1)
        });
    }

    /// Returns all files whose names contain these words.
    pub(super) fn names(&self, words: &[&str]) -> Vec<String> {
        self.0.keys().filter(|name| words.iter().all(|word| name.contains(word))).cloned().collect()
    }

    /// Replaces text in every file.
    pub(super) fn replace_everywhere(&mut self, from: &str, to: &str) {
        for name in self.0.keys().cloned().collect::<Vec<_>>() {
            let text = self.text(&name).replace(from, to);
            self.set(&name, text);
        }
    }

    /// Updates the hashes of manifests in `run.json`.
    pub(super) fn settle(&mut self) {
        let sums: Vec<(String, String)> = self
            .names(&["manifests/"])
            .into_iter()
            .map(|name| {
                let sum = sha256(&self.0[&name]);
                (name, sum)
            })
            .collect();
        self.edit_json_quietly("run.json", |run| {
            for manifest in run.get_mut("manifests").and_then(|all| all.as_array_mut()).into_iter().flatten() {
                let name = format!("manifests/{}.json", manifest["dataset"].as_str().unwrap());
                if let Some((_, sum)) = sums.iter().find(|(own, _)| *own == name) {
                    manifest["sha256"] = sum.as_str().into();
                }
            }
        });
    }

    /// Same as [`edit_json`](Self::edit_json), for a file that may be missing or broken.
    pub(super) fn edit_json_quietly(&mut self, name: &str, change: impl FnOnce(&mut serde_json::Value)) {
        if let Some(mut value) = self.0.get(name).and_then(|text| serde_json::from_slice(text).ok()) {
            change(&mut value);
            self.set(name, serde_json::to_string_pretty(&value).unwrap());
        }
    }
}

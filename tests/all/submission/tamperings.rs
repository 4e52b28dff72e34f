//! Tamperings with bundles, and the expected reasons for refusal. Hashes are updated after each.

mod data;
mod evaluation;
mod predictions;
mod records;
mod settings;
mod splits;

use super::tampered::Tampered;

/// Splits a line into columns.
fn columns(line: &str) -> Vec<String> {
    line.split(',').map(str::to_owned).collect()
}

/// Moves the first flow of a part of a split to another part; returns its id.
fn move_flow(tampered: &mut Tampered, split: &str, from: &str, to: &str) -> String {
    let text = tampered.text(split);
    let line = text.lines().find(|line| line.ends_with(&format!(",{from}"))).unwrap().to_owned();
    tampered.replace(split, &line, &format!("{},{to}", line.rsplit_once(',').unwrap().0));
    line.split(',').next().unwrap().to_owned()
}

const RANDOM: &str = "splits/random-seed0.csv";
const KNN: &str = "predictions/random-knn-bytes-seed0.csv";

/// A description, the change, and the expected parts of the reason.
pub(super) type Tampering = (&'static str, fn(&mut Tampered), &'static [&'static str]);

/// Tamperings with the plain run.
pub(super) const PLAIN_TAMPERINGS: &[&[Tampering]] =
    &[predictions::TAMPERINGS, splits::TAMPERINGS, records::TAMPERINGS, data::TAMPERINGS, settings::TAMPERINGS];

/// Tamperings with the run with folds and tuning.
pub(super) const TUNED_TAMPERINGS: &[&[Tampering]] = &[settings::TUNED_TAMPERINGS];

/// Tamperings with the run with answers under conditions.
pub(super) const ASKED_TAMPERINGS: &[&[Tampering]] = &[evaluation::TAMPERINGS];

/// Returns the first line of a file of predictions whose prediction is wrong.
fn wrong_line(text: &str) -> Option<String> {
    text.lines().skip(1).find(|line| columns(line)[1] != columns(line)[2]).map(str::to_owned)
}

/// Removes a seed from every file, and updates the stated seeds.
fn drop_seed(tampered: &mut Tampered, seed: u64, left: &str) {
    let name = format!("-seed{seed}");
    tampered.0.retain(|file, _| !file.contains(&name));
    tampered.retain_lines("records.csv", |line| !line.contains(&format!(",fast,{seed},0,")));
    tampered.edit("experiment.toml", |text| {
        let line = text.lines().find(|line| line.starts_with("seeds = ")).unwrap();
        text.replacen(line, &format!("seeds = {left}"), 1)
    });
    let stated: serde_json::Value = serde_json::from_str(left).unwrap();
    tampered.edit_json("run.json", |run| {
        run["seeds"] = stated;
        run["fits"].as_array_mut().unwrap().retain(|fit| fit["seed"] != seed);
        for variant in run["variants"].as_array_mut().unwrap() {
            variant["shared_captures"].as_array_mut().unwrap().retain(|shared| shared["seed"] != seed);
        }
    });
    tampered.edit_json("leaks.json", |leaks| leaks.as_array_mut().unwrap().retain(|report| report["seed"] != seed));
}

//! Tamperings with splits and seeds.

use super::{RANDOM, Tampering, drop_seed, move_flow};

pub(super) const TAMPERINGS: &[Tampering] = &[
    (
        "a tested flow is put into the training part",
        |t| {
            let id = move_flow(t, RANDOM, "test", "train");
            for name in t.names(&["predictions/random-", "-seed0"]) {
                t.retain_lines(&name, |line| !line.starts_with(&format!("{id},")));
            }
        },
        &[
            "splits: splits/random-seed0.csv: 1 flow(s) are in a different part than drawn, the first: ",
            " is in train but drawn for test",
        ],
    ),
    (
        "a training flow is tested",
        |t| {
            move_flow(t, RANDOM, "train", "test");
        },
        &["is in test but drawn for train (method stratified, seed 0, fold 0)", "test flow(s) have no prediction"],
    ),
    (
        "a flow is put from training to validation",
        |t| {
            move_flow(t, RANDOM, "train", "validation");
        },
        &["is in validation but drawn for train"],
    ),
    (
        "a captured group is on both sides",
        |t| {
            move_flow(t, "splits/captures-seed1.csv", "test", "train");
        },
        &[
            "separation: splits/captures-seed1.csv: 1 capture(s) are both tested and trained on, the first ",
            "splits: splits/captures-seed1.csv",
        ],
    ),
    (
        "random splits are called grouped",
        |t| {
            for seed in 0..3 {
                let random = t.text(&format!("splits/random-seed{seed}.csv"));
                t.set(&format!("splits/captures-seed{seed}.csv"), random);
            }
        },
        &["capture(s) are both tested and trained on", "(method grouped, seed 2, fold 0)"],
    ),
    (
        "another method is stated",
        |t| t.replace("experiment.toml", "\"stratified\"", "\"temporal\""),
        &["(method temporal, seed 0, fold 0)"],
    ),
    (
        "another share is stated",
        |t| {
            t.edit("experiment.toml", |text| {
                text.replace("validation = 0.25", "validation = 0.2").replace("train = 0.5", "train = 0.55")
            })
        },
        &["flow(s) are in a different part than drawn"],
    ),
    (
        "a seed in the middle is dropped",
        |t| drop_seed(t, 1, "[0, 2]"),
        &["seeds: experiment.toml: the seeds are 0, 2; 2 seeds must be 0, 1"],
    ),
    (
        "the last seed is dropped",
        |t| drop_seed(t, 2, "[0, 1]"),
        &["seeds: experiment.toml: there are 2 seeds, but plain on many at size full states 0, 1, 2"],
    ),
    (
        "the best of the seeds is published alone",
        |t| {
            drop_seed(t, 0, "[1, 2]");
            drop_seed(t, 2, "[1]");
        },
        &["seeds: experiment.toml: the seeds are 1; 1 seeds must be 0"],
    ),
    (
        "a seed's results stand for another's",
        |t| {
            for name in t.names(&["-seed2.csv"]) {
                let other = t.text(&name);
                t.set(&name.replace("-seed2", "-seed1"), other);
            }
        },
        &["(method stratified, seed 1, fold 0)"],
    ),
    (
        "a seed is dropped from the files alone",
        |t| t.0.retain(|name, _| !name.contains("-seed2.csv")),
        &["seeds: splits/random-seed2.csv: is missing: no split of seed 2, fold 0"],
    ),
];

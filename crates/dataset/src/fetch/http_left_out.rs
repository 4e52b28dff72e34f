//! In place of `http` in a build without the feature `fetch`.

use std::time::Duration;

use super::answer::Answer;

pub(super) fn get(_: &str, _: &[(&str, String)], _: Duration) -> Answer {
    Answer::Refused(
        "this etcbench was built without downloads; build it with `cargo build --release --features fetch`, or \
         download the file by other means and put it into the dataset's folder"
            .to_owned(),
    )
}

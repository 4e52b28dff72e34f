//! Replaces `http` in builds without the feature `fetch`.

use std::time::Duration;

use super::answer::Answer;

pub(super) fn get(_: &str, _: &[(&str, String)], _: Duration) -> Answer {
    Answer::Refused(
        "this etcbench was built without downloads; build it with `cargo build --release --features fetch`, or \
         download the file another way and put it into the dataset's folder"
            .to_owned(),
    )
}

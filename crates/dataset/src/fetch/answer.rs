//! What a request ended in.

use std::io::Read;

/// What a request ended in.
#[cfg_attr(not(feature = "fetch"), allow(dead_code, reason = "nothing is asked for then"))]
pub(super) enum Answer {
    /// The server's answer, its body not yet read.
    Response(Response),
    /// What will not be otherwise the next time.
    Refused(String),
    /// What may go better the next time.
    BrokeOff(String),
}

/// An answer to a request.
pub(super) struct Response {
    pub status: u16,
    /// Names in lower case, and values that are text.
    pub headers: Vec<(String, String)>,
    pub body: Box<dyn Read>,
}

impl Response {
    /// A header's value, where it is text.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
    }
}

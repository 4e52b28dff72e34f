//! Results of HTTP requests.

use std::io::Read;

/// The result of a request.
#[cfg_attr(not(feature = "fetch"), allow(dead_code, reason = "no requests are made without it"))]
pub(super) enum Answer {
    /// The server's response, with its body not yet read.
    Response(Response),
    /// A permanent failure.
    Refused(String),
    /// A failure that may be temporary.
    BrokeOff(String),
}

/// A response to a request.
pub(super) struct Response {
    pub status: u16,
    /// Names in lower case, with values that are valid text.
    pub headers: Vec<(String, String)>,
    pub body: Box<dyn Read>,
}

impl Response {
    /// Returns a header's value, if it is valid text.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
    }
}

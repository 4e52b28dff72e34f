//! A single HTTP request that follows a limited number of redirects.

use std::time::Duration;

use ureq::http::Uri;

use super::answer::{Answer, Response};

/// Maximum number of redirects to follow.
const MOST_REDIRECTS: u32 = 10;

/// Requests `url` with the given headers.
pub(super) fn get(url: &str, headers: &[(&str, String)], stall: Duration) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        // Followed manually: a redirect must not lead from https to http.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(stall))
        .timeout_recv_response(Some(stall))
        .timeout_per_read(Some(stall))
        .user_agent(concat!("etcbench/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut url = url.to_owned();
    for _ in 0..=MOST_REDIRECTS {
        // Request the bytes as stored on the server: sizes, ranges and checksums refer to those.
        let mut request = agent.get(&url).header("Accept-Encoding", "identity");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(error @ (ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl)) => {
                return Answer::Refused(error.to_string());
            }
            Err(ureq::Error::HostNotFound) => return Answer::BrokeOff(format!("host not found for {url}")),
            Err(ureq::Error::Timeout(_)) => {
                return Answer::BrokeOff(format!("no response within {} seconds", stall.as_secs_f64()));
            }
            Err(error) => return Answer::BrokeOff(error.to_string()),
        };
        let status = response.status().as_u16();
        let (parts, body) = response.into_parts();
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            let body = Box::new(body.into_reader());
            let text = |(name, value): (&ureq::http::HeaderName, &ureq::http::HeaderValue)| {
                Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
            };
            return Answer::Response(Response {
                status,
                headers: parts.headers.iter().filter_map(text).collect(),
                body,
            });
        }
        let location = parts.headers.get("location").and_then(|value| value.to_str().ok());
        let Some(location) = location else {
            return Answer::Refused(format!("status {status} redirects without a target"));
        };
        url = match redirected(&url, location) {
            Ok(target) => target,
            Err(problem) => return Answer::Refused(problem),
        };
    }
    Answer::Refused(format!("more than {MOST_REDIRECTS} redirects, the last to {url}"))
}

/// Returns the target of a redirect (RFC 3986, 5.2, without dot segments, which servers resolve).
fn redirected(from: &str, location: &str) -> Result<String, String> {
    let base: Uri = from.parse().map_err(|_| format!("{from} is not a URL"))?;
    let scheme = base.scheme_str().unwrap_or("http");
    let authority = base.authority().map_or("", |authority| authority.as_str());
    let location = location.split('#').next().unwrap_or(location);
    let target = if location.contains("://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let to = target.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    match to.as_deref() {
        Some("https") => Ok(target),
        Some("http") if scheme == "http" => Ok(target),
        Some("http") => Err(format!("redirected from https to {target}, where the data could be modified in transit")),
        _ => Err(format!("redirected to {target}, which is neither https nor http")),
    }
}

#[cfg(test)]
mod tests {
    use super::redirected;

    #[test]
    fn redirects_are_resolved_and_never_leave_https() {
        let from = "https://a.example/x/y?z=1";
        for (location, expected) in [
            ("https://b.example/f", "https://b.example/f"),
            ("//b.example/f", "https://b.example/f"),
            ("/f?g=2", "https://a.example/f?g=2"),
            ("f", "https://a.example/x/f"),
            ("f#part", "https://a.example/x/f"),
        ] {
            assert_eq!(redirected(from, location).unwrap(), expected, "{location}");
        }
        assert!(redirected(from, "http://b.example/f").unwrap_err().contains("from https"));
        assert!(redirected(from, "ftp://b.example/f").unwrap_err().contains("neither"));
        assert!(redirected(from, "file:///etc/passwd").is_err());
        assert_eq!(redirected("http://a.example/x", "http://b.example/").unwrap(), "http://b.example/");
    }
}

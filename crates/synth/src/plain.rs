//! Plaintext protocols: DNS (RFC 1035), NTP (RFC 5905), HTTP/1.1 (RFC 9112), SMTP (RFC 5321) and IRC (RFC 2812).

use std::net::IpAddr;

use super::draw::Draw;
use super::path::Message;
use super::wire::Side;

/// Encodes a domain name as labels.
fn encoded_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// Generates a query for `name` and its response with `answers`, or "no such name" if there are none.
pub(super) fn dns_exchange(draw: &mut Draw, name: &str, answers: &[IpAddr]) -> Vec<Message> {
    let identification = draw.u16().to_be_bytes();
    let record_type: u16 = if matches!(answers.first(), Some(IpAddr::V6(_))) { 28 } else { 1 };
    let mut question = encoded_name(name);
    question.extend(record_type.to_be_bytes());
    question.extend([0, 1]);
    // Half of the queries announce EDNS(0) (RFC 6891).
    let extended = draw.chance(0.5);
    let additional: &[u8] = if extended { &[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0] } else { &[] };
    let count = u8::from(extended);
    let query = [&identification[..], &[0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, count], &question, additional].concat();
    let status = if answers.is_empty() { 3 } else { 0 };
    let authorities = u8::from(answers.is_empty());
    let header = [0x81, 0x80 | status, 0, 1, 0, answers.len() as u8, 0, authorities, 0, count];
    let mut answer = [&identification[..], &header, &question].concat();
    let lifetime = draw.between(20, 3600) as u32;
    for address in answers {
        // A pointer to the name in the question.
        answer.extend([0xc0, 12]);
        let (kind, octets) = match address {
            IpAddr::V4(address) => (1u16, address.octets().to_vec()),
            IpAddr::V6(address) => (28, address.octets().to_vec()),
        };
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1]);
        answer.extend(lifetime.to_be_bytes());
        answer.extend((octets.len() as u16).to_be_bytes());
        answer.extend(octets);
    }
    if answers.is_empty() {
        // The zone's start of authority, for negative caching (RFC 2308).
        let mut content = [encoded_name("a.nic.example"), encoded_name("hostmaster.nic.example")].concat();
        for number in [draw.u32() >> 8, 1800, 900, 604_800, 86_400] {
            content.extend(number.to_be_bytes());
        }
        answer.extend([0, 0, 6, 0, 1]);
        answer.extend(900u32.to_be_bytes());
        answer.extend((content.len() as u16).to_be_bytes());
        answer.extend(content);
    }
    answer.extend_from_slice(additional);
    vec![Message::new(Side::Client, 0.0, query), Message::new(Side::Server, 0.002, answer)]
}

/// Generates a client's time request and the response.
pub(super) fn ntp_exchange(draw: &mut Draw) -> Vec<Message> {
    let mut query = vec![0x23, 0, 6, 0xec];
    query.resize(40, 0);
    draw.append(&mut query, 8);
    let mut answer = vec![0x24, 2, 6, 0xe9, 0, 0, 0x02, 0x10, 0, 0, 0x01, 0x80];
    draw.append(&mut answer, 12);
    answer.extend_from_slice(&query[40..]);
    draw.append(&mut answer, 16);
    vec![Message::new(Side::Client, 0.0, query), Message::new(Side::Server, 0.000_1, answer)]
}

/// User agents; automated clients copy those of browsers.
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/84.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:79.0) Gecko/20100101 Firefox/79.0",
    "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1)",
    "Update-Agent/2.1",
];

/// Generates an HTTP request and its response with `length` bytes of content. If `upload` is positive, the request is a
/// POST with that many bytes.
pub(super) fn http_exchange(draw: &mut Draw, host: &str, delay: f64, upload: usize, length: usize) -> Vec<Message> {
    let agent = draw.weighted(&[(0.4, AGENTS[0]), (0.3, AGENTS[1]), (0.2, AGENTS[2]), (0.1, AGENTS[3])]);
    let directory = draw.pick(&["images", "api", "static", "news", "update", "ads"]);
    let (file_length, file_kind) = (draw.between(4, 14), draw.pick(&["php", "html", "gif", "js", "json"]));
    let target = format!("/{directory}/{}.{file_kind}", draw.word(file_length));
    let (method, body) = if upload > 0 { ("POST", draw.bytes(upload)) } else { ("GET", Vec::new()) };
    let content = if upload > 0 {
        format!("Content-Type: application/octet-stream\r\nContent-Length: {upload}\r\n")
    } else {
        String::new()
    };
    let mut request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n{content}\
         Connection: keep-alive\r\n\r\n"
    )
    .into_bytes();
    request.extend(body);
    let server = draw.pick(&["nginx", "Apache", "cloud"]);
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nServer: {server}\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    draw.append(&mut answer, length);
    let think = draw.real(0.002, 0.05);
    vec![Message::new(Side::Client, delay, request), Message::new(Side::Server, think, answer)]
}

/// Generates a mail submission to a server, which may refuse it.
pub(super) fn smtp_session(draw: &mut Draw, length: usize, refused: bool) -> Vec<Message> {
    let (server, client) = (format!("mx.{}.example", draw.word(6)), format!("{}.example", draw.word(8)));
    let mut messages = Vec::new();
    let mut line = |from: Side, delay: f64, text: String| messages.push(Message::new(from, delay, text.into_bytes()));
    line(Side::Server, 0.02, format!("220 {server} ESMTP\r\n"));
    line(Side::Client, 0.01, format!("EHLO {client}\r\n"));
    line(Side::Server, 0.01, format!("250-{server}\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250 8BITMIME\r\n"));
    line(Side::Client, 0.01, format!("MAIL FROM:<{}@{client}>\r\n", draw.word(7)));
    line(Side::Server, 0.01, "250 2.1.0 Ok\r\n".into());
    line(Side::Client, 0.01, format!("RCPT TO:<{}@{}.example>\r\n", draw.word(6), draw.word(6)));
    if refused {
        line(Side::Server, 0.3, "550 5.7.1 Service unavailable; client host blocked\r\n".into());
    } else {
        line(Side::Server, 0.05, "250 2.1.5 Ok\r\n".into());
        line(Side::Client, 0.01, "DATA\r\n".into());
        line(Side::Server, 0.01, "354 End data with <CR><LF>.<CR><LF>\r\n".into());
        let mut text = format!("Subject: {} {}\r\nMIME-Version: 1.0\r\n\r\n", draw.word(6), draw.word(8));
        while text.len() < length {
            for _ in 0..10 {
                let letters = draw.between(2, 10);
                text.push_str(&draw.word(letters));
                text.push(' ');
            }
            text.push_str("\r\n");
        }
        text.push_str(".\r\n");
        line(Side::Client, 0.02, text);
        line(Side::Server, 0.1, format!("250 2.0.0 Ok: queued as {}\r\n", draw.word(10)));
    }
    line(Side::Client, 0.01, "QUIT\r\n".into());
    line(Side::Server, 0.01, "221 2.0.0 Bye\r\n".into());
    messages
}

/// Generates a client that joins a channel and takes part in `lines` exchanges.
pub(super) fn irc_session(draw: &mut Draw, lines: usize, pause: f64) -> Vec<Message> {
    let (server, length) = ("irc.network.example", draw.between(5, 9));
    let nick = draw.word(length);
    let channel = draw.word(6);
    let mut messages = vec![
        Message::new(Side::Client, 0.01, format!("NICK {nick}\r\nUSER {nick} 0 * :{nick}\r\n").into_bytes()),
        Message::new(
            Side::Server,
            0.2,
            format!(
                ":{server} 001 {nick} :Welcome to the network {nick}\r\n:{server} 422 {nick} :MOTD File is missing\r\n"
            )
            .into_bytes(),
        ),
        Message::new(Side::Client, 0.05, format!("JOIN #{channel}\r\n").into_bytes()),
        Message::new(
            Side::Server,
            0.02,
            format!(":{nick}!{nick}@host JOIN :#{channel}\r\n:{server} 366 {nick} #{channel} :End of /NAMES list.\r\n")
                .into_bytes(),
        ),
    ];
    for _ in 0..lines {
        let wait = draw.exponential(pause);
        if draw.chance(0.3) {
            messages.push(Message::new(Side::Server, wait, format!("PING :{server}\r\n").into_bytes()));
            messages.push(Message::new(Side::Client, 0.001, format!("PONG :{server}\r\n").into_bytes()));
            continue;
        }
        let count = draw.between(2, 9);
        let text: Vec<String> = (0..count)
            .map(|_| {
                let letters = draw.between(2, 9);
                draw.word(letters)
            })
            .collect();
        let line = format!("PRIVMSG #{channel} :{}\r\n", text.join(" "));
        if draw.chance(0.6) {
            let other = draw.word(6);
            messages.push(Message::new(Side::Server, wait, format!(":{other}!{other}@host {line}").into_bytes()));
        } else {
            messages.push(Message::new(Side::Client, wait, line.into_bytes()));
        }
    }
    messages
}

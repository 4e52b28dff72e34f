//! TLS 1.2 and 1.3 as seen on the wire (RFC 5246, RFC 8446): hellos with the extensions and orders of several client
//! libraries, the subsequent flights, and application-data records.

use super::certificate::certificate;
use super::draw::Draw;
use super::path::Message;
use super::wire::Side;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// The client's TLS library, as visible in its hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientLibrary {
    /// A browser that uses GREASE (RFC 8701).
    Chromium,
    /// A browser that does not.
    Firefox,
    /// An application's own library on a phone.
    Mobile,
    /// A command-line or service client.
    OpenSsl,
    /// An old system library, up to TLS 1.2.
    Legacy,
}

/// What determines a handshake, other than chance.
#[derive(Debug, Clone)]
pub(super) struct TlsSettings {
    pub(super) library: ClientLibrary,
    pub(super) server_name: Option<String>,
    /// Whether the server accepts TLS 1.3 if the client offers it.
    pub(super) modern_server: bool,
    /// The ALPN protocols offered by the client.
    pub(super) protocols: &'static [&'static str],
    /// Whether the client resumes a session with a known server.
    pub(super) resumed: bool,
    /// Index of the cipher that the server prefers among those of TLS 1.3.
    pub(super) preferred_cipher: usize,
    /// Median length of the server's certificate flight under TLS 1.3, in bytes.
    pub(super) certificate_flight: f64,
}

/// Encodes a two-byte length and the content.
fn with_length16(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u16).to_be_bytes()[..], content].concat()
}

/// Encodes a three-byte length and the content.
fn with_length24(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32).to_be_bytes()[1..], content].concat()
}

/// Encodes a one-byte length and the content.
fn with_length8(content: &[u8]) -> Vec<u8> {
    [&[content.len() as u8][..], content].concat()
}

/// Builds a handshake message.
fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &with_length24(body)].concat()
}

/// Builds a record; `content` is at most 2^14 + 256 bytes.
fn record(kind: u8, version: u16, content: &[u8]) -> Vec<u8> {
    [&[kind][..], &version.to_be_bytes(), &with_length16(content)].concat()
}

/// Draws a GREASE value: two equal bytes, with 0xa as their low halves.
fn grease(draw: &mut Draw) -> u16 {
    0x0a0a + 0x1010 * draw.between(0, 15) as u16
}

/// Encodes values as a list of two-byte numbers.
fn list16(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

impl ClientLibrary {
    /// Whether it offers TLS 1.3.
    pub(super) fn modern(self) -> bool {
        self != Self::Legacy
    }

    /// Returns its cipher suites, in its order.
    fn cipher_suites(self) -> &'static [u16] {
        match self {
            Self::Chromium => &[
                0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d,
                0x002f, 0x0035,
            ],
            Self::Firefox => &[
                0x1301, 0x1303, 0x1302, 0xc02b, 0xc02f, 0xcca9, 0xcca8, 0xc02c, 0xc030, 0xc00a, 0xc009, 0xc013, 0xc014,
                0x009c, 0x009d, 0x002f, 0x0035,
            ],
            Self::Mobile => &[0x1301, 0x1302, 0x1303, 0xc02c, 0xc02b, 0xcca9, 0xc030, 0xc02f, 0xcca8, 0xc014, 0xc013],
            Self::OpenSsl => &[
                0x1302, 0x1303, 0x1301, 0xc02c, 0xc030, 0x009f, 0xcca9, 0xcca8, 0xccaa, 0xc02b, 0xc02f, 0x009e, 0xc024,
                0xc028, 0x006b, 0xc023, 0xc027, 0x0067, 0xc00a, 0xc014, 0x0039, 0xc009, 0xc013, 0x0033, 0x009d, 0x009c,
                0x003d, 0x003c, 0x0035, 0x002f, 0x00ff,
            ],
            Self::Legacy => &[
                0xc02f, 0xc030, 0xc027, 0xc028, 0xc013, 0xc014, 0x009c, 0x009d, 0x003c, 0x003d, 0x002f, 0x0035, 0x000a,
            ],
        }
    }
}

/// Builds the record with the client's first message.
pub(super) fn client_hello(draw: &mut Draw, settings: &TlsSettings) -> Vec<u8> {
    let library = settings.library;
    let greasing = library == ClientLibrary::Chromium;
    let mut ciphers = library.cipher_suites().to_vec();
    if greasing {
        ciphers.insert(0, grease(draw));
    }
    let mut body = vec![0x03, 0x03];
    draw.append(&mut body, 32);
    // Clients of TLS 1.3 send a session identifier for middleboxes (RFC 8446, appendix D.4).
    let session = if library.modern() || settings.resumed { 32 } else { 0 };
    body.extend(with_length8(&draw.bytes(session)));
    body.extend(with_length16(&list16(&ciphers)));
    body.extend([1, 0]);
    let mut extensions: Vec<(u16, Vec<u8>)> = Vec::new();
    if greasing {
        extensions.push((grease(draw), Vec::new()));
    }
    if let Some(name) = &settings.server_name {
        let entry = [&[0][..], &with_length16(name.as_bytes())].concat();
        extensions.push((0, with_length16(&entry)));
    }
    extensions.push((23, Vec::new()));
    extensions.push((0xff01, vec![0]));
    let mut groups = match library {
        ClientLibrary::Chromium | ClientLibrary::Mobile => vec![0x001d, 0x0017, 0x0018],
        ClientLibrary::Firefox => vec![0x001d, 0x0017, 0x0018, 0x0019, 0x0100, 0x0101],
        ClientLibrary::OpenSsl => vec![0x001d, 0x0017, 0x001e, 0x0019, 0x0018],
        ClientLibrary::Legacy => vec![0x0017, 0x0018],
    };
    if greasing {
        groups.insert(0, grease(draw));
    }
    extensions.push((10, with_length16(&list16(&groups))));
    extensions.push((11, vec![1, 0]));
    extensions.push((35, if settings.resumed && !settings.modern_server { draw.bytes(192) } else { Vec::new() }));
    if !settings.protocols.is_empty() {
        let names: Vec<u8> = settings.protocols.iter().flat_map(|name| with_length8(name.as_bytes())).collect();
        extensions.push((16, with_length16(&names)));
    }
    if matches!(library, ClientLibrary::Chromium | ClientLibrary::Firefox | ClientLibrary::Mobile) {
        // status_request for OCSP.
        extensions.push((5, vec![1, 0, 0, 0, 0]));
    }
    let signatures: &[u16] = match library {
        ClientLibrary::Legacy => &[0x0401, 0x0501, 0x0201, 0x0403, 0x0503, 0x0203],
        ClientLibrary::OpenSsl => {
            &[0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0809, 0x080a, 0x080b, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501]
        }
        _ => &[0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601],
    };
    extensions.push((13, with_length16(&list16(signatures))));
    if library.modern() {
        let mut shares = Vec::new();
        if greasing {
            shares.extend(grease(draw).to_be_bytes());
            shares.extend([0, 1, 0]);
        }
        shares.extend([0x00, 0x1d]);
        shares.extend(with_length16(&draw.bytes(32)));
        if library == ClientLibrary::Firefox {
            shares.extend([0x00, 0x17]);
            shares.extend(with_length16(&[&[4][..], &draw.bytes(64)].concat()));
        }
        extensions.push((51, with_length16(&shares)));
        extensions.push((45, vec![1, 1]));
        let mut versions = vec![0x0304, 0x0303];
        if greasing {
            versions.insert(0, grease(draw));
        }
        extensions.push((43, with_length8(&list16(&versions))));
    }
    if greasing {
        extensions.push((grease(draw), vec![0]));
    }
    let length: usize = extensions.iter().map(|extension| 4 + extension.1.len()).sum();
    if settings.resumed && library.modern() && settings.modern_server {
        // A pre-shared key must be the last extension (RFC 8446, section 4.2.11).
        let mut identity = with_length16(&draw.bytes(176));
        draw.append(&mut identity, 4);
        let binder = with_length8(&draw.bytes(32));
        extensions.push((41, [with_length16(&identity), with_length16(&binder)].concat()));
    } else if library != ClientLibrary::Legacy && body.len() + length < 508 {
        // Padding to 512 bytes (RFC 7685).
        extensions.push((21, vec![0; 508 - body.len() - length]));
    }
    let mut encoded = Vec::new();
    for (kind, content) in &extensions {
        encoded.extend(kind.to_be_bytes());
        encoded.extend(with_length16(content));
    }
    body.extend(with_length16(&encoded));
    record(HANDSHAKE, 0x0301, &handshake(1, &body))
}

/// Builds the server's hello as a handshake message.
fn server_hello(draw: &mut Draw, settings: &TlsSettings, modern: bool) -> Vec<u8> {
    let mut body = vec![0x03, 0x03];
    draw.append(&mut body, 32);
    body.extend(with_length8(&draw.bytes(32)));
    let cipher: u16 = if modern { [0x1301, 0x1302, 0x1303][settings.preferred_cipher % 3] } else { 0xc02f };
    body.extend(cipher.to_be_bytes());
    body.push(0);
    let mut extensions = Vec::new();
    if modern {
        extensions.extend([0, 43, 0, 2, 3, 4, 0, 51]);
        let share = [&[0x00, 0x1d][..], &with_length16(&draw.bytes(32))].concat();
        extensions.extend(with_length16(&share));
    } else {
        extensions.extend([0xff, 0x01, 0, 1, 0, 0, 11, 0, 2, 1, 0, 0, 23, 0, 0]);
        if let Some(protocol) = settings.protocols.first() {
            extensions.extend([0, 16]);
            extensions.extend(with_length16(&with_length16(&with_length8(protocol.as_bytes()))));
        }
    }
    body.extend(with_length16(&extensions));
    handshake(2, &body)
}

/// Builds application data (or encrypted handshake messages) of `length` bytes of content, in records.
pub(super) fn application_data(draw: &mut Draw, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 64);
    let mut left = length.max(1);
    while left > 0 {
        let part = left.min(16_384 - 32);
        left -= part;
        // Content type and authentication tag.
        let content = draw.bytes(part + 17);
        bytes.extend(record(APPLICATION_DATA, 0x0303, &content));
    }
    bytes
}

/// Builds the record that closes a connection: an alert, which TLS 1.3 disguises as application data.
pub(super) fn close_notify(draw: &mut Draw, modern: bool) -> Vec<u8> {
    if modern {
        return application_data(draw, 2);
    }
    let content = draw.bytes(26);
    record(ALERT, 0x0303, &content)
}

/// Generates all messages of a handshake, including the client's last flight.
pub(super) fn handshake_messages(draw: &mut Draw, settings: &TlsSettings) -> Vec<Message> {
    let hello = client_hello(draw, settings);
    let mut messages = vec![Message::new(Side::Client, 0.000_5, hello)];
    let think = draw.real(0.000_5, 0.006);
    let change = record(CHANGE_CIPHER_SPEC, 0x0303, &[1]);
    if settings.library.modern() && settings.modern_server {
        let mut flight = record(HANDSHAKE, 0x0303, &server_hello(draw, settings, true));
        flight.extend_from_slice(&change);
        let length = if settings.resumed {
            draw.between(90, 130)
        } else {
            draw.size(settings.certificate_flight, 0.06, 700, 7000)
        };
        // Some servers put each handshake message into its own record.
        if settings.preferred_cipher == 1 {
            flight.extend(application_data(draw, 42));
            flight.extend(application_data(draw, length));
            flight.extend(application_data(draw, 52));
        } else {
            flight.extend(application_data(draw, length + 94));
        }
        messages.push(Message::new(Side::Server, think, flight));
        let mut finished = change;
        finished.extend(application_data(draw, if settings.preferred_cipher == 1 { 52 } else { 36 }));
        messages.push(Message::new(Side::Client, 0.002, finished));
        if draw.chance(0.7) {
            let ticket = draw.between(180, 280);
            messages.push(Message::new(Side::Server, 0.001, application_data(draw, 2 * ticket)));
        }
        return messages;
    }
    let mut flight = record(HANDSHAKE, 0x0303, &server_hello(draw, settings, false));
    if settings.resumed {
        flight.extend_from_slice(&change);
        flight.extend(record(HANDSHAKE, 0x0303, &draw.bytes(40)));
        messages.push(Message::new(Side::Server, think, flight));
        let finished = [change, record(HANDSHAKE, 0x0303, &draw.bytes(40))].concat();
        messages.push(Message::new(Side::Client, 0.002, finished));
        return messages;
    }
    let subject = settings.server_name.clone().unwrap_or_else(|| format!("{}.example", draw.word(8)));
    let leaf = certificate(draw, &subject, "Example Intermediate");
    let intermediate = certificate(draw, "Example Intermediate", "Example Root");
    let chain = [with_length24(&leaf), with_length24(&intermediate)].concat();
    flight.extend(record(HANDSHAKE, 0x0303, &handshake(11, &with_length24(&chain))));
    let mut exchange = vec![3, 0x00, 0x17, 65, 4];
    draw.append(&mut exchange, 64);
    exchange.extend([0x04, 0x01]);
    exchange.extend(with_length16(&draw.bytes(256)));
    flight.extend(record(HANDSHAKE, 0x0303, &handshake(12, &exchange)));
    flight.extend(record(HANDSHAKE, 0x0303, &handshake(14, &[])));
    messages.push(Message::new(Side::Server, think, flight));
    let point = [&[4][..], &draw.bytes(64)].concat();
    let mut finished = record(HANDSHAKE, 0x0303, &handshake(16, &with_length8(&point)));
    finished.extend_from_slice(&change);
    finished.extend(record(HANDSHAKE, 0x0303, &draw.bytes(40)));
    messages.push(Message::new(Side::Client, 0.003, finished));
    let ticket = [&[0, 0, 0x1c, 0x20][..], &with_length16(&draw.bytes(192))].concat();
    let mut last = record(HANDSHAKE, 0x0303, &handshake(4, &ticket));
    last.extend_from_slice(&change);
    last.extend(record(HANDSHAKE, 0x0303, &draw.bytes(40)));
    messages.push(Message::new(Side::Server, 0.001, last));
    messages
}

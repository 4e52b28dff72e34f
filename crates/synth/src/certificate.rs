//! X.509 certificates (RFC 5280) in DER: real structure and names, random keys and signatures. A TLS 1.2 server sends
//! them in the clear, so capture readers parse them.

use super::draw::Draw;

/// Encodes a DER element: tag, length in the shortest form, content.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let length = content.len();
    match length {
        0..=0x7f => bytes.push(length as u8),
        0x80..=0xff => bytes.extend([0x81, length as u8]),
        _ => {
            bytes.push(0x82);
            bytes.extend((length as u16).to_be_bytes());
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

/// Encodes a SEQUENCE of elements.
fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

/// Encodes a BIT STRING of whole bytes.
fn bit_string(content: &[u8]) -> Vec<u8> {
    element(0x03, &[&[0], content].concat())
}

/// Encodes a positive INTEGER of `length` random bytes.
fn integer(draw: &mut Draw, length: usize) -> Vec<u8> {
    let mut content = draw.bytes(length);
    content[0] = content[0] & 0x3f | 0x40;
    element(0x02, &content)
}

/// Encodes a distinguished name with an organisation and a common name.
fn name(organisation: &str, common: &str) -> Vec<u8> {
    let attribute = |last: u8, text: &str| {
        let pair = sequence(&[element(0x06, &[0x55, 0x04, last]), element(0x0c, text.as_bytes())]);
        element(0x31, &pair)
    };
    sequence(&[attribute(0x0a, organisation), attribute(0x03, common)])
}

/// Builds a certificate of about 800 to 1700 bytes for `subject`, signed by `issuer`.
pub(super) fn certificate(draw: &mut Draw, subject: &str, issuer: &str) -> Vec<u8> {
    // sha256WithRSAEncryption and rsaEncryption with NULL parameters.
    let signature_algorithm =
        sequence(&[element(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b]), element(0x05, &[])]);
    let key_algorithm =
        sequence(&[element(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01]), element(0x05, &[])]);
    let key = sequence(&[integer(draw, 256), element(0x02, &[1, 0, 1])]);
    // Alternative names account for most of the variation in length.
    let mut names = element(0x82, subject.as_bytes());
    for _ in 0..draw.between(0, 20) {
        let length = draw.between(5, 12);
        let other = format!("{}.{subject}", draw.word(length));
        names.extend(element(0x82, other.as_bytes()));
    }
    let alternative_names = sequence(&[element(0x06, &[0x55, 0x1d, 0x11]), element(0x04, &element(0x30, &names))]);
    let body = sequence(&[
        element(0xa0, &[0x02, 0x01, 0x02]),
        integer(draw, 16),
        signature_algorithm.clone(),
        name("Certification", issuer),
        sequence(&[element(0x17, b"200101000000Z"), element(0x17, b"300101000000Z")]),
        name("Services", subject),
        sequence(&[key_algorithm, bit_string(&key)]),
        element(0xa3, &sequence(&[alternative_names])),
    ]);
    sequence(&[body, signature_algorithm, bit_string(&draw.bytes(256))])
}

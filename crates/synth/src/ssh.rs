//! SSH (RFC 4253): banners, plaintext key exchange with real packet layout, then encrypted packets.

use super::draw::Draw;
use super::path::Message;
use super::wire::Side;

/// Builds a binary packet (RFC 4253, section 6) before encryption begins.
fn packet(draw: &mut Draw, payload: &[u8]) -> Vec<u8> {
    // Length, padding length, payload and padding fill whole blocks of eight bytes, with at least four bytes of
    // padding.
    let padding = (8 - (5 + payload.len() + 4) % 8) % 8 + 4;
    let mut bytes = ((1 + payload.len() + padding) as u32).to_be_bytes().to_vec();
    bytes.push(padding as u8);
    bytes.extend_from_slice(payload);
    draw.append(&mut bytes, padding);
    bytes
}

/// Encodes a four-byte length and the content.
fn string(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32).to_be_bytes()[..], content].concat()
}

/// Builds an SSH_MSG_KEXINIT with its ten name lists.
fn key_exchange_init(draw: &mut Draw, client: bool) -> Vec<u8> {
    let ciphers = if client {
        "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com"
    } else {
        "chacha20-poly1305@openssh.com,aes128-ctr,aes256-ctr,aes256-gcm@openssh.com"
    };
    let codes = "umac-64-etm@openssh.com,hmac-sha2-256-etm@openssh.com,hmac-sha2-512,hmac-sha1";
    let compression = if client { "none,zlib@openssh.com,zlib" } else { "none,zlib@openssh.com" };
    let lists = [
        "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,diffie-hellman-group14-sha256",
        "ecdsa-sha2-nistp256,ssh-ed25519,rsa-sha2-512,rsa-sha2-256",
        ciphers,
        ciphers,
        codes,
        codes,
        compression,
        compression,
        "",
        "",
    ];
    let mut payload = vec![20];
    draw.append(&mut payload, 16);
    for list in lists {
        payload.extend(string(list.as_bytes()));
    }
    payload.extend([0; 5]);
    packet(draw, &payload)
}

/// Builds an encrypted packet with about `length` bytes of content.
pub(super) fn encrypted(draw: &mut Draw, length: usize) -> Vec<u8> {
    // Blocks of eight bytes and a tag of sixteen.
    draw.bytes(4 + length.max(8).next_multiple_of(8) + 16)
}

/// Generates all messages up to the authenticated session.
pub(super) fn handshake_messages(draw: &mut Draw) -> Vec<Message> {
    let client =
        draw.pick(&["SSH-2.0-OpenSSH_8.2p1", "SSH-2.0-OpenSSH_7.9p1 Debian-10", "SSH-2.0-WinSCP_release_5.17"]);
    let server =
        draw.pick(&["SSH-2.0-OpenSSH_7.6p1 Ubuntu-4ubuntu0.3", "SSH-2.0-OpenSSH_8.2p1", "SSH-2.0-mod_sftp/0.9.9"]);
    let mut messages = vec![
        Message::new(Side::Client, 0.000_5, format!("{client}\r\n").into_bytes()),
        Message::new(Side::Server, 0.01, format!("{server}\r\n").into_bytes()),
        Message::new(Side::Client, 0.001, key_exchange_init(draw, true)),
        Message::new(Side::Server, 0.002, key_exchange_init(draw, false)),
    ];
    let point = string(&draw.bytes(32));
    let begin = packet(draw, &[&[30][..], &point].concat());
    messages.push(Message::new(Side::Client, 0.002, begin));
    let key = string(&[string(b"ssh-ed25519"), string(&draw.bytes(32))].concat());
    let signature = string(&[string(b"ssh-ed25519"), string(&draw.bytes(64))].concat());
    let point = string(&draw.bytes(32));
    let mut reply = packet(draw, &[&[31][..], &key, &point, &signature].concat());
    reply.extend(packet(draw, &[21]));
    messages.push(Message::new(Side::Server, 0.003, reply));
    messages.push(Message::new(Side::Client, 0.002, packet(draw, &[21])));
    for (from, length) in [(Side::Client, 16), (Side::Server, 16), (Side::Client, 48), (Side::Server, 64)] {
        messages.push(Message::new(from, 0.004, encrypted(draw, length)));
    }
    messages
}

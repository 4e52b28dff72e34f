//! One conversation of a class: what its application sends, on a carrier, over a path, and through a tunnel if its
//! class has one.

use super::classes::{Carrier, SynthClass, profile};
use super::draw::Draw;
use super::media::{self, RtpStream};
use super::network::{Condition, Pool, looked_up_name, tls_settings};
use super::path::{Message, Path, Recorder};
use super::quic::QuicConnection;
use super::shape::{Burst, bursts};
use super::tcp::TcpConversation;
use super::tls::{self, ClientLibrary};
use super::wire::{Frame, Link, Side};
use super::{openvpn, plain, ssh};

/// Length of a Tor cell with link protocol 4 or later.
const TOR_CELL: usize = 514;
/// Maximum number of cells in one write.
const CELLS_PER_WRITE: usize = 8;
/// Maximum length of an inner packet, so that an OpenVPN data packet fits into 1500 bytes.
const INNER_MTU: usize = 1397;

/// How the conversations of a capture reach the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vantage {
    /// Unchanged: without a tunnel, or captured inside one.
    Direct,
    /// Within Tor's connection to a guard.
    Guard,
    /// Within OpenVPN's datagrams.
    Outside,
}

/// A conversation being generated, with its class and capture.
pub(super) struct Scene<'a> {
    pub(super) draw: &'a mut Draw,
    pub(super) condition: &'a mut Condition,
    pub(super) class: SynthClass,
    pub(super) vantage: Vantage,
    /// Nanoseconds since the Unix epoch.
    pub(super) start: i64,
    /// Probability of background traffic that every host produces, whatever its class.
    pub(super) background: f64,
}

impl Scene<'_> {
    /// Generates the frames of one conversation: at least one packet, one five-tuple.
    pub(super) fn conversation(&mut self) -> Vec<Frame> {
        // Lengths have a heavy tail.
        let budget = self.draw.size(7.0, 0.75, 4, 64);
        if self.draw.chance(self.background) {
            return self.background_conversation(budget);
        }
        let SynthClass { category, application, .. } = self.class;
        match self.vantage {
            Vantage::Guard => self.through_guard(budget),
            Vantage::Outside => self.through_openvpn(budget),
            Vantage::Direct => {
                let profile = profile(category, application);
                let pool = self.draw.weighted(profile.pools);
                let carrier = self.draw.weighted(profile.carriers);
                let library = self.draw.weighted(profile.libraries);
                self.carried(carrier, pool, library, budget)
            }
        }
    }

    /// Generates background traffic that every host produces: names, time, web services.
    fn background_conversation(&mut self, budget: usize) -> Vec<Frame> {
        let pools = [(0.35, Pool::ContentA), (0.35, Pool::ContentB), (0.15, Pool::ContentC), (0.15, Pool::Search)];
        let pool = self.draw.weighted(&pools);
        let libraries =
            [(0.5, ClientLibrary::Chromium), (0.25, ClientLibrary::Firefox), (0.25, ClientLibrary::OpenSsl)];
        match self.draw.weighted(&[(0.4, 0), (0.1, 1), (0.5, 2)]) {
            0 => self.carried(Carrier::Dns, Pool::Resolvers, ClientLibrary::Chromium, budget),
            1 => {
                let path = self.condition.path(self.draw, Pool::Resolvers, 123);
                let messages = plain::ntp_exchange(self.draw);
                self.datagrams(path, &messages, budget)
            }
            _ => {
                let library = self.draw.weighted(&libraries);
                let path = self.condition.path(self.draw, pool, 443);
                let shape = bursts(self.draw, "browsing", "web", self.condition.pace, self.condition.scale);
                self.tls_conversation(path, pool, library, &shape, budget, 0.05)
            }
        }
    }

    /// Draws the class's application bursts.
    fn shape(&mut self) -> Vec<Burst> {
        let SynthClass { category, application, .. } = self.class;
        bursts(self.draw, category, application, self.condition.pace, self.condition.scale)
    }

    /// Generates a conversation on the given carrier.
    fn carried(&mut self, carrier: Carrier, pool: Pool, library: ClientLibrary, budget: usize) -> Vec<Frame> {
        match carrier {
            Carrier::Tls => {
                let path = self.condition.path(self.draw, pool, 443);
                // Call signalling looks like any web service.
                let shape = if self.class.category == "voip" {
                    bursts(self.draw, "browsing", "web", self.condition.pace, self.condition.scale)
                } else {
                    self.shape()
                };
                self.tls_conversation(path, pool, library, &shape, budget, 0.15)
            }
            Carrier::Quic => self.quic_conversation(pool, budget),
            Carrier::Rtp | Carrier::Sip | Carrier::Proprietary => self.call(carrier, pool, budget),
            Carrier::Dns => {
                let path = self.condition.path(self.draw, Pool::Resolvers, 53);
                let generated = self.class.category == "resolution";
                let name = if generated {
                    let length = self.draw.between(9, 20);
                    format!("{}.example", self.draw.text(b"abcdefghijklmnopqrstuvwxyz0123456789", length))
                } else {
                    looked_up_name(self.draw)
                };
                let missing = self.draw.chance(if generated { 0.75 } else { 0.04 });
                let count = if missing { 0 } else { self.draw.between(1, 4) };
                let answers: Vec<_> = (0..count).map(|_| self.condition.resolved_address(self.draw, &path)).collect();
                let messages = plain::dns_exchange(self.draw, &name, &answers);
                self.datagrams(path, &messages, budget)
            }
            Carrier::Probe => {
                let ports = [22, 23, 80, 135, 139, 443, 445, 1433, 3306, 3389, 5900, 6667, 8080];
                let port = self.draw.pick(&ports);
                let path = self.condition.path(self.draw, pool, port);
                let mut tcp = TcpConversation::new(path, self.draw, self.start, budget);
                if tcp.draw().chance(0.6) {
                    tcp.refused();
                } else {
                    let times = tcp.draw().between(0, 3);
                    tcp.unanswered(times);
                }
                tcp.stop()
            }
            Carrier::Ssh => {
                let path = self.condition.path(self.draw, pool, 22);
                let shape = self.shape();
                let resumed = self.draw.chance(0.1);
                let mut messages = if resumed { Vec::new() } else { ssh::handshake_messages(self.draw) };
                for burst in shape {
                    let content = ssh::encrypted(self.draw, burst.bytes);
                    messages.push(Message::new(burst.from, burst.delay, content));
                }
                self.stream(path, &messages, budget, resumed)
            }
            Carrier::Http | Carrier::Smtp | Carrier::Irc => self.clear_conversation(carrier, pool, budget),
        }
    }

    /// Generates a plaintext conversation over TCP.
    fn clear_conversation(&mut self, carrier: Carrier, pool: Pool, budget: usize) -> Vec<Frame> {
        let automated = self.class.traffic == "botnet";
        let (port, messages) = match carrier {
            Carrier::Smtp => {
                let length = self.draw.size(if automated { 700.0 } else { 2500.0 }, 0.7, 200, 20_000);
                let refused = self.draw.chance(if automated { 0.35 } else { 0.03 });
                (25, plain::smtp_session(self.draw, length, refused))
            }
            Carrier::Irc => {
                let lines = self.draw.size(5.0, 0.7, 1, 30);
                let pause = if automated { 30.0 } else { 8.0 } * self.condition.pace;
                let port = self.draw.weighted(&[(0.7, 6667), (0.2, 80), (0.1, 443)]);
                (port, plain::irc_session(self.draw, lines, pause))
            }
            _ => {
                let host = looked_up_name(self.draw);
                let (count, pause, median) = match self.class.category {
                    "control" => (self.draw.between(1, 3), 20.0, 300.0),
                    "fraud" => (self.draw.between(2, 6), 0.4, 1500.0),
                    _ => (self.draw.between(1, 5), 0.8, 4000.0),
                };
                let mut messages = Vec::new();
                for _ in 0..count {
                    let upload = if self.class.category == "control" && self.draw.chance(0.5) {
                        self.draw.size(180.0, 0.5, 32, 1000)
                    } else {
                        0
                    };
                    let wait = self.draw.exponential(pause * self.condition.pace);
                    let length = self.draw.size(median, 1.0, 40, 40_000);
                    messages.extend(plain::http_exchange(self.draw, &host, wait.min(60.0), upload, length));
                }
                (self.draw.weighted(&[(0.9, 80), (0.1, 8080)]), messages)
            }
        };
        let path = self.condition.path(self.draw, pool, port);
        self.stream(path, &messages, budget, false)
    }

    /// Sends bursts as TLS over TCP; `resumed` is the probability that the capture contains only the later part.
    fn tls_conversation(
        &mut self,
        path: Path,
        pool: Pool,
        library: ClientLibrary,
        shape: &[Burst],
        budget: usize,
        resumed: f64,
    ) -> Vec<Frame> {
        let resumed = self.draw.chance(resumed);
        let settings = tls_settings(self.draw, pool, library);
        let mut messages = if resumed { Vec::new() } else { tls::handshake_messages(self.draw, &settings) };
        for burst in shape {
            messages.push(Message::new(burst.from, burst.delay, tls::application_data(self.draw, burst.bytes)));
        }
        if self.draw.chance(0.5) {
            let modern = settings.library.modern() && settings.modern_server;
            messages.push(Message::new(Side::Client, 0.5, tls::close_notify(self.draw, modern)));
        }
        self.stream(path, &messages, budget, resumed)
    }

    /// Sends bursts as QUIC.
    fn quic_conversation(&mut self, pool: Pool, budget: usize) -> Vec<Frame> {
        let path = self.condition.path(self.draw, pool, 443);
        let largest = self.draw.pick(&[1200, 1232, 1250]).min(path.mtu - path.network_header() - 8);
        let draft = self.draw.chance(0.25);
        let connection = QuicConnection::new(self.draw, draft);
        let mut messages = if self.draw.chance(0.1) { Vec::new() } else { connection.handshake(self.draw, largest) };
        for burst in self.shape() {
            let mut left = burst.bytes;
            let mut delay = burst.delay;
            let mut sent = 0;
            while left > 0 && sent < budget {
                let part = left.min(largest - 30);
                left -= part;
                messages.push(Message::new(burst.from, delay, connection.short(self.draw, burst.from, part)));
                delay = 0.000_15;
                sent += 1;
                if sent % 4 == 0 {
                    let other = burst.from.other();
                    let length = self.draw.between(24, 32);
                    messages.push(Message::new(other, 0.000_1, connection.short(self.draw, other, length)));
                }
            }
        }
        self.datagrams(path, &messages, budget)
    }

    /// Generates a call's media (or the SIP dialogue that sets it up).
    fn call(&mut self, carrier: Carrier, pool: Pool, budget: usize) -> Vec<Frame> {
        let video = self.class.category == "video" && self.draw.chance(0.95);
        let application = self.class.application;
        let file = self.class.category == "filetrans";
        if carrier == Carrier::Sip && self.draw.chance(0.4) {
            let path = self.condition.path(self.draw, pool, 5060);
            let port = 16_384 + 2 * self.draw.between(0, 8000) as u16;
            let messages = media::sip_dialogue(self.draw, &path, port);
            return self.datagrams(path, &messages, budget);
        }
        let port = match application {
            "hangouts" => self.draw.pick(&[19_305, 19_302, 3478]),
            "facebook" => self.draw.pick(&[40_003, 3478, 3478]),
            "skype" => self.draw.between(40_000, 48_000) as u16,
            _ => 16_384 + 2 * self.draw.between(0, 8000) as u16,
        };
        let mut path = self.condition.path(self.draw, pool, port);
        if self.condition.marks_calls && !file {
            // Assured forwarding for video, expedited forwarding for voice.
            path.client.service = if video { 0x88 } else { 0xb8 };
        }
        let mut messages = Vec::new();
        if carrier == Carrier::Rtp && self.draw.chance(0.45) {
            let count = self.draw.between(1, 2);
            let credentials = match application {
                "facebook" => (16, 16),
                "hangouts" => (16, 8),
                _ => (4, 4),
            };
            messages.extend(media::connectivity_checks(self.draw, &path, count, credentials));
        }
        let scale = self.condition.scale;
        let (audio_size, interval) = match application {
            "facebook" => (self.draw.log_normal(60.0, 0.12) * scale, 0.06),
            "hangouts" => (self.draw.log_normal(90.0, 0.12) * scale, 0.02),
            "skype" => (self.draw.log_normal(74.0, 0.2) * scale, 0.02),
            _ => (self.draw.pick(&[20.0, 20.0, 160.0]), 0.02),
        };
        if carrier == Carrier::Proprietary {
            for place in 0..budget {
                let from = if (place % 2 == 0) ^ self.draw.chance(0.15) { Side::Client } else { Side::Server };
                let length = if file || (video && self.draw.chance(0.75)) {
                    self.draw.size(if file { 1100.0 } else { 650.0 }, 0.35, 200, 1250)
                } else {
                    self.draw.size(audio_size, 0.15, 24, 400)
                };
                messages.push(media::proprietary(self.draw, from, interval / 2.0, length));
            }
            return self.datagrams(path, &messages, budget);
        }
        let (audio_type, video_type) = match application {
            "facebook" => {
                (self.draw.weighted(&[(0.9, 97), (0.1, 111)]), self.draw.weighted(&[(0.85, 98), (0.15, 100)]))
            }
            "hangouts" => {
                (self.draw.weighted(&[(0.9, 111), (0.1, 103)]), self.draw.weighted(&[(0.85, 100), (0.15, 96)]))
            }
            "skype" => (self.draw.pick(&[104, 111]), self.draw.pick(&[107, 122])),
            _ => (if audio_size > 100.0 { 8 } else { self.draw.pick(&[18, 18, 97]) }, 100),
        };
        let step = (interval * 48_000.0) as u32;
        let mut audio = [Side::Client, Side::Server].map(|from| RtpStream::new(self.draw, from, audio_type, step));
        let mut pictures = [Side::Client, Side::Server].map(|from| RtpStream::new(self.draw, from, video_type, 3000));
        let (mut audio_packets, mut audio_bytes) = (0, 0);
        while messages.len() < budget {
            for (voice, picture) in audio.iter_mut().zip(&mut pictures) {
                if video && (audio_packets == 0 || self.draw.chance(0.7)) {
                    let parts = self.draw.between(1, 4);
                    for part in 0..parts {
                        let length = self.draw.size(800.0 * scale, 0.3, 150, 1150);
                        let delay = if part == 0 { interval / 4.0 } else { 0.000_2 };
                        messages.push(picture.packet(self.draw, delay, length, part + 1 == parts));
                    }
                    picture.next_frame();
                }
                let length = if audio_type == 8 || audio_type == 18 {
                    audio_size as usize
                } else {
                    self.draw.size(audio_size, 0.12, 20, 300)
                };
                messages.push(voice.packet(self.draw, interval / 2.0, length, false));
                voice.next_frame();
                audio_packets += 1;
                audio_bytes += length as u32;
                // WebRTC multiplexes reports on the media's port (RFC 5761).
                if self.draw.chance(0.03) && application != "voipbuster" {
                    messages.push(voice.report(self.draw, (audio_packets, audio_bytes)));
                }
            }
        }
        self.datagrams(path, &messages, budget)
    }

    /// Sends the class's bursts within Tor: whole cells, over TLS to a guard.
    fn through_guard(&mut self, budget: usize) -> Vec<Frame> {
        let port = self.draw.weighted(&[(0.5, 443), (0.5, 9001)]);
        let path = self.condition.path(self.draw, Pool::Guards, port);
        let shape = self.shape();
        // Connections to a guard last for hours, so most flows begin after a pause in one.
        let resumed = self.draw.chance(0.94);
        let mut settings = tls_settings(self.draw, Pool::Guards, ClientLibrary::OpenSsl);
        settings.resumed = false;
        let mut messages = Vec::new();
        let cell = |draw: &mut Draw, from: Side, delay: f64, count: usize| {
            Message::new(from, delay, tls::application_data(draw, count * TOR_CELL))
        };
        if !resumed {
            messages = tls::handshake_messages(self.draw, &settings);
            // VERSIONS; VERSIONS, CERTS, AUTH_CHALLENGE, NETINFO; NETINFO; then a circuit of three hops.
            messages.push(Message::new(Side::Client, 0.001, tls::application_data(self.draw, 11)));
            let length = self.draw.between(1700, 2100);
            messages.push(Message::new(Side::Server, 0.001, tls::application_data(self.draw, length)));
            messages.push(cell(self.draw, Side::Client, 0.001, 1));
            for _ in 0..3 {
                messages.push(cell(self.draw, Side::Client, 0.002, 1));
                messages.push(cell(self.draw, Side::Server, 0.05, 1));
            }
        }
        for burst in shape {
            // A relay cell carries 498 bytes of a stream.
            let mut cells = burst.bytes.div_ceil(498);
            let mut delay = burst.delay;
            while cells > 0 {
                let full = self.draw.chance(0.8);
                let count = cells.min(if full { CELLS_PER_WRITE } else { self.draw.between(1, CELLS_PER_WRITE) });
                cells -= count;
                messages.push(cell(self.draw, burst.from, delay, count));
                delay = self.draw.exponential(0.01);
            }
            // Padding cells (connection padding between client and guard).
            if self.draw.chance(0.05) {
                messages.push(cell(self.draw, Side::Client, 1.5, 1));
            }
        }
        self.stream(path, &messages, budget, resumed)
    }

    /// Generates a conversation of the class within OpenVPN, captured outside the tunnel.
    fn through_openvpn(&mut self, budget: usize) -> Vec<Frame> {
        // Older servers use the assigned port; capture readers recognise them only by it.
        let assigned = !self.condition.tunnel.second_version || self.draw.chance(0.7);
        let port = if assigned { 1194 } else { 443 };
        let mut path = self.condition.path(self.draw, Pool::Tunnels, port);
        let profile = profile(self.class.category, self.class.application);
        // The inner conversation: the same class, directly on the tunnel's interface.
        let mut inner = Condition::new(self.draw, true);
        inner.limit_mtu(INNER_MTU);
        let (pool, carrier) = (self.draw.weighted(profile.pools), self.draw.weighted(profile.carriers));
        let library = self.draw.weighted(profile.libraries);
        let frames = Scene {
            draw: &mut *self.draw,
            condition: &mut inner,
            class: self.class,
            vantage: Vantage::Direct,
            start: self.start,
            background: 0.0,
        }
        .carried(carrier, pool, library, budget);
        debug_assert!(inner.link() == Link::RawIp, "a tunnel carries IP packets");
        let set_up = if self.draw.chance(0.1) {
            let settings = tls_settings(self.draw, Pool::Tunnels, ClientLibrary::OpenSsl);
            openvpn::set_up(self.draw, &settings)
        } else {
            Vec::new()
        };
        let data = openvpn::wrap(self.draw, self.condition.tunnel, &frames);
        let mut recorder = Recorder::new(path, self.draw, self.start, budget);
        recorder.play_datagrams(&set_up);
        // The inner packets' times already include the round trips.
        path.round_trip = 0.0;
        recorder.path = path;
        recorder.play_datagrams(&data);
        recorder.into_frames()
    }

    /// Sends messages over TCP.
    fn stream(&mut self, path: Path, messages: &[Message], budget: usize, resumed: bool) -> Vec<Frame> {
        let mut tcp = TcpConversation::new(path, self.draw, self.start, budget);
        if resumed {
            tcp.resume();
        } else {
            tcp.open();
        }
        tcp.play(messages);
        tcp.finish()
    }

    /// Sends messages as datagrams.
    fn datagrams(&mut self, path: Path, messages: &[Message], budget: usize) -> Vec<Frame> {
        let mut recorder = Recorder::new(path, self.draw, self.start, budget);
        recorder.play_datagrams(messages);
        recorder.into_frames()
    }
}

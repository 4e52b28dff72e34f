//! The simulated network: pools of servers shared by classes, the hosts of a few local networks, and the condition
//! under which one capture was taken. Addresses are those reserved for benchmarks (198.18.0.0/15, RFC 2544),
//! documentation (2001:db8::/32, RFC 3849) and private networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::draw::Draw;
use super::path::{Path, System};
use super::tls::{ClientLibrary, TlsSettings};
use super::wire::{Endpoint, Link};

/// A group of servers under one operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pool {
    ContentA,
    ContentB,
    ContentC,
    Search,
    Social,
    Voice,
    Film,
    Clips,
    Telephony,
    Hosting,
    Guards,
    Tunnels,
    Resolvers,
}

/// Number of servers in each pool.
const HOSTS_PER_POOL: usize = 24;
/// Local networks of the captures; classes and tunnels share them.
const NETWORKS: [[u8; 3]; 4] = [[10, 8, 0], [10, 0, 2], [192, 168, 1], [172, 16, 5]];
/// Number of client hosts in each local network.
const HOSTS_PER_NETWORK: usize = 5;

impl Pool {
    /// Returns the operating system of a server.
    fn system(self, host: usize) -> System {
        match self {
            Self::Voice => System::Windows,
            Self::Hosting if host.is_multiple_of(5) => System::Windows,
            Self::Film => System::Apple,
            _ => System::Linux,
        }
    }

    /// Draws a server name for a hello. Content networks serve everyone, under meaningless names.
    fn server_name(self, draw: &mut Draw) -> String {
        let number = draw.between(1, 40);
        let code = draw.text(b"0123456789abcdef", 6);
        match self {
            Self::ContentA => format!("d{code}.edge-{number}.content-a.example"),
            Self::ContentB => format!("r{number}---sn-{code}.content-b.example"),
            Self::ContentC => format!("static{number}.content-c.example"),
            Self::Search => {
                format!("{}.search.example", draw.pick(&["www", "apis", "clients4", "play", "mail", "signaler"]))
            }
            Self::Social => format!("{}.social.example", draw.pick(&["www", "edge-mqtt", "graph", "static"])),
            Self::Voice => format!("{}.voice.example", draw.pick(&["api", "pipe", "trouter", "config", "mail"])),
            Self::Film => format!("ipv4-c{number}-{code}.film.example"),
            Self::Clips => format!("{}.clips.example", draw.pick(&["player", "skyfire", "api", "i"])),
            Self::Telephony => format!("{}.telephony.example", draw.pick(&["www", "login", "config"])),
            Self::Hosting => format!("{}.example", draw.word(8)),
            Self::Guards => format!("www.{}.example", draw.text(b"abcdefghijklmnopqrstuvwxyz234567", 14)),
            Self::Tunnels | Self::Resolvers => format!("node{number}.network.example"),
        }
    }
}

/// Settings agreed between an OpenVPN server and its client.
#[derive(Debug, Clone, Copy)]
pub(super) struct TunnelSettings {
    /// Whether data packets carry a peer identifier.
    pub(super) second_version: bool,
    /// Whether AEAD is used instead of CBC with HMAC.
    pub(super) modern_cipher: bool,
    pub(super) peer: u8,
}

/// The condition under which one capture was taken. It differs between captures of a class, so that what is learnt from
/// one need not hold for another.
pub(super) struct Condition {
    network: [u8; 3],
    /// Indices of the captured hosts, and their systems.
    clients: Vec<(usize, System)>,
    link: Link,
    /// Seconds.
    round_trip: f64,
    jitter: f64,
    loss: f64,
    mtu: usize,
    /// Number of routers between the local network and the rest.
    hops: u8,
    /// Probability that a conversation uses IPv6.
    sixth: f64,
    next_port: u16,
    gateway: [u8; 6],
    /// Index of the nearest servers of each pool, to which names usually resolve.
    near: usize,
    /// Settings of the OpenVPN server at the end of this capture's tunnel.
    pub(super) tunnel: TunnelSettings,
    /// Whether the hosts mark packets of calls for routers on the path (RFC 8837).
    pub(super) marks_calls: bool,
    /// Factor for all waiting times of applications: how busy the users are.
    pub(super) pace: f64,
    /// Factor of this capture's sizes relative to the class's median.
    pub(super) scale: f64,
}

impl Condition {
    /// Draws a condition; `inside` means captured on the inner interface of a VPN.
    pub(super) fn new(draw: &mut Draw, inside: bool) -> Self {
        let systems = [(0.4, System::Linux), (0.4, System::Windows), (0.2, System::Apple)];
        let vlan = if draw.chance(0.12) { Some(draw.between(2, 400) as u16) } else { None };
        let first = draw.below(HOSTS_PER_NETWORK);
        let clients = (0..draw.between(1, 2))
            .map(|offset| ((first + offset) % HOSTS_PER_NETWORK, draw.weighted(&systems)))
            .collect();
        let mut gateway = [0x02, 0, 0x5e, 0, 0, 0];
        gateway[5] = draw.between(1, 4) as u8;
        Self {
            network: draw.pick(&NETWORKS),
            clients,
            link: if inside { Link::RawIp } else { Link::Ethernet(vlan) },
            round_trip: draw.log_normal(if inside { 0.06 } else { 0.03 }, 0.5).clamp(0.003, 0.4),
            jitter: draw.real(0.05, 0.35),
            loss: draw.weighted(&[(0.5, 0.002), (0.3, 0.01), (0.2, 0.03)]),
            mtu: if inside { draw.pick(&[1397, 1406, 1500]) } else { draw.pick(&[1500, 1500, 1500, 1492]) },
            hops: draw.between(1, 4) as u8,
            sixth: if draw.chance(0.15) { 0.35 } else { 0.0 },
            next_port: draw.between(49_152, 65_535) as u16,
            gateway,
            near: draw.below(HOSTS_PER_POOL),
            tunnel: TunnelSettings {
                second_version: draw.chance(0.7),
                modern_cipher: draw.chance(0.7),
                peer: draw.between(0, 40) as u8,
            },
            marks_calls: draw.chance(0.6),
            pace: draw.log_normal(1.0, 0.3),
            scale: draw.log_normal(1.0, 0.12),
        }
    }

    /// Returns the link layer of the capture.
    pub(super) fn link(&self) -> Link {
        self.link
    }

    /// Lowers the maximum packet length to `mtu` bytes.
    pub(super) fn limit_mtu(&mut self, mtu: usize) {
        self.mtu = self.mtu.min(mtu);
    }

    /// Returns the next client port; ephemeral ports (RFC 6335) are not reused within 4096 calls.
    fn client_port(&mut self, draw: &mut Draw) -> u16 {
        let port = self.next_port;
        let next = u32::from(port) + draw.between(1, 4) as u32;
        self.next_port = if next > 65_535 { (next - 65_536 + 49_152) as u16 } else { next as u16 };
        port
    }

    /// Draws a server's index within its pool: a client of Tor or of a VPN usually stays with one, and most names
    /// resolve to a few nearby servers.
    fn server(&self, draw: &mut Draw, pool: Pool) -> usize {
        let first = (self.near + 5 * pool as usize) % HOSTS_PER_POOL;
        match pool {
            Pool::Guards | Pool::Tunnels if draw.chance(0.9) => first,
            _ if draw.chance(0.75) => (first + draw.below(3)) % HOSTS_PER_POOL,
            // A few servers of a pool handle most of the other conversations.
            _ => (draw.exponential(HOSTS_PER_POOL as f64 / 4.0) as usize).min(HOSTS_PER_POOL - 1),
        }
    }

    /// Draws a path from one of the clients to a server of `pool`.
    pub(super) fn path(&mut self, draw: &mut Draw, pool: Pool, server_port: u16) -> Path {
        let (client, client_system) = draw.pick(&self.clients);
        let number = pool as usize;
        let host = self.server(draw, pool);
        let mut facts = Draw::fixed((number * 1000 + host) as u64);
        let (distance, far) = (facts.between(4, 18) as u8, facts.real(0.6, 1.8));
        let v6 = draw.chance(self.sixth);
        let (client_address, server_address): (IpAddr, IpAddr) = if v6 {
            let [_, second, third] = self.network;
            let prefix = u16::from(second) << 8 | u16::from(third);
            (
                Ipv6Addr::new(0x2001, 0xdb8, 1, prefix, 0, 0, 0, 0x10 + client as u16).into(),
                Ipv6Addr::new(0x2001, 0xdb8, 0xff, number as u16, 0, 0, 0, 1 + host as u16).into(),
            )
        } else {
            let [first, second, third] = self.network;
            (
                Ipv4Addr::new(first, second, third, 10 + client as u8).into(),
                Ipv4Addr::new(198, 18, (number * 4 + host / 8) as u8, 10 + (host * 7 % 200) as u8).into(),
            )
        };
        let server_system = pool.system(host);
        let mut hardware = [0x02, 0, 0, self.network[1], self.network[2], 0x10];
        hardware[5] += client as u8;
        let client_port = self.client_port(draw);
        Path {
            link: self.link,
            client: Endpoint {
                address: client_address,
                port: client_port,
                hardware,
                ttl: client_system.initial_ttl(),
                service: 0,
            },
            server: Endpoint {
                address: server_address,
                port: server_port,
                hardware: self.gateway,
                ttl: server_system.initial_ttl() - distance - self.hops,
                service: if distance % 5 == 0 { 0x20 } else { 0 },
            },
            client_system,
            server_system,
            round_trip: self.round_trip * far,
            jitter: self.jitter,
            loss: self.loss,
            mtu: self.mtu,
        }
    }

    /// Draws a server address as returned by a resolver, of the same address family as the path's.
    pub(super) fn resolved_address(&self, draw: &mut Draw, path: &Path) -> IpAddr {
        let (pool, host) = (draw.between(0, 9), draw.below(HOSTS_PER_POOL));
        if path.client.address.is_ipv6() {
            Ipv6Addr::new(0x2001, 0xdb8, 0xff, pool as u16, 0, 0, 0, 1 + host as u16).into()
        } else {
            Ipv4Addr::new(198, 18, (pool * 4 + host / 8) as u8, 10 + (host * 7 % 200) as u8).into()
        }
    }
}

/// Draws the handshake settings of a client with `library` and a server of `pool`.
pub(super) fn tls_settings(draw: &mut Draw, pool: Pool, library: ClientLibrary) -> TlsSettings {
    let certificate_flight = match pool {
        Pool::Search => 3900.0,
        Pool::Social => 2700.0,
        Pool::Voice => 4400.0,
        Pool::Film => 3300.0,
        Pool::ContentA => 3500.0,
        Pool::ContentB => 4000.0,
        Pool::ContentC => 2900.0,
        Pool::Guards => 1100.0,
        _ => 3100.0,
    };
    let modern_share = match pool {
        Pool::Hosting | Pool::Telephony => 0.45,
        Pool::Voice => 0.6,
        _ => 0.88,
    };
    let protocols: &'static [&'static str] = match library {
        ClientLibrary::Chromium | ClientLibrary::Firefox | ClientLibrary::Mobile => &["h2", "http/1.1"],
        ClientLibrary::OpenSsl => draw.pick(&[&[], &["http/1.1"]]),
        ClientLibrary::Legacy => &[],
    };
    let named = pool != Pool::Tunnels && !(library == ClientLibrary::Legacy && draw.chance(0.3));
    TlsSettings {
        library,
        server_name: named.then(|| pool.server_name(draw)),
        modern_server: draw.chance(modern_share),
        protocols,
        resumed: draw.chance(0.2),
        preferred_cipher: match pool {
            Pool::Search | Pool::ContentA => draw.weighted(&[(0.8, 0), (0.2, 1)]),
            Pool::Guards => 1,
            _ => draw.weighted(&[(0.5, 0), (0.5, 1)]),
        },
        certificate_flight,
    }
}

/// Draws a name for a client to look up: a server's.
pub(super) fn looked_up_name(draw: &mut Draw) -> String {
    let pools =
        [Pool::ContentA, Pool::ContentB, Pool::ContentC, Pool::Search, Pool::Social, Pool::Voice, Pool::Hosting];
    draw.pick(&pools).server_name(draw)
}

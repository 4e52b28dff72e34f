//! The generated classes, and the likely properties of their flows: where the servers are, which library the client
//! uses, and what carries the flow. Profiles overlap on purpose: classes share pools of servers, libraries and
//! carriers, as real ones do.

use super::network::Pool;
use super::tls::ClientLibrary;

/// One class: a value for each label column. A capture contains flows of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SynthClass {
    /// Label column `traffic`: `normal` or `botnet`.
    pub traffic: &'static str,
    /// Label column `tunnel`: `non_vpn`, `vpn` or `tor`.
    pub tunnel: &'static str,
    /// Label column `category`: `browsing`, `chat`, `email`, `filetrans`, `video`, `voip`, and for botnets
    /// `control`, `scan`, `spam`, `fraud`, `resolution`.
    pub category: &'static str,
    /// Label column `application`.
    pub application: &'static str,
}

const fn class(
    traffic: &'static str,
    tunnel: &'static str,
    category: &'static str,
    application: &'static str,
) -> SynthClass {
    SynthClass { traffic, tunnel, category, application }
}

/// All classes, in the order in which captures are written.
pub const CLASSES: [SynthClass; 38] = [
    class("normal", "non_vpn", "voip", "facebook"),
    class("normal", "non_vpn", "video", "facebook"),
    class("normal", "non_vpn", "voip", "hangouts"),
    class("normal", "non_vpn", "video", "hangouts"),
    class("normal", "non_vpn", "video", "netflix"),
    class("normal", "non_vpn", "voip", "skype"),
    class("normal", "non_vpn", "video", "skype"),
    class("normal", "non_vpn", "video", "vimeo"),
    class("normal", "non_vpn", "voip", "voipbuster"),
    class("normal", "non_vpn", "video", "youtube"),
    class("normal", "non_vpn", "browsing", "web"),
    class("normal", "non_vpn", "chat", "facebook"),
    class("normal", "non_vpn", "email", "mail"),
    class("normal", "non_vpn", "filetrans", "sftp"),
    class("normal", "vpn", "chat", "facebook"),
    class("normal", "vpn", "chat", "hangouts"),
    class("normal", "vpn", "filetrans", "sftp"),
    class("normal", "vpn", "filetrans", "skype"),
    class("normal", "vpn", "video", "netflix"),
    class("normal", "vpn", "video", "youtube"),
    class("normal", "vpn", "voip", "hangouts"),
    class("normal", "vpn", "voip", "voipbuster"),
    class("normal", "tor", "browsing", "web"),
    class("normal", "tor", "browsing", "forum"),
    class("normal", "tor", "chat", "facebook"),
    class("normal", "tor", "chat", "hangouts"),
    class("normal", "tor", "filetrans", "ftps"),
    class("normal", "tor", "filetrans", "sftp"),
    class("normal", "tor", "video", "vimeo"),
    class("normal", "tor", "video", "youtube"),
    class("normal", "tor", "voip", "facebook"),
    class("normal", "tor", "voip", "hangouts"),
    class("botnet", "non_vpn", "control", "irc"),
    class("botnet", "non_vpn", "control", "http"),
    class("botnet", "non_vpn", "scan", "ports"),
    class("botnet", "non_vpn", "spam", "smtp"),
    class("botnet", "non_vpn", "fraud", "clicks"),
    class("botnet", "non_vpn", "resolution", "generated_names"),
];

/// Protocol that carries a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// TLS over TCP.
    Tls,
    /// QUIC over UDP.
    Quic,
    /// HTTP in the clear.
    Http,
    /// SSH and SFTP.
    Ssh,
    /// Mail submission in the clear.
    Smtp,
    /// IRC in the clear.
    Irc,
    /// A call: STUN, then RTP.
    Rtp,
    /// SIP and its RTP stream, without STUN.
    Sip,
    /// A vendor's proprietary call protocol over UDP.
    Proprietary,
    /// Resolution of one name.
    Dns,
    /// Connection attempts that are refused or not answered.
    Probe,
}

/// Likely properties of a class's flows; each list has weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Profile {
    pub(super) pools: &'static [(f64, Pool)],
    pub(super) carriers: &'static [(f64, Carrier)],
    pub(super) libraries: &'static [(f64, ClientLibrary)],
}

const BROWSERS: &[(f64, ClientLibrary)] =
    &[(0.6, ClientLibrary::Chromium), (0.3, ClientLibrary::Firefox), (0.1, ClientLibrary::Mobile)];
const APPLICATIONS: &[(f64, ClientLibrary)] =
    &[(0.45, ClientLibrary::Mobile), (0.35, ClientLibrary::Chromium), (0.2, ClientLibrary::OpenSsl)];
const PLAYERS: &[(f64, ClientLibrary)] =
    &[(0.6, ClientLibrary::OpenSsl), (0.25, ClientLibrary::Mobile), (0.15, ClientLibrary::Chromium)];
const EMBEDDED: &[(f64, ClientLibrary)] =
    &[(0.8, ClientLibrary::Firefox), (0.15, ClientLibrary::Chromium), (0.05, ClientLibrary::Mobile)];
const OLD: &[(f64, ClientLibrary)] =
    &[(0.45, ClientLibrary::Legacy), (0.3, ClientLibrary::OpenSsl), (0.25, ClientLibrary::Chromium)];

/// Returns the profile of an application within a category.
pub(super) fn profile(category: &str, application: &str) -> Profile {
    use Carrier::{Dns, Http, Irc, Probe, Proprietary, Quic, Rtp, Sip, Smtp, Ssh, Tls};
    let pools: &'static [(f64, Pool)] = match application {
        "facebook" => &[(0.84, Pool::Social), (0.1, Pool::ContentA), (0.06, Pool::Search)],
        "hangouts" => &[(0.86, Pool::Search), (0.07, Pool::ContentA), (0.07, Pool::ContentB)],
        "youtube" => &[(0.82, Pool::Search), (0.13, Pool::ContentB), (0.05, Pool::ContentC)],
        "skype" => &[(0.84, Pool::Voice), (0.1, Pool::ContentA), (0.06, Pool::Telephony)],
        "netflix" => &[(0.88, Pool::Film), (0.07, Pool::ContentB), (0.05, Pool::ContentC)],
        "vimeo" => &[(0.74, Pool::Clips), (0.2, Pool::ContentC), (0.06, Pool::ContentA)],
        "voipbuster" => &[(0.82, Pool::Telephony), (0.12, Pool::Hosting), (0.06, Pool::Voice)],
        "sftp" | "ftps" => &[(0.8, Pool::Hosting), (0.15, Pool::ContentC), (0.05, Pool::Voice)],
        "mail" => &[(0.5, Pool::Hosting), (0.3, Pool::Search), (0.2, Pool::Voice)],
        "web" | "forum" => &[
            (0.25, Pool::ContentA),
            (0.25, Pool::ContentB),
            (0.2, Pool::ContentC),
            (0.1, Pool::Search),
            (0.1, Pool::Social),
            (0.1, Pool::Hosting),
        ],
        "clicks" => &[(0.3, Pool::ContentA), (0.3, Pool::ContentB), (0.3, Pool::Hosting), (0.1, Pool::Search)],
        _ => &[(0.8, Pool::Hosting), (0.2, Pool::ContentC)],
    };
    let carriers: &'static [(f64, Carrier)] = match (category, application) {
        ("voip" | "video", "facebook" | "hangouts") => &[(0.96, Rtp), (0.04, Tls)],
        ("voip" | "video", "skype") => &[(0.92, Proprietary), (0.04, Rtp), (0.04, Tls)],
        ("voip", _) => &[(0.65, Sip), (0.31, Rtp), (0.04, Tls)],
        ("video", "youtube") => &[(0.85, Quic), (0.15, Tls)],
        ("video", "netflix") => &[(0.97, Tls), (0.03, Quic)],
        ("video", _) => &[(0.96, Tls), (0.04, Quic)],
        ("browsing", _) => &[(0.6, Tls), (0.2, Quic), (0.18, Http), (0.02, Probe)],
        ("chat", "hangouts") => &[(0.5, Tls), (0.5, Quic)],
        ("chat", _) => &[(0.92, Tls), (0.04, Irc), (0.04, Http)],
        ("email", _) => &[(0.6, Tls), (0.4, Smtp)],
        ("filetrans", "sftp") => &[(0.75, Ssh), (0.2, Tls), (0.05, Probe)],
        ("filetrans", "skype") => &[(0.35, Tls), (0.65, Proprietary)],
        ("filetrans", _) => &[(1.0, Tls)],
        ("control", "irc") => &[(0.75, Irc), (0.15, Tls), (0.1, Probe)],
        ("control", _) => &[(0.6, Http), (0.4, Tls)],
        ("scan", _) => &[(0.9, Probe), (0.1, Http)],
        ("spam", _) => &[(0.8, Smtp), (0.12, Probe), (0.08, Dns)],
        ("fraud", _) => &[(0.7, Http), (0.3, Tls)],
        _ => &[(0.85, Dns), (0.1, Http), (0.05, Probe)],
    };
    let libraries = match application {
        "facebook" | "skype" | "voipbuster" => APPLICATIONS,
        "netflix" => PLAYERS,
        "vimeo" => EMBEDDED,
        "irc" | "http" | "sftp" => OLD,
        _ => BROWSERS,
    };
    Profile { pools, carriers, libraries }
}

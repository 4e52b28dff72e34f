//! The shape of what an application sends, before any protocol carries it: bursts with a direction, a size and a pause.
//! Shapes of different categories overlap: a video page also loads small files, and a chat also sends pictures.

use super::draw::Draw;
use super::wire::Side;

/// Application bytes sent in one go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Burst {
    pub(super) from: Side,
    pub(super) bytes: usize,
    /// Seconds since the previous burst.
    pub(super) delay: f64,
}

/// Probability that a flow behaves like another category than its own.
const DRIFT: f64 = 0.03;

/// Maximum size of a burst; more never fits into the longest captured conversation.
const LARGEST: usize = 60_000;

/// Draws the bursts of one flow. `pace` multiplies pauses and `scale` multiplies sizes; both are properties of the
/// capture.
pub(super) fn bursts(draw: &mut Draw, category: &str, application: &str, pace: f64, scale: f64) -> Vec<Burst> {
    let category = if draw.chance(DRIFT) { draw.pick(&["browsing", "chat", "filetrans", "video"]) } else { category };
    let mut bursts = match category {
        "chat" | "control" => chat(draw),
        "filetrans" => transfer(draw),
        "video" => streaming(draw, application),
        "voip" => call(draw),
        "email" => mail(draw),
        _ => browsing(draw),
    };
    for burst in &mut bursts {
        burst.delay *= pace;
        burst.bytes = ((burst.bytes as f64 * scale) as usize).clamp(16, LARGEST);
    }
    bursts
}

fn burst(from: Side, bytes: usize, delay: f64) -> Burst {
    Burst { from, bytes, delay }
}

/// Requests for the parts of a page.
fn browsing(draw: &mut Draw) -> Vec<Burst> {
    let mut bursts = Vec::new();
    for part in 0..draw.size(4.0, 0.7, 1, 20) {
        let delay = if part == 0 { 0.001 } else { draw.exponential(0.6) };
        bursts.push(burst(Side::Client, draw.size(400.0, 0.2, 120, 2000), delay));
        let think = draw.exponential(0.03);
        bursts.push(burst(Side::Server, draw.size(3800.0, 0.8, 150, LARGEST), think));
    }
    bursts
}

/// Short texts both ways, with long pauses and delivery acknowledgements.
fn chat(draw: &mut Draw) -> Vec<Burst> {
    let mut bursts = Vec::new();
    for _ in 0..draw.size(7.0, 0.6, 2, 30) {
        let from = if draw.chance(0.5) { Side::Client } else { Side::Server };
        let delay = draw.exponential(4.0);
        bursts.push(burst(from, draw.size(170.0, 0.5, 40, 1400), delay));
        bursts.push(burst(from.other(), draw.size(70.0, 0.3, 20, 300), 0.01));
    }
    bursts
}

/// A file in one direction in steady bursts, with small answers.
fn transfer(draw: &mut Draw) -> Vec<Burst> {
    let sender = if draw.chance(0.55) { Side::Client } else { Side::Server };
    let mut bursts = vec![
        burst(Side::Client, draw.size(110.0, 0.3, 40, 400), 0.01),
        burst(Side::Server, draw.size(90.0, 0.3, 30, 300), 0.005),
    ];
    for _ in 0..draw.size(6.0, 0.6, 2, 20) {
        bursts.push(burst(sender, draw.size(12_000.0, 0.5, 1500, LARGEST), 0.002));
        bursts.push(burst(sender.other(), draw.size(52.0, 0.2, 30, 120), 0.001));
    }
    bursts
}

/// Segments of a video: a request, a large answer, a pause during playback.
fn streaming(draw: &mut Draw, application: &str) -> Vec<Burst> {
    let (request, segment, pause) = match application {
        "netflix" => (900.0, 22_000.0, 3.5),
        "youtube" => (1150.0, 15_000.0, 2.0),
        "vimeo" => (850.0, 18_000.0, 2.8),
        _ => (700.0, 12_000.0, 1.5),
    };
    let mut bursts = Vec::new();
    for part in 0..draw.size(3.0, 0.5, 1, 12) {
        let delay = if part == 0 { 0.001 } else { draw.exponential(pause) };
        bursts.push(burst(Side::Client, draw.size(request, 0.25, 200, 2500), delay));
        let think = draw.exponential(0.01);
        bursts.push(burst(Side::Server, draw.size(segment, 0.6, 1200, LARGEST), think));
    }
    bursts
}

/// Voice frames in both directions at a steady pace.
fn call(draw: &mut Draw) -> Vec<Burst> {
    // A stream protocol collects a few voice frames before it sends them.
    let frame = draw.size(640.0, 0.12, 300, 900);
    let interval = draw.pick(&[0.04, 0.08, 0.12]);
    (0..draw.size(22.0, 0.5, 6, 60))
        .map(|place| {
            let from = if (place % 2 == 0) ^ draw.chance(0.15) { Side::Client } else { Side::Server };
            let bytes = draw.size(frame as f64, 0.06, 200, 1000);
            burst(from, bytes, interval / 2.0)
        })
        .collect()
}

/// A mailbox: commands, then messages up or down.
fn mail(draw: &mut Draw) -> Vec<Burst> {
    let mut bursts = Vec::new();
    for _ in 0..draw.size(3.0, 0.5, 1, 8) {
        bursts.push(burst(Side::Client, draw.size(80.0, 0.5, 20, 500), 0.05));
        bursts.push(burst(Side::Server, draw.size(160.0, 0.6, 40, 2000), 0.02));
    }
    let from = if draw.chance(0.5) { Side::Client } else { Side::Server };
    bursts.push(burst(from, draw.size(6000.0, 1.0, 600, LARGEST), 0.05));
    bursts.push(burst(from.other(), draw.size(60.0, 0.3, 30, 200), 0.1));
    bursts
}

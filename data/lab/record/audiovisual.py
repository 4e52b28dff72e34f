"""Speech and video that the callers and players of the lab send and watch: made once from the seed, encoded once, sent as they are."""

from __future__ import annotations

import fcntl
import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .kind import Lab

VOICES = ["slt", "rms", "awb", "kal"]
SPEECHES = 8
SPEECH_SECONDS = 14
CLIPS = 6
CLIP_SECONDS = 24
FRAME_RATE = 15
# Width, height and kbit/s of the renditions that adaptive players choose from.
RENDITIONS = [(192, 108, 70), (320, 180, 160), (480, 270, 380)]

SENTENCES = [
    "Hello, can you hear me now?", "Yes, I can hear you very well, go on.", "The train leaves at half past seven from platform nine.",
    "I will send you the document this afternoon.", "Let us meet at the station, if the weather is fine.", "That sounds like a good idea to me.",
    "How was the journey, and how are the children?", "We should talk about the budget before the end of the week.", "No, that is not what I meant.",
    "Could you repeat the last number, please?", "It has been raining here since the early morning.", "Thank you very much, and see you tomorrow.",
]


def _ffmpeg(*arguments) -> None:
    subprocess.run(["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-y", *map(str, arguments)], check=True, capture_output=True)


def _speech(folder: Path, seed: int, number: int) -> None:
    """One speaker with pauses: WAV files in the formats that the codecs want exactly, and Opus in Ogg."""
    rng = random.Random(f"{seed} speech {number}")
    text = folder / f"speech-{number}.txt"
    text.write_text(" ".join(rng.sample(SENTENCES, 6)))
    master = folder / f"speech-{number}.wav"
    delay = rng.randrange(0, 400)
    _ffmpeg("-f", "lavfi", "-i", f"flite=textfile={text}:voice={VOICES[number % len(VOICES)]}",
            "-af", f"adelay={delay},aresample=48000,apad,volume={rng.uniform(0.5, 1):.2f}", "-t", SPEECH_SECONDS, "-ac", 1, master)
    for word, rate, channels in (("8000", 8000, 1), ("16000", 16000, 1), ("48000", 48000, 2)):
        _ffmpeg("-i", master, "-ar", rate, "-ac", channels, "-c:a", "pcm_s16le", folder / f"speech-{number}-{word}.wav")
    _ffmpeg("-i", master, "-c:a", "libopus", "-b:a", "24k", folder / f"speech-{number}.opus")


def _picture_source(rng: random.Random) -> str:
    """A moving picture of some kind, as a source of ffmpeg."""
    size, rate = "480x270", FRAME_RATE
    return rng.choice([
        f"mandelbrot=size={size}:rate={rate}:start_scale={rng.uniform(0.5, 3):.2f}",
        f"life=size={size}:rate={rate}:mold=10:ratio={rng.uniform(0.1, 0.4):.2f}:seed={rng.getrandbits(31)}:death_color=#{rng.getrandbits(24):06x}:life_color=#{rng.getrandbits(24):06x}",
        f"testsrc2=size={size}:rate={rate}",
        f"gradients=size={size}:rate={rate}:nb_colors={rng.randrange(2, 8)}:seed={rng.getrandbits(31)}:speed={rng.uniform(0.005, 0.05):.3f}",
        f"cellauto=size={size}:rate={rate}:rule={rng.choice([18, 30, 110, 150])}:seed={rng.getrandbits(31)}",
    ])


def _clip(folder: Path, seed: int, number: int) -> None:
    """One clip: an MP4 per rendition, HLS in two segment formats, DASH, and H.264 without B-frames for calls (a transport stream, whose packets can go out as they are)."""
    rng = random.Random(f"{seed} clip {number}")
    source = _picture_source(rng)
    speech = folder / f"speech-{number % SPEECHES}.wav"
    noise = rng.randrange(2, 12)
    for index, (width, height, rate) in enumerate(RENDITIONS):
        _ffmpeg("-f", "lavfi", "-i", source, "-stream_loop", -1, "-i", speech, "-t", CLIP_SECONDS, "-map", "0:v", "-map", "1:a",
                "-vf", f"noise=alls={noise}:allf=t,scale={width}:{height},format=yuv420p", "-c:v", "libx264", "-preset", "veryfast", "-threads", 1, "-b:v", f"{rate}k",
                "-maxrate", f"{rate * 3 // 2}k", "-bufsize", f"{rate * 2}k", "-g", FRAME_RATE * 2, "-keyint_min", FRAME_RATE * 2, "-sc_threshold", 0,
                "-c:a", "aac", "-b:a", "48k", "-ac", 1, "-movflags", "+faststart", folder / f"clip-{number}-{index}.mp4")
    _ffmpeg("-i", folder / f"clip-{number}-1.mp4", "-an", "-c:v", "libx264", "-profile:v", "baseline", "-preset", "veryfast", "-threads", 1, "-b:v", "200k",
            "-maxrate", "260k", "-bufsize", "200k", "-g", FRAME_RATE, "-f", "mpegts", folder / f"call-{number}.ts")
    inputs = [word for index in range(len(RENDITIONS)) for word in ("-i", folder / f"clip-{number}-{index}.mp4")]
    maps = [word for index in range(len(RENDITIONS)) for word in ("-map", f"{index}:v")]
    for segments, options in (("ts", []), ("fmp4", ["-hls_segment_type", "fmp4"])):
        target = folder / f"hls-{number}-{segments}"
        target.mkdir(exist_ok=True)
        maps_av = [word for index in range(len(RENDITIONS)) for word in ("-map", f"{index}:v", "-map", f"{index}:a")]
        streams = " ".join(f"v:{index},a:{index}" for index in range(len(RENDITIONS)))
        _ffmpeg(*inputs, *maps_av, "-c", "copy", "-f", "hls", "-hls_time", 2, "-hls_playlist_type", "vod", *options, "-var_stream_map", streams,
                "-master_pl_name", "master.m3u8", "-hls_segment_filename", target / ("r%v-%d." + ("ts" if segments == "ts" else "m4s")), target / "r%v.m3u8")
    target = folder / f"dash-{number}"
    target.mkdir(exist_ok=True)
    _ffmpeg(*inputs, *maps, "-map", "1:a", "-c", "copy", "-f", "dash", "-seg_duration", 2, "-use_template", 1, "-use_timeline", number % 2,
            "-adaptation_sets", "id=0,streams=v id=1,streams=a", target / "manifest.mpd")


def folder(lab: Lab) -> Path:
    """Folder of speech and clips below the lab's media; made at the first call, which takes about a minute."""
    target = lab.media / "audiovisual"
    target.mkdir(parents=True, exist_ok=True)
    # Captures are recorded side by side: one of them makes the files, the others wait.
    with open(target / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / "complete").exists():
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda number: _speech(target, lab.seed, number), range(SPEECHES)))
                list(pool.map(lambda number: _clip(target, lab.seed, number), range(CLIPS)))
            (target / "complete").write_text("")
    return target


def speech(lab: Lab, rng: random.Random, rate: int) -> Path:
    """A WAV of speech at 8000 or 16000 (mono) or 48000 Hz (stereo), drawn."""
    return folder(lab) / f"speech-{rng.randrange(SPEECHES)}-{rate}.wav"

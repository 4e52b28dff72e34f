#!/usr/bin/env python3
"""Creates the initial seeds of the fuzzers in `seeds`, a few hundred bytes each; the folder also has fuzzers' findings."""

import gzip
import pathlib
import shutil
import struct
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent


def write(target, name, data):
    folder = HERE / "seeds" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def ipv4(protocol, payload, fragment=0):
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 7, fragment, 64, protocol, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
    return header + payload


def ipv6(following, payload):
    return struct.pack(">IHBB", 0x60000000, len(payload), following, 64) + b"\x20" * 16 + b"\xfd" * 16 + payload


def udp(ports, payload):
    return struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload


TCP = struct.pack(">HHIIBBHHH", 40000, 443, 1, 2, 0x80, 0x18, 500, 0, 0) + b"\1\1\x08\x0a" + b"\0" * 8 + b"data"
PACKET = ipv4(6, TCP)
PACKET6 = ipv6(60, b"\x2c\0\0\0\0\0\0\0" + b"\x06\0\0\0\0\0\0\7" + TCP)
FRAGMENT = ipv4(17, udp((53, 9999), b"first"), 0x2000)
ETHERNET = b"\2" * 12 + b"\x08\0"
SNAP = b"\xaa\xaa\3\0\0\0\x08\0"
WIRELESS = b"\x08\2" + b"\0" * 22 + SNAP

for name, link_type, header in [
    ("null", 0, b"\2\0\0\0"), ("ethernet", 1, ETHERNET), ("vlan", 1, ETHERNET[:12] + b"\x88\xa8\0\1\x81\0\0\2\x08\0"),
    ("mpls", 1, ETHERNET[:12] + b"\x88\x47\0\0\1\x40"), ("pppoe", 1, ETHERNET[:12] + b"\x88\x64\x11\0\0\1\0\x28\0\x21"),
    ("snap", 1, ETHERNET[:12] + b"\0\x64" + SNAP), ("token-ring", 6, b"\0" * 8 + b"\x80" + b"\0" * 5 + b"\6\0\0\0\0\0" + SNAP),
    ("ppp", 9, b"\xff\3\0\x21"), ("raw", 101, b""), ("hdlc", 104, b"\x0f\0\x08\0"), ("wireless", 105, WIRELESS),
    ("frame-relay", 107, b"\x18\x41\3\xcc"), ("sll", 113, b"\0" * 14 + b"\x08\0"), ("pflog", 117, b"\x3d\2" + b"\0" * 62),
    ("avs", 163, b"\x80\x21\x10\1\0\0\0\x40" + b"\0" * 56 + WIRELESS), ("radiotap", 127, b"\0\0\x09\0\2\0\0\0\x10" + WIRELESS),
    ("ppi", 192, b"\0\0\x08\0\x69\0\0\0" + WIRELESS), ("nflog", 239, b"\2\0\0\0\5\0\x0a\0\0\x09\x09\x09\x2c\0\x09\0"),
    ("pktap", 258, b"\x0c\0\0\0\1\0\0\0\1\0\0\0" + ETHERNET), ("sll2", 276, b"\x08\0" + b"\0" * 18),
]:
    write("packet", name, struct.pack("<HB", link_type, 0) + header + PACKET)
for name, packet in [
    ("ipv6", PACKET6), ("fragment", FRAGMENT), ("gre", ipv4(47, b"\xb0\0\x08\0" + b"\0" * 12 + PACKET)),
    ("pptp", ipv4(47, b"\x30\x81\x88\x0b\0\4\0\1\0\0\0\1\0\0\0\2\xff\3\0\x21" + PACKET)),
    ("vxlan", ipv4(17, udp((40000, 4789), b"\x08\0\0\0\0\0\x09\0" + ETHERNET + PACKET))),
    ("gtp", ipv4(17, udp((40000, 2152), b"\x34\xff\0\0\0\0\0\x09\0\1\0\x85\1\0\0\0" + PACKET))),
    ("teredo", ipv4(17, udp((40000, 3544), b"\0\0\1\2\3\4\5\6" + PACKET6))), ("6in4", ipv4(41, PACKET6)),
    ("4in6in4", ipv4(41, ipv6(4, PACKET))), ("authentication", ipv4(51, b"\6\4" + b"\0" * 22 + TCP)),
]:
    write("packet", name, struct.pack("<HB", 101, 9) + packet)


def pcap(order, magic, frames, modified=False):
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 1)
    for number, frame in enumerate(frames):
        data += struct.pack(order + "IIII", number, number, len(frame), len(frame))
        data += (b"\0" * 8 if modified else b"") + frame
    return data


def block(order, kind, body):
    body += b"\0" * (-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def pcapng(order):
    section = block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    options = struct.pack(order + "HHBxxxHHqHH", 9, 1, 0x8A, 14, 8, 100, 0, 0)
    interface = block(order, 1, struct.pack(order + "HHI", 1, 0, 65535) + options)
    frame = ETHERNET + PACKET
    enhanced = block(order, 6, struct.pack(order + "IIIII", 0, 0, 9, len(frame), len(frame)) + frame)
    simple = block(order, 3, struct.pack(order + "I", len(frame)) + frame)
    obsolete = block(order, 2, struct.pack(order + "HHIIII", 0, 0, 0, 9, len(frame), len(frame)) + frame)
    return section + interface + enhanced + simple + obsolete + block(order, 0x0BAD, b"unknown")


FRAMES = [ETHERNET + PACKET, ETHERNET + FRAGMENT, ETHERNET[:12] + b"\x86\xdd" + PACKET6]
plain = pcap("<", 0xA1B2C3D4, FRAMES)
write("capture", "little.pcap", plain)
write("capture", "big-nanoseconds.pcap", pcap(">", 0xA1B23C4D, FRAMES))
write("capture", "modified.pcap", pcap("<", 0xA1B2CD34, FRAMES, True))
write("capture", "little.pcapng", pcapng("<"))
write("capture", "sections.pcapng", pcapng(">") + pcapng("<"))
for name, command in [("gz", ["gzip", "-nc"]), ("bz2", ["bzip2", "-c"]), ("xz", ["xz", "-c"]), ("zst", ["zstd", "-qc"])]:
    compressed = subprocess.run(command, input=plain, stdout=subprocess.PIPE, check=True).stdout
    write("capture", f"whole.pcap.{name}", compressed)
    write("capture", f"cut.pcap.{name}", compressed[: len(compressed) * 2 // 3])
write("capture", "twice.pcap.gz", gzip.compress(gzip.compress(plain, mtime=0), mtime=0))

work = HERE / "seeds" / "work"
work.mkdir(parents=True, exist_ok=True)
for method in ["Copy", "Deflate", "Deflate64", "BZip2"]:
    (work / "a.pcap").write_bytes(plain)
    (work / "zip").unlink(missing_ok=True)
    subprocess.run(["7z", "a", "-tzip", f"-mm={method}", "zip", "a.pcap"], cwd=work, check=True, stdout=subprocess.DEVNULL)
    path = next(path for path in [work / "zip", work / "zip.zip"] if path.exists())
    write("zip", method.lower(), path.read_bytes())
    path.unlink()
shutil.rmtree(work)

write("labels", "table", b"\0capture_stem,tunnel,category\none,vpn,chat\ntwo,no,\"file transfer\"\n")
FLOWS = "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,sTos,dTos,TotPkts,TotBytes,SrcBytes,Label\n"
ROW = "2011/08/10 09:46:53.047277,1.026539,udp,10.0.0.1,1000,  <->,10.0.0.2,53,CON,0,0,2,142,63,flow=From-{}\n"
write("labels", "flows", b"\1" + (FLOWS + ROW.format("Botnet-V42-UDP-DNS") + ROW.format("Normal-V42")).encode())
write("labels", "flows-tabs", b"\1" + (FLOWS + ROW.format("Normal")).replace(",", "\t").encode())
write("arff", "small", b"""@RELATION 'small data'
% a comment
@ATTRIBUTE duration NUMERIC
@attribute 'mean length' real
@ATTRIBUTE name string
@ATTRIBUTE class1 {CHAT,'FILE TRANSFER'}

@DATA
9368711,16.5,'it\\'s',CHAT
?,-1e9,"x",'FILE TRANSFER'
""")
write("arff", "sparse", b"@relation r\n@attribute a numeric\n@attribute b {x,y}\n@data\n{0 3, 1 y}\n")
# In the order of the table of layouts (`crates/dataset/src/published/mod.rs`), followed by a CSV file of features and a log of Zeek.
FIXTURES = ROOT / "tests/fixtures/published"
MIRAGE = b"""{"10.0.0.1,47712,10.0.0.2,4070,6": {"packet_data": {"packet_dir": [0, 1], "L4_payload_bytes": [3, 0], "iat": [0.0, 0.25],
"L4_raw_payload": [[22, 3, 1], []]}, "flow_metadata": {"BF_label": "com.spotify.music", "BF_activity": "Unknown"}}}"""
FEATURES = b",length,length,class\n0,1.5,NaN,a\n1,2,3,b,\n,,,\n2,-1e3,Infinity,\x96\n"
SEEDS = [
    b"1500000000.25\t0\t60\t1\n1500000000.5\t0.25\t1400\t0\n", MIRAGE, MIRAGE,
    (FIXTURES / "tcbench-ucdavis-icdm19/ucdavis-icdm19.parquet").read_bytes(), (FIXTURES / "wflib/CW.npz").read_bytes(),
    (FIXTURES / "appclassnet/train_x.npy").read_bytes().replace(b"(5, 20)", b"(3, 20)"),
    (FIXTURES / "cesnet-tls-year22/flows-20220101.csv").read_bytes(),
    (FIXTURES / "utmobilenet21/csvs/Deterministic Automated Data/youtube_1.csv").read_bytes(),
    (FIXTURES / "yatc/ISCXVPN2016_MFR/train/Voip/Voip-2.png").read_bytes(),
    (FIXTURES / "session-images/train-images-idx3-ubyte").read_bytes(), (FIXTURES / "et-bert/USTC-TFC/test_dataset.tsv").read_bytes(),
    (FIXTURES / "pcapml/processes.pcapng").read_bytes(), FEATURES, (ROOT / "tests/fixtures/tables/zeek-conn/chat/conn.log").read_bytes(),
]
for place, seed in enumerate(SEEDS):
    write("published", f"{place}", bytes([place]) + seed)
write("published", "zeek-json", bytes([len(SEEDS) - 1]) + (ROOT / "tests/fixtures/tables/zeek-conn/mail/conn.json.log").read_bytes())
write("published", "totals", bytes([len(SEEDS) - 2]) + b"length,class\n1,a\n2,b\nSummary\nflows,bytes\n2,3\n")
write("published", "npz", bytes([4]) + (FIXTURES / "wflib/NCDrift_sup.npz").read_bytes())
write("published", "zstd", bytes([3]) + (FIXTURES / "tcbench-ucdavis-icdm19/again/ucdavis-icdm19.parquet").read_bytes())
write("toml", "experiment", b"\0" + b"""title = "t"
seeds = [0, 1]
models = ["svm", "majority"]
[dataset]
names = ["synth"]
[selection]
label = "application"
[flow]
tunnels = "inner"
[feature]
packets = 2
bytes = 32
[split]
method = "stratified"
[variant.a]
feature.bytes = 3
""")
definition = b"""name = "fuzz"
title = "t"
reference = "r"
label_columns = ["kind"]
published_at = { url = "u", how = "h" }
files = { patterns = ["**/*.pcap"] }
[[rule]]
stem = "^(?<kind>[a-z]+)"
"""
write("toml", "definition", b"\1" + definition)
write("toml", "tolerance", b"\2" + (ROOT / "results/tolerances/table1-synth-ci.toml").read_bytes()[:1500])
write("split", "whole", b"flow_id,part\none.pcap#0,train\none.pcap#1,validation\none.pcap#2,test\n")

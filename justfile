# `just` without arguments lists the recipes. On a fresh machine use `./justw` instead.

etcbench := "target/release/etcbench"

[private]
default:
    @just --list --unsorted

# Tables 1 to 5 on the recorded captures in the repository, in small sizes and two at a time: a first look in three minutes.
demo *options='--jobs 2': build
    {{ etcbench }} reproduce all --data lab --size demo {{ options }}

# The same on generated captures.
demo-synth *options: build
    {{ etcbench }} reproduce all --data synth --size demo {{ options }}

# Every test.
test *options:
    cargo test --profile checked --locked --workspace --lib --tests {{ options }}
    cargo test --profile checked --locked --workspace --doc

# One of the paper's tables (table1 to table5), or all of them.
reproduce table *options: build
    {{ etcbench }} reproduce {{ table }} {{ options }}

# The same flows and models, split from random packets to whole captures, hosts and other datasets: the loss of score per step.
ladder experiment *options: build
    {{ etcbench }} ladder {{ experiment }} {{ options }}

# Any experiment file in experiments/, by name.
run experiment *options: build
    {{ etcbench }} run experiments/{{ experiment }}.toml {{ options }}

# Compares the last run of an experiment with its stored tolerances; exit code 1 with a table of what is not met.
check experiment *options: build
    {{ etcbench }} check {{ experiment }} {{ options }}

# Writes all stored runs as one page, results/report.html, with tables and figures for a paper in paper/.
report *options: build
    {{ etcbench }} report {{ options }}

# The same tables and figures as a PDF, paper/results.pdf; needs LaTeX.
paper *options: (report options)
    scripts/paper

# An ablation: n, m, pooling, attention, elmo, packet-start, masks, activation, direction or split.
ablate name *options: build
    {{ etcbench }} run experiments/ablation-{{ name }}.toml {{ options }}

# Compares both implementations of every model on the same flows; exit code 1 if they disagree.
verify-models *options: build
    {{ etcbench }} verify-models {{ options }}

# Compares every CUDA kernel with the CPU on this machine's NVIDIA GPU, and training times with PyTorch's.
gpu-check *options:
    scripts/gpu-check {{ options }}

# Records the lab corpus, or a part of it (`just lab record --only voip`); needs root. See `just lab record --help`;
# `just lab record.summary` prints counts.
lab action *options:
    PYTHONPATH=data/lab python3 -m {{ action }} {{ options }}

# Formatting and lints, as CI runs them.
lint:
    cargo fmt --check
    cargo clippy --profile checked --locked --workspace --all-targets -- -D warnings

# The documentation of the library; broken links and missing documentation are errors.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --profile checked --locked --workspace --no-deps --document-private-items

# The documentation site, target/book/index.html, from the Markdown files of the repository; dead links are errors.
docs: build
    scripts/docs

[private]
build:
    @cargo build --release --locked

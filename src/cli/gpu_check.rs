//! `etcbench gpu-check`: run by `scripts/gpu-check` on a machine with an NVIDIA GPU. Hidden, because the script is the
//! interface; part of the program, so that a machine without a compiler can be checked with a binary built elsewhere.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args;

use super::{Verdict, output};
use crate::model::benchmark::{AttentionLstm, Elmo, Reading};
use crate::model::{CudaDevice, Device, ModelError, Precision};

/// Packets and flows of a step.
const BATCH: usize = 1024;
/// Number of warm-up runs, and of timed runs.
const WARM_UP: usize = 3;
const RUNS: usize = 15;

/// `etcbench gpu-check`.
#[derive(Args)]
pub(super) struct GpuCheckArguments {
    /// Number of the GPU, counted from 0.
    #[arg(long, default_value_t = 0, value_name = "N")]
    card: usize,
    /// Also write the measurements to this file; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

/// Checks every kernel and the losses of whole models on a GPU against the CPU, and times the training steps.
pub(super) fn gpu_check(arguments: &GpuCheckArguments) -> anyhow::Result<Verdict> {
    arguments.csv.as_deref().map(output::announce);
    let card = CudaDevice { number: arguments.card, precision: Precision::F32 };
    Device::Cuda(card).check()?;
    let mut lines = csv::Writer::from_writer(Vec::new());
    let mut keep = |what: &str, precision: &str, value: &str, unit: &str| {
        lines.write_record([what, precision, value, unit]).context("records in memory")
    };
    keep("what", "precision", "value", "unit")?;
    let description = Device::Cuda(card).describe()?;
    say!("card: {description}");
    keep("card", "", &description, "")?;
    let mut passed = true;
    for finding in card.check_against_processor()? {
        passed &= finding.passed;
        let verdict = if finding.passed { "ok" } else { "FAILED" };
        say!("{verdict}: {}", finding.text);
        keep(&finding.text, "f32", verdict, "")?;
    }
    say!("");
    say!("| batch of {BATCH} | precision | median ms |");
    say!("| --- | --- | ---: |");
    for precision in [Precision::F32, Precision::Tf32] {
        let device = Device::Cuda(CudaDevice { precision, ..card });
        for (name, median) in times(device)? {
            say!("| {name} | {} | {median:.3} |", precision.name());
            keep(name, precision.name(), &format!("{median:.6}"), "ms")?;
        }
    }
    if let Some(path) = &arguments.csv {
        let bytes = lines.into_inner().context("records in memory")?;
        crate::storage::write_whole(path, &bytes).with_context(|| path.display().to_string())?;
    }
    Ok(if passed { Verdict::Done } else { Verdict::CheckFailed })
}

/// Returns median wall times in milliseconds, including copies to and from the GPU.
fn times(device: Device) -> Result<Vec<(&'static str, f64)>, ModelError> {
    let mut elmo = Elmo::new(BATCH, 128, 128, 2, 260, device)?;
    let mut classifier = AttentionLstm::new(BATCH, 6, 256, 128, Reading::Mean, device)?;
    Ok(vec![
        ("ELMo training step", median(&mut || elmo.train_step().map(drop))?),
        ("attention-LSTM training step", median(&mut || classifier.train_step().map(drop))?),
        ("ELMo encoding", median(&mut || elmo.encode().map(drop))?),
    ])
}

fn median(run: &mut dyn FnMut() -> Result<(), ModelError>) -> Result<f64, ModelError> {
    let mut times = Vec::new();
    for number in 0..WARM_UP + RUNS {
        let start = Instant::now();
        run()?;
        if number >= WARM_UP {
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}

//! An external model as a [`Classifier`]: writes arrays, sends requests to the program, and checks the answers. The
//! process starts with a fit or when a stored model is loaded, and ends with the classifier.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ndarray::Array2;
use rand::seq::SliceRandom;

use super::checkpoint::{self, Checkpoints};
use super::confine::Confinement;
use super::failure::{Failure, FailureKind};
use super::keys::{Limits, parameters, refused};
use super::manifest::{Gpu, NO_PRETRAINING};
use super::message::{Examples as Rows, Fit, Reply, Request};
use super::package::{PATH, Package};
use super::processes::{Usage, free_memory};
use super::rows::{Shape, write_arrays};
use super::session::{Allowance, Ending, Folders, Listener, Session, Start, Told, not_started, remove};
use super::{PROTOCOL, answer, array, build, digest, saved};
use crate::input::data;
use crate::stored::broken;
use crate::{
    Claims, Classifier, Device, Examples, FitContext, FitReport, Implementation, Input, ModelArchive, ModelError,
    ModelSpec, StageTime, stored,
};
use etcbench_feature::PAD;
use etcbench_storage::progress::{Progress, Silent};
use etcbench_storage::seed;

/// Maximum number of rows per request.
const ROWS_AT_ONCE: usize = 1 << 16;
/// Number of rows that are predicted a second time, in another order and other batches.
const ASKED_TWICE: usize = 64;

/// An external model.
pub(super) struct External {
    package: &'static Package,
    input: Input,
    /// Its keys with their defaults, as passed to the program.
    parameters: serde_json::Value,
    limits: Limits,
    /// Whether to use a separate PID namespace, if available.
    own_processes: bool,
    fitted: Option<Mutex<Fitted>>,
}

/// A program that was fitted.
struct Fitted {
    session: Session,
    described: Described,
    seed: u64,
    class_names: Vec<String>,
    shape: Shape,
    /// Number of predictions so far, used in file names.
    asked: usize,
}

/// What the program says of itself.
#[derive(Clone, Copy)]
struct Described {
    /// Whether the same fit produces the same model.
    deterministic: bool,
    /// Time to predict one flow, one at a time.
    microseconds_per_flow: Option<f64>,
}

impl External {
    /// Creates an unfitted model.
    ///
    /// # Errors
    /// Keys that the manifest does not have, and invalid limits.
    pub(super) fn new(spec: &ModelSpec) -> Result<Self, ModelError> {
        let entry = spec.kind.entry();
        let package = entry.external.ok_or_else(|| broken(format!("{} is not an external model", entry.name)))?;
        if spec.implementation != Implementation::default() {
            return Err(refused(
                package,
                "an external model has only one implementation; remove `implementation`".to_owned(),
            ));
        }
        let mut table = spec.parameters.clone();
        let limits = Limits::take(package, &mut table)?;
        Ok(Self {
            package,
            input: spec.input,
            parameters: parameters(package, table)?,
            limits,
            own_processes: true,
            fitted: None,
        })
    }

    /// Loads a fitted model from its file and starts its program.
    ///
    /// # Errors
    /// A folder whose content differs from the one that was fitted, and the program's own errors.
    pub(super) fn from_archive(archive: &ModelArchive) -> Result<Self, ModelError> {
        let name = stored::text(archive, "model")?;
        let package = super::package::known(name)
            .or(super::named(name)?)
            .and_then(|kind| kind.entry().external)
            .ok_or_else(|| broken(format!("it needs the external model {name}, which is not in models/")))?;
        let fitted_on = stored::text(archive, "digest")?;
        if fitted_on != package.digest {
            return Err(broken(format!(
                "it was saved with a different content of {} ({}, now {}); restore the folder, or fit again",
                package.folder.display(),
                &fitted_on[..fitted_on.len().min(12)],
                &package.digest[..12]
            )));
        }
        let mut model = Self {
            package,
            input: stored::json(archive, "input")?,
            parameters: stored::json(archive, "external_parameters")?,
            limits: Limits::take(package, &mut toml::Table::new())?,
            own_processes: true,
            fitted: None,
        };
        let device = if package.manifest.needs.gpu == Gpu::Required { Device::best().0 } else { Device::Cpu };
        let class_names: Vec<String> = stored::json(archive, "class_names")?;
        let folders = Folders::new(package).map_err(failed)?;
        let folder = folders.data().join("saved");
        saved::restore(archive, &folder)?;
        let (mut session, described) = model.start(device, folders, &mut Told::default(), &Silent)?;
        let request = Request::Load {
            folder: &folder,
            input: model.input,
            class_names: &class_names,
            parameters: &model.parameters,
            device: model.device_name(device)?,
            threads: model.threads(),
        };
        let allowance = model.allowance(model.limits.predict);
        session.ask(&request, "loaded", allowance, &mut Told::default(), &Silent).map_err(failed)?;
        let shape = stored::json(archive, "shape")?;
        let seed = stored::json(archive, "seed")?;
        model.fitted = Some(Mutex::new(Fitted { session, described, seed, class_names, shape, asked: 0 }));
        Ok(model)
    }

    fn threads(&self) -> usize {
        rayon::current_num_threads().min(self.package.manifest.needs.threads.unwrap_or(usize::MAX))
    }

    fn allowance(&self, seconds: f64) -> Allowance {
        Allowance { seconds, earlier_seconds: 0.0, memory: self.limits.memory.or_else(free_memory) }
    }

    /// Returns the device's name for the program, which only sees the GPU that it may use.
    fn device_name(&self, device: Device) -> Result<&'static str, ModelError> {
        match (self.package.manifest.needs.gpu, device) {
            (Gpu::Required, Device::Cpu) => Err(ModelError::Device {
                device: "cpu".to_owned(),
                problem: format!("{} only runs on a GPU; use --device cuda", self.package.name),
            }),
            (Gpu::None, _) | (_, Device::Cpu) => Ok("cpu"),
            (_, Device::Cuda(_)) => Ok("cuda:0"),
        }
    }

    /// Starts the program and asks it to describe itself.
    fn start(
        &self,
        device: Device,
        folders: Folders,
        told: &mut Told,
        progress: &dyn Progress,
    ) -> Result<(Session, Described), ModelError> {
        let package = self.package;
        let versions = package.versions().map_err(|problem| failed(not_started(package, problem)))?;
        build::build(package, progress).map_err(failed)?;
        check_weights_once(package)?;
        let uses_card = self.device_name(device)? != "cpu";
        let card = match device {
            Device::Cuda(card) if uses_card => Some(card.number),
            _ => None,
        };
        // What a GPU driver reserves counts as memory, so with a GPU only memory in use is limited.
        let memory = self.limits.memory.filter(|_| !uses_card);
        let own_processes = self.own_processes;
        let start = Start { package, threads: self.threads(), card, memory, own_processes };
        let mut session = Session::start(&start, folders).map_err(failed)?;
        let describe = Request::Describe { protocols: &[PROTOCOL], etcbench: env!("CARGO_PKG_VERSION") };
        let allowance = self.allowance(self.limits.start);
        let reply = session.ask(&describe, "description", allowance, told, progress).map_err(failed)?;
        let Reply::Description { protocol, inputs, deterministic, software, microseconds_per_flow } = reply else {
            return Err(failed(session.failure(FailureKind::Protocol, "it sent no description")));
        };
        let refuse = |problem: String| Err(failed(session.failure(FailureKind::Protocol, problem)));
        if protocol != PROTOCOL {
            return refuse(format!(
                "it chose the protocol `{protocol}`, which was not offered; this version speaks {PROTOCOL}"
            ));
        }
        if !inputs.contains(&self.input) {
            let named: Vec<&str> = inputs.iter().map(|input| input.name()).collect();
            return refuse(format!(
                "model.toml lists the input {}, but its description lists {}",
                self.input.name(),
                named.join(", ")
            ));
        }
        if microseconds_per_flow.is_some_and(is_no_time) {
            return refuse("its description has `microseconds_per_flow` of 0, below 0, or not finite".to_owned());
        }
        told.notes.push(format!("{}: {}", package.name, session.confinement));
        if let Some(time) = microseconds_per_flow {
            told.notes.push(format!("{}: by its own account {time} µs per flow, one at a time", package.name));
        }
        if package.manifest.pretraining != NO_PRETRAINING {
            told.notes
                .push(format!("{}: pre-trained, by its own account: {}", package.name, package.manifest.pretraining));
        }
        if !deterministic {
            told.notes.push(format!("{}: by its description, repeating a fit may change the result", package.name));
        }
        if !versions.is_empty() {
            let versions: Vec<&str> = versions.lines().collect();
            told.notes.push(format!("{}: computed with {}", package.name, versions.join(", ")));
        }
        if let Some(software) = software {
            let software: String = software.chars().take(200).collect();
            told.notes.push(format!("{}: {software}", package.name));
        }
        Ok((session, Described { deterministic, microseconds_per_flow }))
    }

    /// Returns the model without a separate PID namespace, so that processes left behind can be counted.
    pub(super) fn with_processes_of_the_machine(self) -> Self {
        let mut model = self;
        model.own_processes = false;
        model
    }

    /// Returns whether the program declares that the same fit produces the same model.
    pub(super) fn is_deterministic(&self) -> Result<bool, ModelError> {
        Ok(self.fitted()?.described.deterministic)
    }

    /// Returns the microseconds that predicting one flow takes by the program's own account, if it gives them.
    pub(super) fn claimed_microseconds(&self) -> Result<Option<f64>, ModelError> {
        Ok(self.fitted()?.described.microseconds_per_flow)
    }

    /// Asks the program to exit, and returns how it ended.
    pub(super) fn end(&mut self) -> Option<Ending> {
        let fitted = self.fitted.take()?;
        Some(fitted.into_inner().unwrap_or_else(PoisonError::into_inner).session.quit())
    }

    /// Returns the program's restrictions.
    pub(super) fn confinement(&self) -> Result<Confinement, ModelError> {
        Ok(self.fitted()?.session.confinement)
    }

    /// Predicts rows in the given order; returns a distribution over the classes for each.
    fn ask(
        &self,
        fitted: &mut Fitted,
        examples: Examples<'_>,
        seconds: f64,
        progress: &dyn Progress,
    ) -> Result<Array2<f64>, ModelError> {
        fitted.asked += 1;
        let number = fitted.asked;
        let path = |what: &str| fitted.session.folders().data().join(format!("predict-{number}-{what}.npy"));
        let arrays = write_arrays(self.package, examples, self.input, path)?;
        let answer = fitted.session.scratch_file(&format!("answer-{number}.npy"));
        let request = Request::Predict { rows: examples.rows.len(), arrays: &arrays, answer: &answer };
        let reply = fitted.session.ask(&request, "predicted", self.allowance(seconds), &mut Told::default(), progress);
        let read = reply.and_then(|_| {
            answer::read(&answer, examples.rows.len(), fitted.class_names.len())
                .map_err(|(kind, problem)| fitted.session.failure(kind, problem))
        });
        for path in [arrays.bytes, arrays.statistics, arrays.sequences].into_iter().flatten().chain([answer]) {
            remove(&path);
        }
        read.map_err(failed)
    }

    fn fitted(&self) -> Result<std::sync::MutexGuard<'_, Fitted>, ModelError> {
        let fitted =
            self.fitted.as_ref().ok_or_else(|| data(&self.package.name, "the model is not fitted; call fit first"))?;
        Ok(fitted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Classifier for External {
    fn fit(
        &mut self,
        training: Examples<'_>,
        validation: Examples<'_>,
        context: &FitContext<'_>,
    ) -> Result<FitReport, ModelError> {
        let package = self.package;
        if training.rows.is_empty() {
            return Err(data(&package.name, "there are no training rows; check the split and the dataset's labels"));
        }
        self.fitted = None;
        let mut told = Told::default();
        let device = self.device_name(context.device)?;
        let started = Instant::now();
        let folders = Folders::new(package).map_err(failed)?;
        let (data_folder, scratch, checkpoint) = (folders.data(), folders.scratch(), folders.checkpoint());
        let what = checkpoint::Fitted { package, input: self.input, parameters: &self.parameters };
        let mut kept = Checkpoints::open(context.artifacts, what, checkpoint.clone(), context.progress)?;
        let (mut session, described) = self.start(context.device, folders, &mut told, context.progress)?;
        let start_seconds = started.elapsed().as_secs_f64();
        let writing = Instant::now();
        let rows = |part: &str, examples: Examples<'_>| -> Result<Rows, ModelError> {
            let path = |what: &str| data_folder.join(format!("{part}-{what}.npy"));
            let arrays = write_arrays(package, examples, self.input, path)?;
            let labels = path("labels");
            let values: Vec<u32> = examples.labels();
            array::write(&labels, "<u4", &[values.len()], |file| {
                values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes()))
            })
            .map_err(|error| data(&package.name, format!("{}: {error}", labels.display())))?;
            Ok(Rows { rows: examples.rows.len(), arrays, labels })
        };
        let (of_training, of_validation) = (rows("training", training)?, rows("validation", validation)?);
        let writing_seconds = writing.elapsed().as_secs_f64();
        let fitting = Instant::now();
        let features = training.features;
        let shape = Shape::of(training, self.input);
        kept.iter_mut().for_each(Checkpoints::begin);
        let earlier = kept.as_ref().map_or(0.0, Checkpoints::earlier_seconds);
        let request = Request::Fit(Box::new(Fit {
            training: &of_training,
            validation: &of_validation,
            input: self.input,
            class_names: &features.class_names,
            statistic_names: &shape.statistic_names,
            pad: PAD,
            parameters: &self.parameters,
            seed: context.seed,
            device,
            threads: self.threads(),
            seconds: (self.limits.fit - earlier).max(0.0),
            scratch: &scratch,
            checkpoint: &checkpoint,
        }));
        let allowance = Allowance { earlier_seconds: earlier, ..self.allowance(self.limits.fit) };
        let mut look = || kept.iter_mut().for_each(Checkpoints::look);
        let mut listener = Listener { told: &mut told, progress: context.progress, look: &mut look };
        let reply = session.ask_and_look(&request, "fitted", allowance, &mut listener);
        let seconds = reply.and_then(|reply| match reply {
            Reply::Fitted { seconds: Some(seconds) } if is_no_time(seconds) => {
                Err(session.failure(FailureKind::Protocol, "its `fitted` has `seconds` of 0, below 0, or not finite"))
            }
            Reply::Fitted { seconds } => Ok(seconds),
            _ => Ok(None),
        });
        kept.iter().for_each(|kept| kept.end(seconds.is_err()));
        let fit_seconds = seconds.map_err(failed)?;
        if let Some(problem) = kept.as_ref().and_then(Checkpoints::problem) {
            told.notes.push(format!("{}: its last checkpoint was not kept: {problem}", package.name));
        }
        let stage = |stage: &str, wall_seconds: f64| StageTime {
            stage: stage.to_owned(),
            wall_seconds,
            samples: (training.rows.len() + validation.rows.len()) as u64,
        };
        let stages = vec![
            stage("start", start_seconds),
            stage("arrays", writing_seconds),
            stage("fit", earlier + fitting.elapsed().as_secs_f64()),
        ];
        let class_names = features.class_names.clone();
        self.fitted = Some(Mutex::new(Fitted { session, described, seed: context.seed, class_names, shape, asked: 0 }));
        let claims = Claims { fit_seconds, microseconds_per_flow: described.microseconds_per_flow };
        Ok(FitReport { stages, epochs: told.epochs, notes: told.notes, pretraining: None, claims })
    }

    fn predict_probabilities(
        &self,
        examples: Examples<'_>,
        progress: &dyn Progress,
    ) -> Result<Array2<f32>, ModelError> {
        let mut fitted = self.fitted()?;
        if Shape::of(examples, self.input) != fitted.shape {
            return Err(data(&self.package.name, "the features differ in shape from those it was fitted on"));
        }
        let started = Instant::now();
        // The order of the rows must not carry information.
        let mut order: Vec<usize> = (0..examples.rows.len()).collect();
        order.shuffle(&mut seed::generator(fitted.seed, "external/predict"));
        let mut probabilities = Array2::zeros((order.len(), fitted.class_names.len()));
        for places in order.chunks(ROWS_AT_ONCE) {
            let rows: Vec<usize> = places.iter().map(|&place| examples.rows[place]).collect();
            let left = (self.limits.predict - started.elapsed().as_secs_f64()).max(0.001);
            let answer = self.ask(&mut fitted, Examples { rows: &rows, ..examples }, left, progress)?;
            for (row, &place) in answer.outer_iter().zip(places) {
                probabilities.row_mut(place).assign(&row.mapv(|value| value as f32));
            }
        }
        Ok(probabilities)
    }

    fn check_answers(&self, examples: Examples<'_>, progress: &dyn Progress) -> Result<(), ModelError> {
        let mut fitted = self.fitted()?;
        let mut places: Vec<usize> = (0..examples.rows.len()).collect();
        places.shuffle(&mut seed::generator(fitted.seed, "external/check"));
        places.truncate(ASKED_TWICE);
        if places.is_empty() {
            return Ok(());
        }
        let mut ask = |places: &[usize]| {
            let rows: Vec<usize> = places.iter().map(|&place| examples.rows[place]).collect();
            self.ask(&mut fitted, Examples { rows: &rows, ..examples }, self.limits.predict, progress)
        };
        let first = ask(&places)?;
        // The first row alone, the others in reverse order.
        let mut again = Array2::zeros(first.raw_dim());
        again.row_mut(0).assign(&ask(&places[..1])?.row(0));
        let backwards: Vec<usize> = (1..places.len()).rev().collect();
        if !backwards.is_empty() {
            let rows: Vec<usize> = backwards.iter().map(|&index| places[index]).collect();
            for (row, &index) in ask(&rows)?.outer_iter().zip(&backwards) {
                again.row_mut(index).assign(&row);
            }
        }
        answer::compare(&first, &again).map_err(|(kind, problem)| failed(fitted.session.failure(kind, problem)))
    }

    fn used_outside(&self) -> Option<Usage> {
        Some(self.fitted().ok()?.session.usage())
    }

    fn save(&self) -> Result<ModelArchive, ModelError> {
        let mut fitted = self.fitted()?;
        let folder = fitted.session.scratch_file("saved");
        std::fs::create_dir(&folder).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                let problem = "`save`: its folder `saved` was already in the scratch folder";
                failed(fitted.session.failure(FailureKind::InvalidAnswer, problem))
            }
            _ => data(&self.package.name, format!("{}: {error}", folder.display())),
        })?;
        let allowance = self.allowance(self.limits.predict);
        fitted
            .session
            .ask(&Request::Save { folder: &folder }, "saved", allowance, &mut Told::default(), &Silent)
            .map_err(failed)?;
        let mut archive = ModelArchive::default();
        saved::collect(&folder, &mut archive).map_err(|problem| {
            failed(fitted.session.failure(FailureKind::InvalidAnswer, format!("`save`: {problem}")))
        })?;
        // The next `save` creates it anew; if the program keeps it from being removed, that one fails.
        let _ = std::fs::remove_dir_all(&folder);
        let mut put = |key: &str, value: &str| archive.metadata.insert(key.to_owned(), value.to_owned());
        put("model", &self.package.name);
        put("implementation", Implementation::default().name());
        put("digest", &self.package.digest);
        put("versions", &self.package.versions().unwrap_or_default());
        put("parameters", "");
        if let Some(path) = &self.package.path {
            put(PATH, path);
        }
        stored::put_json(&mut archive, "classes", &fitted.class_names.len());
        stored::put_json(&mut archive, "class_names", &fitted.class_names);
        stored::put_json(&mut archive, "external_parameters", &self.parameters);
        stored::put_json(&mut archive, "input", &self.input);
        stored::put_json(&mut archive, "seed", &fitted.seed);
        stored::put_json(&mut archive, "shape", &fitted.shape);
        Ok(archive)
    }
}

impl Drop for External {
    fn drop(&mut self) {
        // How the program ends does not matter to a completed fit.
        let _ = self.end();
    }
}

/// Returns whether a number is no duration.
fn is_no_time(time: f64) -> bool {
    !(time.is_finite() && time > 0.0)
}

fn failed(failure: Failure) -> ModelError {
    ModelError::External(Box::new(failure))
}

/// Checks the weight files of each package once, because they are large.
fn check_weights_once(package: &'static Package) -> Result<(), ModelError> {
    static CHECKED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let key = format!("{} {}", package.folder.display(), package.digest);
    let mut checked = CHECKED.lock().unwrap_or_else(PoisonError::into_inner);
    if !checked.contains(&key) {
        digest::check_weights(&package.folder, &package.manifest).map_err(|problem| refused(package, problem))?;
        checked.insert(key);
    }
    Ok(())
}

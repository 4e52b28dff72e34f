//! The mean of other models' predictions: every member is fitted as in its own row of the run (same flows, seed, input
//! and keys), and the ensemble's probability of a class is the mean of the members' probabilities. `of` lists the
//! members; their inputs and keys are filled in when the experiment is read ([`ModelSpec::resolve_members`]). Both
//! implementations are the same: each member has its own implementation.

use std::time::Instant;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::factory;
use super::input::data;
use super::parameters::{parse, refused};
use super::stored::{broken, json, put_json, text};
use super::{
    Classifier, Examples, ExpectedMemory, FitContext, FitReport, FitSize, Implementation, Input, ModelArchive,
    ModelEntry, ModelError, ModelKind, ModelSpec, StageTime,
};
use etcbench_storage::progress::Progress;

const NAME: &str = "ensemble";

/// The model's entry in the table of models.
pub(super) static ENTRY: ModelEntry = ModelEntry {
    name: NAME,
    summary: "The mean of the probabilities of other models of the run.",
    version: 1,
    inputs: &[Input::Members],
    reads_input: true,
    deep: false,
    proposed: false,
    usual: false,
    agreement: None,
    reference_row_limit: None,
    sequences: |_, _| Ok(()),
    pretraining: None,
    external: None,
    build: |spec| Ok(Box::new(Ensemble::new(spec)?)),
    load: |implementation, archive| Ok(Box::new(Ensemble::from_archive(implementation, archive)?)),
};

/// The key of [`ModelSpec::parameters`] that lists the members.
const OF: &str = "of";

/// Maximum number of members; more is likely a mistake.
const MAXIMUM_MEMBERS: usize = 64;

/// A member as specified in an experiment file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Member {
    model: ModelKind,
    input: Input,
    implementation: Implementation,
    parameters: toml::Table,
}

/// `[model.ensemble]`, resolved.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    of: Vec<Member>,
}

impl From<Member> for ModelSpec {
    fn from(member: Member) -> Self {
        let Member { model: kind, input, implementation, parameters } = member;
        Self { kind, input, implementation, parameters }
    }
}

impl ModelSpec {
    /// Returns the models whose probabilities are averaged; empty unless this is an ensemble.
    pub fn members(&self) -> Vec<Self> {
        if self.kind.name() != NAME {
            return Vec::new();
        }
        let parameters = Parameters::deserialize(self.parameters.clone()).unwrap_or_default();
        parameters.of.into_iter().map(Self::from).collect()
    }

    /// Fills in the members if this is an ensemble: `rows` returns the rows of the model with a given name, one for
    /// each of its inputs; `NAME:INPUT` selects one of them.
    ///
    /// # Errors
    /// Members that are not listed correctly, and the errors of `rows`.
    pub fn resolve_members<E: From<ModelError>>(
        mut self,
        rows: impl Fn(&str) -> Result<Vec<Self>, E>,
    ) -> Result<Self, E> {
        if self.kind.name() != NAME {
            return Ok(self);
        }
        let wrong = |problem: String| E::from(refused(NAME, problem));
        let names = self.parameters.get(OF).and_then(toml::Value::as_array);
        let names =
            names.ok_or_else(|| wrong("`of` must list the members, as in of = [\"NAME\", \"OTHER:INPUT\"]".into()))?;
        let mut members: Vec<Self> = Vec::new();
        for name in names {
            let name = name
                .as_str()
                .ok_or_else(|| wrong(format!("`of` contains {name}, which is not the name of a model")))?;
            let (model, input) = name.split_once(':').map_or((name, None), |(model, input)| (model, Some(input)));
            if model == NAME {
                return Err(wrong("`of` lists an ensemble; list its members instead".into()));
            }
            let mut found = rows(model)?;
            found.retain(|row| input.is_none_or(|input| row.input.name() == input));
            if found.is_empty() {
                let input = input.unwrap_or_default();
                return Err(wrong(format!("`of` lists `{name}`, but {model} has no row with input = \"{input}\"")));
            }
            if found.iter().any(|row| members.contains(row)) {
                return Err(wrong(format!("`of` lists `{name}` twice")));
            }
            members.extend(found);
        }
        if !(2..=MAXIMUM_MEMBERS).contains(&members.len()) {
            return Err(wrong(format!("`of` has {} members; it must have 2 to {MAXIMUM_MEMBERS}", members.len())));
        }
        let member = |ModelSpec { kind: model, input, implementation, parameters }| {
            toml::Value::try_from(Member { model, input, implementation, parameters })
                .map_err(|error| wrong(error.to_string()))
        };
        let members = members.into_iter().map(member).collect::<Result<Vec<_>, E>>()?;
        self.parameters.insert(OF.to_owned(), members.into());
        Ok(self)
    }
}

/// The members, fitted or not.
struct Ensemble {
    implementation: Implementation,
    specs: Vec<Member>,
    members: Vec<Box<dyn Classifier>>,
    /// Whether they were fitted.
    fitted: bool,
}

impl Ensemble {
    /// Creates unfitted members.
    ///
    /// # Errors
    /// An unknown key, no members, or an error in a member's own keys.
    fn new(spec: &ModelSpec) -> Result<Self, ModelError> {
        let Parameters { of: specs } = parse(NAME, &spec.parameters)?;
        if specs.is_empty() {
            return Err(refused(NAME, "`of` must list the members, as in of = [\"NAME\", \"OTHER:INPUT\"]"));
        }
        let members = specs.iter().map(|member| factory::build(&member.clone().into())).collect::<Result<_, _>>()?;
        Ok(Self { implementation: spec.implementation, specs, members, fitted: false })
    }

    /// Loads fitted members from their file.
    ///
    /// # Errors
    /// Missing or contradictory entries, and the errors of the members.
    fn from_archive(implementation: Implementation, archive: &ModelArchive) -> Result<Self, ModelError> {
        let table = text(archive, "parameters")?
            .parse()
            .map_err(|error: toml::de::Error| broken(format!("metadata `parameters`: {}", error.message())))?;
        let Parameters { of: specs } = parse(NAME, &table)?;
        let count: usize = json(archive, "members")?;
        if count != specs.len() || count == 0 {
            return Err(broken("the number of members differs from the number that `of` lists"));
        }
        let part = |index: usize| {
            let prefix = format!("{index}/");
            let member_name = |name: &String| name.strip_prefix(&prefix).map(str::to_owned);
            let metadata =
                archive.metadata.iter().filter_map(|(name, text)| Some((member_name(name)?, text.clone()))).collect();
            let tensors = archive
                .tensors
                .iter()
                .filter_map(|(name, tensor)| Some((member_name(name)?, tensor.clone())))
                .collect();
            ModelArchive { metadata, tensors }
        };
        let members = (0..count).map(|index| factory::load(&part(index))).collect::<Result<_, _>>()?;
        Ok(Self { implementation, specs, members, fitted: true })
    }
}

impl Classifier for Ensemble {
    fn fit(
        &mut self,
        training: Examples<'_>,
        validation: Examples<'_>,
        context: &FitContext<'_>,
    ) -> Result<FitReport, ModelError> {
        let started = Instant::now();
        self.fitted = false;
        let mut report = FitReport::default();
        for (spec, member) in self.specs.iter().zip(&mut self.members) {
            let name = format!("{} ({})", spec.model.name(), spec.input.name());
            // A source is that of one model's keys; members have none.
            let context = FitContext { pretraining: None, ..*context };
            let found = member.fit(training, validation, &context)?;
            report.notes.extend(found.notes.into_iter().map(|note| format!("{name}: {note}")));
        }
        self.fitted = true;
        report.stages.push(StageTime {
            stage: "fit".to_owned(),
            wall_seconds: started.elapsed().as_secs_f64(),
            samples: training.rows.len() as u64,
        });
        Ok(report)
    }

    fn predict_probabilities(
        &self,
        examples: Examples<'_>,
        progress: &dyn Progress,
    ) -> Result<Array2<f32>, ModelError> {
        if !self.fitted {
            return Err(data(NAME, "the model is not fitted; call fit first"));
        }
        let mut sum: Option<Array2<f64>> = None;
        for member in &self.members {
            let found = member.predict_probabilities(examples, progress)?.mapv(f64::from);
            sum = Some(match sum {
                None => found,
                Some(sum) if sum.dim() == found.dim() => sum + found,
                Some(_) => return Err(broken("its members have different classes")),
            });
        }
        let count = self.members.len() as f64;
        let sum = sum.ok_or_else(|| broken("it has no members"))?;
        Ok(sum.mapv(|sum| (sum / count) as f32))
    }

    fn expected_memory(&self, size: &FitSize) -> ExpectedMemory {
        // Fitted one after the other; a fitted member is small compared to what a fit uses.
        let members = self.members.iter().map(|member| member.expected_memory(size));
        members.reduce(ExpectedMemory::or).unwrap_or_default()
    }

    fn save(&self) -> Result<ModelArchive, ModelError> {
        if !self.fitted {
            return Err(data(NAME, "the model is not fitted; call fit first"));
        }
        let mut archive = ModelArchive::default();
        archive.metadata.insert("model".to_owned(), NAME.to_owned());
        archive.metadata.insert("implementation".to_owned(), self.implementation.name().to_owned());
        let parameters = Parameters { of: self.specs.clone() };
        archive.metadata.insert("parameters".to_owned(), super::parameters::write(NAME, &parameters)?);
        put_json(&mut archive, "members", &self.members.len());
        for (index, member) in self.members.iter().enumerate() {
            let ModelArchive { metadata, tensors } = member.save()?;
            archive.metadata.extend(metadata.into_iter().map(|(name, text)| (format!("{index}/{name}"), text)));
            archive.tensors.extend(tensors.into_iter().map(|(name, tensor)| (format!("{index}/{name}"), tensor)));
        }
        Ok(archive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoArtifacts;
    use crate::network_model::tests::flows;
    use etcbench_storage::progress::Silent;

    fn row(name: &str, input: Input) -> ModelSpec {
        let kind = ModelKind::named(name).unwrap();
        ModelSpec { kind, input, implementation: Implementation::Fast, parameters: toml::Table::new() }
    }

    fn resolved(of: &str) -> Result<ModelSpec, ModelError> {
        let spec = ModelSpec { parameters: format!("of = {of}").parse().unwrap(), ..row(NAME, Input::Members) };
        spec.resolve_members(|name| match name {
            "knn" => Ok(vec![row("knn", Input::Bytes), row("knn", Input::Sequences)]),
            "random_forest" => Ok(vec![row("random_forest", Input::Statistics)]),
            other => Err(refused(NAME, format!("no model {other}"))),
        })
    }

    #[test]
    fn members_are_rows_of_the_run() {
        let spec = resolved("[\"random_forest\", \"knn\"]").unwrap();
        let members = spec.members();
        let names = members.iter().map(|member| (member.kind.name(), member.input.name())).collect::<Vec<_>>();
        assert_eq!(names, [("random_forest", "statistics"), ("knn", "bytes"), ("knn", "sequences")]);
        assert!(spec.reads_bytes() && spec.reads_statistics() && spec.reads_sequences());
        let one = resolved("[\"random_forest\", \"knn:sequences\"]").unwrap();
        assert!(!one.reads_bytes() && one.reads_sequences());
        for (of, problem) in [
            ("[\"random_forest\"]", "has 1 members"),
            ("[\"knn\", \"knn:bytes\"]", "lists `knn:bytes` twice"),
            ("[\"knn:statistics\", \"random_forest\"]", "knn has no row with input = \"statistics\""),
            ("[\"ensemble\"]", "lists an ensemble"),
            ("[3]", "which is not the name of a model"),
            ("3", "`of` must list the members"),
            ("[\"forest\"]", "no model forest"),
        ] {
            let error = resolved(of).unwrap_err().to_string();
            assert!(error.contains(problem), "{of}: {error}");
        }
        assert!(factory::build(&row(NAME, Input::Members)).is_err());
    }

    #[test]
    fn probabilities_are_the_mean_of_the_members_and_survive_the_file() {
        let features = flows(60);
        let rows: Vec<usize> = (0..60).collect();
        let part = |range: std::ops::Range<usize>| Examples { features: &features, rows: &rows[range] };
        let context = FitContext {
            seed: 3,
            device: crate::Device::Cpu,
            progress: &Silent,
            artifacts: &NoArtifacts,
            pretraining: None,
        };
        let fitted = |spec: &ModelSpec| {
            let mut model = factory::build(spec).unwrap();
            model.fit(part(0..40), part(40..50), &context).unwrap();
            model
        };
        let spec = resolved("[\"random_forest\", \"knn:sequences\"]").unwrap();
        let model = fitted(&spec);
        let found = model.predict_probabilities(part(50..60), &Silent).unwrap();
        let members = spec.members();
        let apart = members.iter().map(|member| fitted(member).predict_probabilities(part(50..60), &Silent).unwrap());
        let apart = apart.collect::<Vec<_>>();
        for (place, &value) in found.indexed_iter() {
            let mean = apart.iter().map(|one| f64::from(one[place])).sum::<f64>() / 2.0;
            assert_eq!(value, mean as f32);
        }
        let archive = ModelArchive::from_bytes(&model.save().unwrap().to_bytes().unwrap()).unwrap();
        let again = factory::load(&archive).unwrap();
        assert_eq!(again.predict_probabilities(part(50..60), &Silent).unwrap(), found);
        let mut damaged = archive;
        damaged.metadata.insert("members".to_owned(), "1".to_owned());
        assert!(factory::load(&damaged).is_err());
    }
}

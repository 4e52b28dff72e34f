//! The third pass: converts a resolved experiment to typed values and validates their ranges. Pure.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::tune::Dimension;
use super::resolve::{Document, Resolved, Sections, unique, variant_origin};
use super::{Experiment, Variant};
use etcbench_feature::{FlowpicOptions, PacketStart, Sample, SequenceOptions, TokenOptions, Transformation};
use etcbench_flow::FlowOptions;
use etcbench_model::{Implementation, Input, ModelError, ModelKind, ModelSpec, PACKET_METADATA};
use etcbench_split::SplitOptions;
use etcbench_storage::declarative::{self, DeclarativeError};

/// Types the variants of an experiment.
///
/// # Errors
/// Unknown keys and models, or values with the wrong type or out of range.
pub(super) fn validate(resolved: Resolved) -> Result<Experiment, DeclarativeError> {
    let Resolved { name, origin, size, document, variants, table, ladder } = resolved;
    if let Some(tune) = &document.tune {
        for model in tune.space.keys() {
            model_kind(model, document.model.get(model), &format!("{origin}: [tune.space]"))?;
        }
        tune.validate(&document.models, &origin)?;
    }
    let mut typed =
        variants.into_iter().map(|sections| variant(sections, &document, &origin)).collect::<Result<Vec<_>, _>>()?;
    for variant in &typed {
        let problem = |problem: String| DeclarativeError::Content {
            origin: variant_origin(&origin, "evaluation", &variant.name),
            problem,
        };
        document.evaluation.validate(variant).map_err(problem)?;
    }
    let mut left_out = Vec::new();
    for variant in typed.iter_mut().filter(|variant| variant.selection.sample == Sample::Packet) {
        let reads_flows = variant.models.iter().filter(|spec| !reads_one_packet(spec));
        let needs_flows: Vec<String> =
            reads_flows.map(|spec| format!("{} on {}", spec.kind.name(), spec.input.name())).collect();
        if let (false, Some(name)) = (ladder, needs_flows.first()) {
            let problem = format!(
                "{name} reads whole flows, but with selection.sample = \"packet\" a row is a packet; use input = \
                 \"bytes\""
            );
            let origin = variant_origin(&origin, "selection", &variant.name);
            return Err(DeclarativeError::Content { origin, problem });
        }
        variant.models.retain(reads_one_packet);
        if variant.models.is_empty() {
            let problem =
                format!("a single packet has only bytes, but every model reads more: {}", needs_flows.join(", "));
            left_out.push((variant.name.clone(), problem));
        }
    }
    typed.retain(|variant| !variant.models.is_empty());
    if let (true, Some((variant, problem))) = (typed.is_empty(), left_out.first()) {
        return Err(DeclarativeError::Content { origin, problem: format!("{variant}: {problem}") });
    }
    Ok(Experiment {
        name,
        title: document.title,
        layout: document.layout,
        datasets: document.dataset.names,
        size,
        seeds: document.seeds,
        tune: document.tune,
        evaluation: document.evaluation,
        ladder: ladder.then_some(document.ladder),
        variants: typed,
        left_out,
        resolved: table,
    })
}

/// Returns whether a model reads only the bytes of a packet and nothing else of its flow.
fn reads_one_packet(spec: &ModelSpec) -> bool {
    let alone = |spec: &ModelSpec| {
        let of_sequences = spec.reads_sequences() || spec.input.reads_sequences();
        !spec.kind.entry().reads_input || (spec.input == Input::Bytes && !of_sequences)
    };
    alone(spec) && spec.members().iter().all(alone)
}

fn variant(sections: Sections, document: &Document, origin: &str) -> Result<Variant, DeclarativeError> {
    let Sections { name, selection, flow, mut feature, split, model } = sections;
    let origin = |section: &str| variant_origin(origin, section, &name);
    let sequences: SequenceOptions = part(&mut feature, "sequences", "sequences.packets = 20", origin)?;
    let flowpic: FlowpicOptions = part(&mut feature, "flowpic", "flowpic.resolution = 32", origin)?;
    let feature: TokenOptions = declarative::typed(feature, &origin("feature"))?;
    let flow: FlowOptions = declarative::typed(flow, &origin("flow"))?;
    let problem = |section: &str, problem: String| DeclarativeError::Content { origin: origin(section), problem };
    let kept = kept(&feature, &sequences, &flowpic, &flow);
    feature.validate(&kept).map_err(|error| problem("feature", error.to_string()))?;
    sequences.validate(&kept).map_err(|error| problem("feature", error.to_string()))?;
    flowpic.validate(&kept).map_err(|error| problem("feature", error.to_string()))?;
    flow.validate().map_err(|error| problem("flow", error.to_string()))?;
    let split: SplitOptions = declarative::typed(split, &origin("split"))?;
    split.validate().map_err(|error| problem("split", error.to_string()))?;
    for (unlisted, table) in &model {
        model_kind(unlisted, Some(table), &origin("model"))?;
    }
    let mut specs = Vec::new();
    for name in &document.models {
        for spec in model_specs(name, model.get(name), &origin("models"))? {
            let rows = |name: &str| model_specs(name, model.get(name), &origin("models")).map_err(Unresolved::Member);
            specs.push(spec.resolve_members(rows).map_err(|unresolved| match unresolved {
                Unresolved::Member(error) => error,
                Unresolved::Names(error) => problem("models", error.to_string()),
            })?);
        }
    }
    for spec in &specs {
        spec.check_sequences(&sequences).map_err(|error| problem("feature", error.to_string()))?;
    }
    let members = specs.iter().flat_map(ModelSpec::members).collect::<Vec<_>>();
    // All values of the key, in the models' own settings and in those to be tried.
    let tried =
        document.tune.iter().flat_map(|tune| tune.space.values()).filter_map(|space| space.get(PACKET_METADATA));
    let tried = tried.flat_map(|dimension| match dimension {
        Dimension::Values(values) => values.as_slice(),
        Dimension::Range(_) => &[],
    });
    let metadata = specs.iter().chain(&members).filter_map(|spec| spec.parameters.get(PACKET_METADATA)).chain(tried);
    let named: Vec<&toml::Value> = metadata.filter_map(toml::Value::as_array).flatten().collect();
    let reads_metadata = !named.is_empty();
    let reads_packet_times = named.iter().any(|value| value.as_str() == Some("time"))
        || specs
            .iter()
            .chain(&members)
            .any(|spec| (spec.input.reads_sequences() && sequences.times) || spec.input.reads_flowpic());
    if reads_metadata {
        let wrong = |text: &str| Err(problem("feature", format!("{PACKET_METADATA} of a model {text}")));
        if named.iter().any(|value| value.as_str() == Some("time")) && !sequences.times {
            return wrong("reads `time`, which feature.sequences.times = false leaves out");
        }
        if sequences.packets < feature.packets {
            return wrong("requires feature.sequences.packets to be at least feature.packets");
        }
        if sequences.transformation != Transformation::SignedLogarithm {
            return wrong("requires feature.sequences.transformation = \"signed_logarithm\"");
        }
        // Otherwise the packets of the bytes would differ from those of the sequences.
        if feature.packet_start == PacketStart::Payload {
            return wrong("cannot be used with feature.packet_start = \"payload\", which skips packets");
        }
    }
    Ok(Variant {
        selection: declarative::typed(selection, &origin("selection"))?,
        flow,
        feature,
        sequences,
        flowpic,
        split,
        reads_flowpic: specs.iter().any(ModelSpec::reads_flowpic),
        reads_sequences: reads_metadata || specs.iter().any(ModelSpec::reads_sequences),
        reads_packet_times,
        models: specs,
        name,
    })
}

/// Returns a subtable of `[feature]`, or its defaults.
fn part<T: Default + DeserializeOwned>(
    feature: &mut toml::Table,
    name: &str,
    example: &str,
    origin: impl Fn(&str) -> String,
) -> Result<T, DeclarativeError> {
    match feature.remove(name) {
        None => Ok(T::default()),
        Some(toml::Value::Table(table)) => declarative::typed(table, &origin(&format!("feature.{name}"))),
        Some(_) => {
            let problem = format!("`{name}` must be a table, such as {example}");
            Err(DeclarativeError::Content { origin: origin("feature"), problem })
        }
    }
}

/// Why the members of a model cannot be resolved.
enum Unresolved {
    /// A member is invalid.
    Member(DeclarativeError),
    /// The list of names is invalid.
    Names(ModelError),
}

impl From<ModelError> for Unresolved {
    fn from(error: ModelError) -> Self {
        Self::Names(error)
    }
}

/// Returns the flow options that keep as many packets and bytes as the features need; the runner keeps the same.
fn kept(
    feature: &TokenOptions,
    sequences: &SequenceOptions,
    flowpic: &FlowpicOptions,
    flow: &FlowOptions,
) -> FlowOptions {
    let mut kept = FlowOptions {
        kept_packets: flow.kept_packets.max(feature.packets),
        kept_bytes: flow.kept_bytes.max(feature.needed_bytes()),
        ..flow.clone()
    };
    sequences.widen(&mut kept);
    flowpic.widen(&mut kept);
    kept
}

/// Returns the model of a name: from the table of models, an external one in `models/`, or one whose table names its
/// folder.
fn model_kind(name: &str, keys: Option<&toml::Value>, origin: &str) -> Result<ModelKind, DeclarativeError> {
    let found = match keys.and_then(|keys| keys.get("path")).map(|path| path.as_str().ok_or(path)) {
        None => ModelKind::find(name),
        Some(Ok(path)) => ModelKind::at(name, path).map(Some),
        Some(Err(path)) => Err(ModelError::Parameters {
            model: name.to_owned(),
            problem: format!("path = {path}: must be the path of the model's folder"),
        }),
    };
    let found = found.map_err(|error| match error {
        ModelError::Parameters { problem, .. } => DeclarativeError::Content { origin: origin.to_owned(), problem },
        error => DeclarativeError::Content { origin: origin.to_owned(), problem: error.to_string() },
    })?;
    if let Some(kind) = found {
        return Ok(kind);
    }
    let mut table = toml::Table::new();
    table.insert("model".to_owned(), name.into());
    #[derive(Deserialize)]
    struct Kind {
        model: ModelKind,
    }
    declarative::typed::<Kind>(table, origin).map(|kind| kind.model)
}

/// Returns one specification per input listed in the model's table.
/// Returns the specifications of a model, one for each of its inputs.
pub(in super::super) fn model_specs(
    name: &str,
    table: Option<&toml::Value>,
    origin: &str,
) -> Result<Vec<ModelSpec>, DeclarativeError> {
    let kind = model_kind(name, table, origin)?;
    let origin = origin.replace("[models]", &format!("[model.{name}]"));
    let mut parameters = match table {
        None => toml::Table::new(),
        Some(toml::Value::Table(table)) => table.clone(),
        Some(_) => {
            return Err(DeclarativeError::Content {
                origin,
                problem: "must be a table of the model's keys".to_owned(),
            });
        }
    };
    parameters.remove("path");
    #[derive(Deserialize)]
    struct Common {
        input: Option<toml::Value>,
        implementation: Option<Implementation>,
    }
    let common: toml::Table =
        ["input", "implementation"].iter().filter_map(|&key| Some((key.to_owned(), parameters.remove(key)?))).collect();
    let common: Common = declarative::typed(common, &origin)?;
    let inputs = match common.input {
        None => {
            vec![kind.entry().external.map_or_else(|| Input::default_of(kind), |package| package.manifest.inputs[0])]
        }
        Some(given) => {
            let given = if let toml::Value::Array(list) = given { list } else { vec![given] };
            let input = |value: toml::Value| match value {
                toml::Value::String(_) => value.try_into::<Input>().map_err(|error| error.message().to_owned()),
                other => Err(format!("{other} is not an input; set the name of an input, or a list of names")),
            };
            given.into_iter().map(input).collect::<Result<_, _>>().map_err(|problem| DeclarativeError::Content {
                origin: origin.clone(),
                problem: format!("`input`: {}", declarative::with_nearest_key(&problem)),
            })?
        }
    };
    unique(&inputs, "input", &origin)?;
    Ok(inputs
        .into_iter()
        .map(|input| ModelSpec {
            kind,
            input,
            implementation: common.implementation.unwrap_or_default(),
            parameters: parameters.clone(),
        })
        .collect())
}

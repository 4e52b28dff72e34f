//! The declarative format: what an experiment file may say, and how a base file, a size, a variant and
//! `--set` combine into what is run.
//!
//! Later wins: the files named by `extends` in order, the experiment file, what these say under `[on.DATASET]` of the
//! datasets in use, the size (`experiments/sizes/NAME.toml`) and its `[on.DATASET]`, the variant's own keys, those of
//! a sweep's point, then every `--set`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sweep::{self, Sweep, VARIANT_SECTIONS};
use super::tune::{Dimension, TuneOptions};
use etcbench_feature::{PacketStart, Selection, SequenceOptions, TokenOptions, Transformation};
use etcbench_flow::FlowOptions;
use etcbench_model::{Implementation, Input, ModelKind, ModelSpec, PACKET_METADATA};
use etcbench_split::SplitOptions;
use etcbench_storage::declarative::{self, DeclarativeError};

/// What a person asks for beside the experiment file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Overrides {
    /// Datasets to use in place of the file's.
    pub data: Vec<String>,
    /// The size: the name of a file in `experiments/sizes`; the file's own sizes when none.
    pub size: Option<String>,
    /// `key=value` assignments, applied last.
    pub assignments: Vec<String>,
    /// Seeds in place of the file's.
    pub seeds: Option<Vec<u64>>,
    /// Models in place of the file's.
    pub models: Vec<String>,
    /// Only these of the file's variants, or of a sweep's values (`feature.packets=4`); all when empty.
    pub variants: Vec<String>,
}

impl Overrides {
    /// Whether results are no longer those of the experiment at a named size on a dataset, and so must
    /// not stand in their place.
    pub fn change_results(&self) -> bool {
        !self.assignments.is_empty() || self.seeds.is_some() || !self.models.is_empty() || !self.variants.is_empty()
    }
}

/// An experiment, resolved: every variant with every key.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// The experiment's name: the file's stem, such as `table2`.
    pub name: String,
    /// One line for the tables' captions.
    pub title: String,
    /// Which of the paper's tables its layout follows: 1 (models as rows) or 2 (classes as rows).
    pub layout: TableLayout,
    /// Names of the datasets.
    pub datasets: Vec<String>,
    /// `full`, or the name of the size.
    pub size: String,
    /// The seeds, one run each.
    pub seeds: Vec<u64>,
    /// What is tuned, and how; nothing where the file does not say.
    pub tune: Option<TuneOptions>,
    /// The variants, in the file's order; at least one.
    pub variants: Vec<Variant>,
    /// The whole as TOML, for provenance and hashing.
    pub resolved: toml::Table,
}

/// Which rows a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableLayout {
    /// A row per model, as in the paper's table 1.
    #[default]
    Models,
    /// A row per class for the deep model, then a row per model, as in the paper's tables 2 to 5.
    Classes,
}

/// One variant of an experiment, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Its name; `default` where the file names none.
    pub name: String,
    /// Which flows, and their classes.
    pub selection: Selection,
    /// Where flows begin and end.
    pub flow: FlowOptions,
    /// What is taken of each flow.
    pub feature: TokenOptions,
    /// The packet sequences that `input = "sequences"` reads.
    pub sequences: SequenceOptions,
    /// How flows are divided.
    pub split: SplitOptions,
    /// One entry per model and input.
    pub models: Vec<ModelSpec>,
    /// Whether a model reads packet sequences, with its own settings or with some that are tried.
    reads_sequences: bool,
    /// Whether one of them reads the packets' times.
    pub(super) reads_packet_times: bool,
}

impl Variant {
    /// The packet sequences, where a model reads them.
    pub(super) fn used_sequences(&self) -> Option<&SequenceOptions> {
        self.reads_sequences.then_some(&self.sequences)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    title: String,
    #[serde(default)]
    layout: TableLayout,
    seeds: Vec<u64>,
    models: Vec<String>,
    dataset: DatasetSection,
    selection: toml::Table,
    #[serde(default)]
    flow: toml::Table,
    #[serde(default)]
    feature: toml::Table,
    #[serde(default)]
    split: toml::Table,
    #[serde(default)]
    model: toml::Table,
    tune: Option<TuneOptions>,
    #[serde(default)]
    variant: toml::Table,
    sweep: Option<toml::Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DatasetSection {
    names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

/// Reads an experiment file with everything it extends, and applies `overrides`.
///
/// # Errors
/// A file that is missing or not TOML, unknown keys, values out of range, seeds repeated.
pub fn read_experiment(path: &Path, overrides: &Overrides) -> Result<Experiment, DeclarativeError> {
    let origin = path.display().to_string();
    let content = |problem: String| DeclarativeError::Content { origin: origin.clone(), problem };
    let name = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .ok_or_else(|| content("the file's name is not text".to_owned()))?
        .to_owned();
    let folder = path.parent().unwrap_or(Path::new("."));

    let mut resolved = toml::Table::new();
    let mut own = declarative::read_table(path)?;
    let bases: Vec<String> = match own.remove("extends") {
        None => Vec::new(),
        Some(toml::Value::String(base)) => vec![base],
        Some(value) => value
            .try_into()
            .map_err(|_| content("`extends` names a file in the same folder, or a list of such files".to_owned()))?,
    };
    for base in &bases {
        if Path::new(base).file_name() != Some(base.as_ref()) {
            return Err(content(format!("`extends` names a file in the same folder; `{base}` is none")));
        }
        let table = declarative::read_table(&folder.join(base))?;
        if table.contains_key("extends") {
            return Err(content(format!("{base} extends another file in turn; one level is allowed")));
        }
        declarative::merge(&mut resolved, &table);
    }
    declarative::merge(&mut resolved, &own);
    let datasets = match &overrides.data[..] {
        [] => dataset_names(&resolved),
        data => data.to_vec(),
    };
    merge_on(&mut resolved, &datasets).map_err(&content)?;
    let size = overrides.size.clone().unwrap_or_else(|| "full".to_owned());
    if let Some(size) = &overrides.size {
        declarative::merge(&mut resolved, &read_size(folder, size)?);
        merge_on(&mut resolved, &datasets).map_err(&content)?;
    }
    let mut assignments = toml::Table::new();
    for text in &overrides.assignments {
        declarative::merge(&mut assignments, &declarative::parse_assignment(text)?);
    }
    declarative::merge(&mut resolved, &assignments);

    let mut document: Document = declarative::typed(resolved.clone(), &origin)?;
    if !overrides.data.is_empty() {
        document.dataset.names = overrides.data.clone();
    }
    if !overrides.models.is_empty() {
        document.models = overrides.models.clone();
    }
    if let Some(seeds) = &overrides.seeds {
        document.seeds = seeds.clone();
    }
    unique(&document.seeds, "seeds", &origin)?;
    unique(&document.models, "models", &origin)?;
    unique(&document.dataset.names, "dataset.names", &origin)?;
    if let Some(tune) = &document.tune {
        for model in tune.space.keys() {
            model_kind(model, &format!("{origin}: [tune.space]"))?;
        }
        tune.validate(&document.models, &origin)?;
    }
    let names = document.dataset.names.iter().map(|name| toml::Value::from(name.as_str())).collect();
    resolved
        .insert("dataset".to_owned(), toml::Table::from_iter([("names".to_owned(), toml::Value::Array(names))]).into());
    resolved.insert("models".to_owned(), document.models.clone().into());
    let seeds = document.seeds.iter().map(|&seed| i64::try_from(seed).map(toml::Value::from));
    let seeds = seeds.collect::<Result<_, _>>().map_err(|_| content("a seed is over 2^63 - 1".to_owned()))?;
    resolved.insert("seeds".to_owned(), toml::Value::Array(seeds));

    let tables = variant_tables(&mut document, &overrides.variants, &assignments, &mut resolved, &origin)?;
    let variants = tables
        .into_iter()
        .map(|(name, keys)| variant(name, &document, &keys, &assignments, &origin))
        .collect::<Result<_, _>>()?;
    Ok(Experiment {
        name,
        title: document.title,
        layout: document.layout,
        datasets: document.dataset.names,
        size,
        seeds: document.seeds,
        tune: document.tune,
        variants,
        resolved,
    })
}

/// The names under `[dataset]`, as far as they are text; what is wrong with them is told where the file is typed.
fn dataset_names(table: &toml::Table) -> Vec<String> {
    let names = table.get("dataset").and_then(|dataset| dataset.get("names")).and_then(toml::Value::as_array);
    names.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Takes `[on]` out of `table` and merges what it says of `datasets` over the rest.
fn merge_on(table: &mut toml::Table, datasets: &[String]) -> Result<(), String> {
    let Some(on) = table.remove("on") else { return Ok(()) };
    let tables = on.as_table().filter(|on| on.values().all(toml::Value::is_table));
    let tables = tables.ok_or("`on` holds a table of keys per dataset, such as [on.synth]")?;
    for keys in datasets.iter().filter_map(|name| tables.get(name)?.as_table()) {
        if keys.contains_key("dataset") || keys.contains_key("extends") || keys.contains_key("on") {
            return Err("[on.DATASET] cannot hold `dataset`, `extends` or `on`".to_owned());
        }
        declarative::merge(table, keys);
    }
    Ok(())
}

fn read_size(folder: &Path, size: &str) -> Result<toml::Table, DeclarativeError> {
    let sizes: PathBuf = folder.join("sizes");
    let path = sizes.join(format!("{size}.toml"));
    if !path.is_file() {
        let mut known: Vec<String> = std::fs::read_dir(&sizes)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
            .collect();
        known.sort();
        return Err(DeclarativeError::Content {
            origin: format!("--size {size}"),
            problem: format!("there is no {} (known: {})", path.display(), known.join(", ")),
        });
    }
    declarative::read_table(&path)
}

/// The variants' names and own keys: those of the file, those of the sweep's points, or each point under each variant.
/// Where only some are wanted, `resolved` keeps only those.
fn variant_tables(
    document: &mut Document,
    wanted: &[String],
    assignments: &toml::Table,
    resolved: &mut toml::Table,
    origin: &str,
) -> Result<Vec<(String, toml::Table)>, DeclarativeError> {
    let content = |problem: String| DeclarativeError::Content { origin: origin.to_owned(), problem };
    let sweep = document.sweep.as_ref().map(|table| Sweep::read(table, origin)).transpose()?;
    // An alternative may be named without its axis, where no variant is called so.
    let coordinate = |name: &str| match document.variant.contains_key(name) {
        true => None,
        false => sweep.as_ref().and_then(|sweep| sweep.coordinate_of(name)),
    };
    let (points, wanted): (Vec<String>, Vec<String>) = wanted
        .iter()
        .map(|name| coordinate(name.trim()).unwrap_or_else(|| name.trim().to_owned()))
        .partition(|name| name.contains('='));
    let mut unknown: Vec<String> = Vec::new();
    let points = match &mut document.sweep {
        None => {
            unknown.extend(points);
            Vec::new()
        }
        Some(table) => {
            let whole = sweep.expect("read above");
            unknown.extend(sweep::restrict(table, &whole, &points));
            if let Some(key) = whole.assigned(assignments) {
                return Err(content(format!(
                    "{key} is swept, so --set {key}=VALUE would make all points the same; name the points with \
                     --variants, or set the sweep's own list, such as --set 'sweep.{key}=[...]'"
                )));
            }
            resolved.insert("sweep".to_owned(), toml::Value::Table(table.clone()));
            Sweep::read(table, origin)?.points()
        }
    };
    unknown.extend(wanted.iter().filter(|name| !document.variant.contains_key(*name)).cloned());
    if let Some(name) = unknown.first() {
        let mut known: Vec<String> = document.variant.keys().cloned().collect();
        if let Some(table) = resolved.get("sweep").and_then(toml::Value::as_table) {
            known.extend(Sweep::read(table, origin)?.coordinate_names());
        }
        let nearest = declarative::did_you_mean(name, known.iter().map(String::as_str));
        return Err(content(format!("there is no variant `{name}`{nearest} (known: {})", known.join(", "))));
    }
    let mut tables: Vec<(String, toml::Table)> = Vec::new();
    for (name, keys) in document.variant.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(*name)) {
        if !name.chars().all(|character| !"=,/\\".contains(character)) {
            return Err(content(format!(
                "[variant.{name}]: the name becomes part of file names and of points' names, so it has no `=`, `,` or slash"
            )));
        }
        let keys = keys.as_table().ok_or_else(|| content(format!("[variant.{name}] is a table of keys")))?;
        tables.push((name.clone(), keys.clone()));
    }
    if !wanted.is_empty() {
        let kept = tables.iter().cloned().map(|(name, keys)| (name, toml::Value::Table(keys)));
        resolved.insert("variant".to_owned(), toml::Value::Table(kept.collect()));
    }
    if points.is_empty() {
        if tables.is_empty() {
            tables.push(("default".to_owned(), toml::Table::new()));
        }
        return Ok(tables);
    }
    if tables.is_empty() {
        return Ok(points.into_iter().map(|point| (point.name, point.keys)).collect());
    }
    let under = |(variant, keys): &(String, toml::Table)| {
        let under_point = |point: &sweep::Point| {
            let mut merged = keys.clone();
            declarative::merge(&mut merged, &point.keys);
            (sweep::within(variant, &point.name), merged)
        };
        points.iter().map(under_point).collect::<Vec<_>>()
    };
    Ok(tables.iter().flat_map(under).collect())
}

fn variant(
    name: String,
    document: &Document,
    keys: &toml::Table,
    assignments: &toml::Table,
    origin: &str,
) -> Result<Variant, DeclarativeError> {
    let origin = |section: &str| format!("{origin}: [{section}] (variant {name})");
    let known = VARIANT_SECTIONS;
    if let Some(unknown) = keys.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(DeclarativeError::Content {
            origin: origin(&format!("variant.{name}")),
            problem: format!(
                "unknown key `{unknown}`{} (known: {})",
                declarative::did_you_mean(unknown, known),
                known.join(", ")
            ),
        });
    }
    let section = |key: &str, base: &toml::Table| {
        let mut section = base.clone();
        for over in [keys, assignments] {
            match over.get(key) {
                Some(toml::Value::Table(over)) => declarative::merge(&mut section, over),
                Some(_) => {
                    return Err(DeclarativeError::Content {
                        origin: origin(key),
                        problem: format!("`{key}` is a table, such as {key}.NAME = value"),
                    });
                }
                None => {}
            }
        }
        Ok(section)
    };
    let mut feature = section("feature", &document.feature)?;
    let sequences: SequenceOptions = match feature.remove("sequences") {
        None => SequenceOptions::default(),
        Some(toml::Value::Table(table)) => declarative::typed(table, &origin("feature.sequences"))?,
        Some(_) => {
            let problem = "`sequences` is a table, such as sequences.packets = 20".to_owned();
            return Err(DeclarativeError::Content { origin: origin("feature"), problem });
        }
    };
    let feature: TokenOptions = declarative::typed(feature, &origin("feature"))?;
    let flow: FlowOptions = declarative::typed(section("flow", &document.flow)?, &origin("flow"))?;
    let problem = |section: &str, problem: String| DeclarativeError::Content { origin: origin(section), problem };
    let kept = kept(&feature, &sequences, &flow);
    feature.validate(&kept).map_err(|error| problem("feature", error.to_string()))?;
    sequences.validate(&kept).map_err(|error| problem("feature", error.to_string()))?;
    flow.validate().map_err(|error| problem("flow", error.to_string()))?;
    let split: SplitOptions = declarative::typed(section("split", &document.split)?, &origin("split"))?;
    split.validate().map_err(|error| problem("split", error.to_string()))?;
    let models = section("model", &document.model)?;
    for unlisted in models.keys() {
        model_kind(unlisted, &origin("model"))?;
    }
    let mut specs = Vec::new();
    for name in &document.models {
        specs.extend(model_specs(name, models.get(name), &origin("models"))?);
    }
    // Every value of the key, of the models' own settings and of those that are tried.
    let tried =
        document.tune.iter().flat_map(|tune| tune.space.values()).filter_map(|space| space.get(PACKET_METADATA));
    let tried = tried.flat_map(|dimension| match dimension {
        Dimension::Values(values) => values.as_slice(),
        Dimension::Range(_) => &[],
    });
    let metadata = specs.iter().filter_map(|spec| spec.parameters.get(PACKET_METADATA)).chain(tried);
    let named: Vec<&toml::Value> = metadata.filter_map(toml::Value::as_array).flatten().collect();
    let reads_metadata = !named.is_empty();
    let reads_packet_times = named.iter().any(|value| value.as_str() == Some("time"))
        || specs.iter().any(|spec| spec.input == Input::Sequences);
    if reads_metadata {
        let wrong = |text: &str| Err(problem("feature", format!("{PACKET_METADATA} of a model {text}")));
        if sequences.packets < feature.packets {
            return wrong("needs as many packets in feature.sequences.packets as in feature.packets, or more");
        }
        if sequences.transformation != Transformation::SignedLogarithm {
            return wrong("needs feature.sequences.transformation = \"signed_logarithm\"");
        }
        // The packets of the bytes would not be those of the sequences.
        if feature.packet_start == PacketStart::Payload {
            return wrong("cannot be used with feature.packet_start = \"payload\", which leaves packets out");
        }
    }
    Ok(Variant {
        selection: declarative::typed(section("selection", &document.selection)?, &origin("selection"))?,
        flow,
        feature,
        sequences,
        split,
        reads_sequences: reads_metadata || specs.iter().any(ModelSpec::reads_sequences),
        reads_packet_times,
        models: specs,
        name,
    })
}

/// The flow options with as many packets and bytes kept as the features need; the runner keeps the same.
fn kept(feature: &TokenOptions, sequences: &SequenceOptions, flow: &FlowOptions) -> FlowOptions {
    let mut kept = FlowOptions {
        kept_packets: flow.kept_packets.max(feature.packets),
        kept_bytes: flow.kept_bytes.max(feature.needed_bytes()),
        ..flow.clone()
    };
    sequences.widen(&mut kept);
    kept
}

fn model_kind(name: &str, origin: &str) -> Result<ModelKind, DeclarativeError> {
    let mut table = toml::Table::new();
    table.insert("model".to_owned(), name.into());
    #[derive(Deserialize)]
    struct Kind {
        model: ModelKind,
    }
    declarative::typed::<Kind>(table, origin).map(|kind| kind.model)
}

/// One specification per input that the model's table lists.
fn model_specs(name: &str, table: Option<&toml::Value>, origin: &str) -> Result<Vec<ModelSpec>, DeclarativeError> {
    let kind = model_kind(name, origin)?;
    let origin = origin.replace("[models]", &format!("[model.{name}]"));
    let mut parameters = match table {
        None => toml::Table::new(),
        Some(toml::Value::Table(table)) => table.clone(),
        Some(_) => {
            return Err(DeclarativeError::Content {
                origin,
                problem: "this is a table of the model's keys".to_owned(),
            });
        }
    };
    #[derive(Deserialize)]
    struct Common {
        input: Option<OneOrMore<Input>>,
        implementation: Option<Implementation>,
    }
    let common: toml::Table =
        ["input", "implementation"].iter().filter_map(|&key| Some((key.to_owned(), parameters.remove(key)?))).collect();
    let common: Common = declarative::typed(common, &origin)?;
    let inputs = match common.input {
        None => vec![Input::Bytes],
        Some(OneOrMore::One(input)) => vec![input],
        Some(OneOrMore::More(inputs)) => inputs,
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

fn unique<T: PartialEq + std::fmt::Debug>(values: &[T], key: &str, origin: &str) -> Result<(), DeclarativeError> {
    let problem = |problem: String| DeclarativeError::Content { origin: origin.to_owned(), problem };
    if values.is_empty() {
        return Err(problem(format!("`{key}` is empty; give at least one")));
    }
    match (1..values.len()).find(|&index| values[..index].contains(&values[index])) {
        Some(index) => Err(problem(format!("`{key}` lists {:?} twice; give each once", values[index]))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped(name: &str, data: &[&str]) -> Experiment {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments").join(format!("{name}.toml"));
        let data = data.iter().map(|&name| name.to_owned()).collect();
        read_experiment(&path, &Overrides { data, ..Overrides::default() }).unwrap()
    }

    #[test]
    fn what_is_said_on_a_dataset_holds_there_alone() {
        let own = shipped("table2", &[]);
        assert_eq!(own.seeds.len(), 5);
        assert!(own.title.contains("ISCXVPN2016"));
        assert!(!own.resolved.contains_key("on"));
        assert!(own.resolved["selection"]["classes"].get("netflix").is_some());
        assert_eq!(shipped("table2", &["synth"]).resolved["selection"], own.resolved["selection"]);

        let lab = shipped("table2", &["lab"]);
        assert_eq!(lab.seeds, [0, 1, 2], "said in paper.toml");
        assert!(!lab.title.contains("ISCX"));
        let classes = lab.resolved["selection"]["classes"].as_array().unwrap();
        assert_eq!(classes.len(), 10);
        assert!(lab.variants.iter().all(|variant| variant.selection != own.variants[0].selection));
        assert_eq!(lab.variants[0].feature, own.variants[0].feature);
    }

    #[test]
    fn a_size_wins_over_what_is_said_on_a_dataset() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments/table1.toml");
        let overrides = Overrides { data: vec!["lab".into()], size: Some("demo".into()), ..Overrides::default() };
        let demo = read_experiment(&path, &overrides).unwrap();
        assert_eq!(demo.seeds, [0]);
        assert_eq!(demo.resolved["selection"]["maximum_flows_per_class"].as_integer(), Some(200));
    }

    #[test]
    fn on_holds_tables_and_cannot_change_the_dataset() {
        for (text, told) in
            [("on = 3", "[on.synth]"), ("[on]\nlab = 3", "[on.synth]"), ("[on.lab]\ndataset = 1", "cannot hold")]
        {
            let mut table: toml::Table = text.parse().unwrap();
            let error = merge_on(&mut table, &["lab".to_owned()]).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}

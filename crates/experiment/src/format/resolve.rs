//! The second pass: merges the layers into one complete table per variant and section. Pure.

use serde::Deserialize;

use super::super::evaluation::EvaluationOptions;
use super::super::ladder::{LADDER, LadderOptions};
use super::super::sweep::{self, Sweep, VARIANT_SECTIONS};
use super::super::tune::TuneOptions;
use super::super::variant_name::{self, current_variant};
use super::parse::Layers;
use super::{Overrides, TableLayout};
use etcbench_model::ModelKind;
use etcbench_split::Fractions;
use etcbench_storage::declarative::{self, DeclarativeError};

/// An experiment with merged layers, before its values are validated.
pub(super) struct Resolved {
    /// The experiment's name.
    pub(super) name: String,
    /// The experiment file, for messages.
    pub(super) origin: String,
    /// `full`, or the name of the size.
    pub(super) size: String,
    /// The keys of the whole experiment.
    pub(super) document: Document,
    /// The variants, in order; at least one.
    pub(super) variants: Vec<Sections>,
    /// The whole experiment as TOML.
    pub(super) table: toml::Table,
    /// Whether the variants are the rungs of a ladder.
    pub(super) ladder: bool,
}

/// A variant with every key, by section.
pub(super) struct Sections {
    /// The variant's name.
    pub(super) name: String,
    pub(super) selection: toml::Table,
    pub(super) flow: toml::Table,
    pub(super) feature: toml::Table,
    pub(super) split: toml::Table,
    pub(super) model: toml::Table,
}

/// The whole experiment; a variant's sections override those of the same name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    /// Defaults to the experiment's name.
    #[serde(default)]
    pub(super) title: String,
    #[serde(default)]
    pub(super) layout: TableLayout,
    #[serde(default = "usual_seeds")]
    pub(super) seeds: Vec<u64>,
    #[serde(default = "usual_models")]
    pub(super) models: Vec<String>,
    pub(super) dataset: DatasetSection,
    pub(super) selection: toml::Table,
    #[serde(default)]
    pub(super) flow: toml::Table,
    #[serde(default)]
    pub(super) feature: toml::Table,
    #[serde(default)]
    pub(super) split: toml::Table,
    #[serde(default)]
    pub(super) model: toml::Table,
    pub(super) tune: Option<TuneOptions>,
    #[serde(default)]
    pub(super) variant: toml::Table,
    pub(super) sweep: Option<toml::Table>,
    #[serde(default)]
    pub(super) ladder: LadderOptions,
    #[serde(default)]
    pub(super) evaluation: EvaluationOptions,
}

/// Three seeds: the fewest that indicate how much a score varies.
fn usual_seeds() -> Vec<u64> {
    vec![0, 1, 2]
}

fn usual_models() -> Vec<String> {
    ModelKind::usual().map(|kind| kind.name().to_owned()).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DatasetSection {
    pub(super) names: Vec<String>,
}

/// Merges `layers` and `overrides`.
///
/// # Errors
/// Unknown keys, duplicates, or nonexistent variants or points.
pub(super) fn resolve(layers: Layers, overrides: &Overrides) -> Result<Resolved, DeclarativeError> {
    let Layers { mut name, origin, files, size, assignments } = layers;
    let content = |problem: String| DeclarativeError::Content { origin: origin.clone(), problem };
    let mut table = toml::Table::new();
    files.iter().for_each(|file| variant_name::merge_layer(&mut table, file));
    let datasets = match &overrides.data[..] {
        [] => dataset_names(&table),
        data => data.to_vec(),
    };
    merge_on(&mut table, &datasets).map_err(content)?;
    if let Some(size) = &size {
        variant_name::merge_layer(&mut table, size);
        merge_on(&mut table, &datasets).map_err(content)?;
    }
    variant_name::merge_layer(&mut table, &assignments);
    // The stored, resolved experiment must produce the same variants when it is read again.
    if let Some(toml::Value::Table(variants)) = table.get_mut("variant") {
        for (_, variant) in variants.iter_mut() {
            variant.as_table_mut().into_iter().for_each(|keys| overwrite(keys, &assignments));
        }
    }

    let mut document: Document = declarative::typed(table.clone(), &origin)?;
    if document.title.is_empty() {
        document.title.clone_from(&name);
        table.insert("title".to_owned(), name.as_str().into());
    }
    if !overrides.data.is_empty() {
        document.dataset.names = overrides.data.clone();
    }
    if !overrides.models.is_empty() {
        document.models = overrides.models.clone();
    }
    if let Some(seeds) = &overrides.seeds {
        document.seeds = seeds.clone();
    }
    if overrides.ladder.is_some() {
        put_rungs(&mut document, overrides, &mut table).map_err(content)?;
        name.push_str(LADDER);
    }
    unique(&document.seeds, "seeds", &origin)?;
    unique(&document.models, "models", &origin)?;
    unique(&document.dataset.names, "dataset.names", &origin)?;
    let names = document.dataset.names.iter().map(|name| toml::Value::from(name.as_str())).collect();
    let names = toml::Table::from_iter([("names".to_owned(), toml::Value::Array(names))]);
    table.insert("dataset".to_owned(), names.into());
    table.insert("models".to_owned(), document.models.clone().into());
    let seeds = document.seeds.iter().map(|&seed| i64::try_from(seed).map(toml::Value::from));
    let seeds = seeds.collect::<Result<_, _>>().map_err(|_| content("a seed is over 2^63 - 1".to_owned()))?;
    table.insert("seeds".to_owned(), toml::Value::Array(seeds));

    let variants = variant_tables(&mut document, &overrides.variants, &assignments, &mut table, &origin)?;
    let variants = variants
        .into_iter()
        .map(|(name, keys)| sections(name, &document, &keys, &assignments, &origin))
        .collect::<Result<Vec<Sections>, _>>()?;
    for Sections { name: variant, .. } in &variants {
        declarative::as_file_name(variant).map_err(|problem| content(format!("variant {variant:?}: {problem}")))?;
    }
    let size = overrides.size.clone().unwrap_or_else(|| "full".to_owned());
    let ladder = overrides.ladder.is_some();
    Ok(Resolved { name, origin, size, document, variants, table, ladder })
}

/// Overwrites keys in `keys` with those of `over`; adds none.
fn overwrite(keys: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (keys.get_mut(key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => overwrite(below, above),
            (Some(below), above) => *below = above.clone(),
            (None, _) => {}
        }
    }
}

/// Replaces the variants with the rungs of the ladder requested in `overrides`.
fn put_rungs(document: &mut Document, overrides: &Overrides, table: &mut toml::Table) -> Result<(), String> {
    let Some(changes) = &overrides.ladder else { return Ok(()) };
    if document.sweep.is_some() {
        return Err("[sweep] and a ladder are mutually exclusive; use an experiment without a sweep".to_owned());
    }
    let ladder =
        std::mem::take(&mut document.ladder).with(changes).map_err(|problem| format!("[ladder]: {problem}"))?;
    // Folds and repetitions replace seeds.
    if overrides.seeds.is_none() {
        document.seeds.truncate(1);
    }
    if !ladder.test_datasets.is_empty() {
        for name in &ladder.test_datasets {
            if !document.dataset.names.contains(name) {
                document.dataset.names.push(name.clone());
            }
        }
    }
    // `[evaluation]` does not apply to ladders.
    document.evaluation = EvaluationOptions::default();
    table.remove("evaluation");
    // The rungs determine how flows are divided; keys for what happens after the division are kept.
    let kept = ["minimum_class_flows", "sampling", "training_flows_per_class", "validation"];
    document.split.retain(|key, _| kept.contains(&key));
    document.variant = ladder.variants();
    // A split by time takes the kept share for validation from its training flows.
    if let Some(validation) = document.split.get("validation").and_then(toml::Value::as_float) {
        let test = Fractions::DEFAULT.test;
        let train = 1.0 - test - validation;
        for (_, keys) in document.variant.iter_mut() {
            let split = keys.get_mut("split").and_then(toml::Value::as_table_mut);
            if let Some(split) = split.filter(|split| split["method"].as_str() == Some("temporal")) {
                if train <= 0.0 {
                    return Err(format!(
                        "[split]: validation = {validation} leaves nothing to train on, since a split by time tests on \
                         {test} of the flows; lower it"
                    ));
                }
                split.insert("train".to_owned(), train.into());
                split.insert("test".to_owned(), test.into());
            }
        }
    }
    document.title.push_str(": the ladder");
    table.insert("title".to_owned(), document.title.as_str().into());
    table.insert("split".to_owned(), document.split.clone().into());
    table.insert("variant".to_owned(), document.variant.clone().into());
    let stored = toml::Value::try_from(&ladder).map_err(|error| error.to_string())?;
    table.insert("ladder".to_owned(), stored);
    document.ladder = ladder;
    Ok(())
}

/// Returns the names under `[dataset]` that are text; invalid names are reported when the file is typed.
fn dataset_names(table: &toml::Table) -> Vec<String> {
    let names = table.get("dataset").and_then(|dataset| dataset.get("names")).and_then(toml::Value::as_array);
    names.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Removes `[on]` from `table` and merges its keys for `datasets` into the rest.
fn merge_on(table: &mut toml::Table, datasets: &[String]) -> Result<(), String> {
    let Some(on) = table.remove("on") else { return Ok(()) };
    let tables = on.as_table().filter(|on| on.values().all(toml::Value::is_table));
    let tables = tables.ok_or("`on` must contain a table of keys per dataset, such as [on.synth]")?;
    for keys in datasets.iter().filter_map(|name| tables.get(name)?.as_table()) {
        if keys.contains_key("dataset") || keys.contains_key("extends") || keys.contains_key("on") {
            return Err("[on.DATASET] cannot contain `dataset`, `extends` or `on`".to_owned());
        }
        declarative::merge(table, keys);
    }
    Ok(())
}

/// Returns the variants' names and keys: those of the file, those of the sweep's points, or each point under each
/// variant. If only some are wanted, `resolved` keeps only those.
fn variant_tables(
    document: &mut Document,
    wanted: &[String],
    assignments: &toml::Table,
    resolved: &mut toml::Table,
    origin: &str,
) -> Result<Vec<(String, toml::Table)>, DeclarativeError> {
    let content = |problem: String| DeclarativeError::Content { origin: origin.to_owned(), problem };
    let sweep = document.sweep.as_ref().map(|table| Sweep::read(table, origin)).transpose()?;
    // A variant's former name selects it, unless the file itself still uses that name.
    let renamed = |name: &str| match document.variant.contains_key(name) {
        true => name.to_owned(),
        false => current_variant(name).into_owned(),
    };
    let wanted: Vec<String> = wanted.iter().map(|name| renamed(name.trim())).collect();
    // An alternative may be named without its axis, unless a variant has the same name.
    let coordinate = |name: &str| match document.variant.contains_key(name) {
        true => None,
        false => sweep.as_ref().and_then(|sweep| sweep.coordinate_of(name)),
    };
    let (points, wanted): (Vec<String>, Vec<String>) =
        wanted.iter().map(|name| coordinate(name).unwrap_or_else(|| name.clone())).partition(|name| name.contains('='));
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
                    "{key} is swept, so --set {key}=VALUE would make all points equal; select points with \
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
        return Err(content(format!("no such variant: `{name}`{nearest} (known: {})", known.join(", "))));
    }
    let mut tables: Vec<(String, toml::Table)> = Vec::new();
    for (name, keys) in document.variant.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(*name)) {
        if !name.chars().all(|character| !"=,/\\".contains(character)) {
            return Err(content(format!(
                "[variant.{name}]: the name becomes part of file names and point names, so it must not contain `=`, \
                 `,` or slashes"
            )));
        }
        let keys = keys.as_table().ok_or_else(|| content(format!("[variant.{name}] must be a table of keys")))?;
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

/// Returns every key of one variant: those of the experiment, the variant's own, and `--set`.
fn sections(
    name: String,
    document: &Document,
    keys: &toml::Table,
    assignments: &toml::Table,
    origin: &str,
) -> Result<Sections, DeclarativeError> {
    let origin = |section: &str| variant_origin(origin, section, &name);
    let known = VARIANT_SECTIONS;
    if let Some(unknown) = keys.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(DeclarativeError::unknown_key(unknown, known, &origin(&format!("variant.{name}"))));
    }
    let section = |key: &str, base: &toml::Table| {
        let mut section = base.clone();
        for over in [keys, assignments] {
            match over.get(key) {
                Some(toml::Value::Table(over)) => declarative::merge(&mut section, over),
                Some(_) => {
                    return Err(DeclarativeError::Content {
                        origin: origin(key),
                        problem: format!("`{key}` must be a table, such as {key}.NAME = value"),
                    });
                }
                None => {}
            }
        }
        Ok(section)
    };
    Ok(Sections {
        selection: section("selection", &document.selection)?,
        flow: section("flow", &document.flow)?,
        feature: section("feature", &document.feature)?,
        split: section("split", &document.split)?,
        model: section("model", &document.model)?,
        name,
    })
}

/// Returns the location of a variant's section, for messages.
pub(super) fn variant_origin(origin: &str, section: &str, variant: &str) -> String {
    format!("{origin}: [{section}] (variant {variant})")
}

/// Rejects a list that is empty or contains duplicates.
pub(super) fn unique<T: PartialEq + std::fmt::Debug>(
    values: &[T],
    key: &str,
    origin: &str,
) -> Result<(), DeclarativeError> {
    let problem = |problem: String| DeclarativeError::Content { origin: origin.to_owned(), problem };
    if values.is_empty() {
        return Err(problem(format!("`{key}` is empty; list at least one")));
    }
    match declarative::first_repeated(values) {
        Some(value) => Err(problem(format!("`{key}` lists {value:?} twice; list each once"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_holds_tables_and_cannot_change_the_dataset() {
        for (text, expected) in
            [("on = 3", "[on.synth]"), ("[on]\nlab = 3", "[on.synth]"), ("[on.lab]\ndataset = 1", "cannot contain")]
        {
            let mut table: toml::Table = text.parse().unwrap();
            let error = merge_on(&mut table, &["lab".to_owned()]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}

//! Sweeps: `[sweep]` of an experiment file lists values for keys, and every combination is a point, which is a variant
//! of the run. Points share all stages that they do not change, because stages are cached by what determines them.
//!
//! ```toml
//! [sweep]
//! feature.packets = [1, 2, 4]              # an axis: one key and its values
//! [sweep.alternatives.masks]               # an axis of whole alternatives: any keys, together, under a name
//! none = { feature.masks = [] }
//! identifiers = { feature.masks = ["ip_addresses", "ports"] }
//! ```
//!
//! A point's name consists of its coordinates: `feature.packets=4, masks=none`.

use etcbench_storage::declarative::{self, DeclarativeError};

/// The sections of an experiment that a variant, and so a point, may change.
pub(super) const VARIANT_SECTIONS: [&str; 5] = ["selection", "flow", "feature", "split", "model"];

/// The key that contains named alternatives.
const ALTERNATIVES: &str = "alternatives";

/// Maximum number of points in a sweep; more is a mistake.
const LARGEST_SWEEP: usize = 10_000;

/// Maximum length of a point's name, which is part of file names.
const LONGEST_NAME: usize = 120;

/// Separator of the coordinates in a point's name.
const SEPARATOR: &str = ", ";

/// One axis of a sweep.
#[derive(Debug, Clone, PartialEq)]
struct Axis {
    /// The key, such as `feature.packets`, or the name of the alternatives.
    name: String,
    /// The values: their text in names, and the keys they set.
    values: Vec<(String, toml::Table)>,
    /// Whether the values are named alternatives.
    named: bool,
}

/// A sweep: its axes in the file's order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sweep {
    axes: Vec<Axis>,
}

/// One combination of values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    /// Its coordinates: `feature.packets=4, masks=none`.
    pub name: String,
    /// The keys it sets.
    pub keys: toml::Table,
}

/// Splits the name of a variant into the name of the variant itself, if the experiment has variants, and the
/// coordinates of the point, as axis and value; empty if it is not a point of a sweep.
pub fn coordinates(variant: &str) -> (Option<&str>, Vec<(&str, &str)>) {
    let mut parts: Vec<&str> = variant.split(SEPARATOR).collect();
    let base = parts.first().filter(|part| !part.contains('=')).copied();
    if base.is_some() {
        parts.remove(0);
    }
    (base, parts.iter().filter_map(|part| part.split_once('=')).collect())
}

/// Returns the name of a point under a named variant.
pub(super) fn within(variant: &str, point: &str) -> String {
    format!("{variant}{SEPARATOR}{point}")
}

impl Sweep {
    /// Reads `[sweep]`; `origin` is the file name for errors.
    ///
    /// # Errors
    /// A key that variants cannot set, a list that is empty or contains duplicates, or a value that requires a name.
    pub(crate) fn read(table: &toml::Table, origin: &str) -> Result<Self, DeclarativeError> {
        let problem = |problem: String| DeclarativeError::Content { origin: format!("{origin}: [sweep]"), problem };
        let mut axes = Vec::new();
        for (key, value) in table {
            if key == ALTERNATIVES {
                axes.extend(alternatives(value).map_err(problem)?);
                continue;
            }
            if !VARIANT_SECTIONS.contains(&key.as_str()) {
                let known = [&VARIANT_SECTIONS[..], &[ALTERNATIVES]].concat();
                return Err(problem(declarative::unknown("key", key, &known)));
            }
            key_axes(key, value, &mut axes).map_err(problem)?;
        }
        if axes.is_empty() {
            return Err(problem("no axis; add one, such as feature.packets = [1, 2, 4]".to_owned()));
        }
        for axis in &axes {
            let names: Vec<&str> = axis.values.iter().map(|(text, _)| text.as_str()).collect();
            if names.is_empty() {
                return Err(problem(format!("`{}` is empty; list at least one value", axis.name)));
            }
            if let Some(value) = declarative::first_repeated(&names) {
                return Err(problem(format!("`{}` lists {value} twice; list each value once", axis.name)));
            }
        }
        let size = axes.iter().try_fold(1_usize, |size, axis| size.checked_mul(axis.values.len()));
        if size.is_none_or(|size| size > LARGEST_SWEEP) {
            return Err(problem(format!("more than {LARGEST_SWEEP} points; shorten the lists")));
        }
        let sweep = Self { axes };
        if let Some(point) = sweep.points().into_iter().find(|point| point.name.len() > LONGEST_NAME) {
            return Err(problem(format!(
                "the name of point `{}` exceeds {LONGEST_NAME} characters, which is too long for files; name its \
                 values under [sweep.{ALTERNATIVES}.NAME]",
                point.name
            )));
        }
        Ok(sweep)
    }

    /// Returns every combination of values; the last axis changes first.
    pub(crate) fn points(&self) -> Vec<Point> {
        let mut points = vec![Point { name: String::new(), keys: toml::Table::new() }];
        for axis in &self.axes {
            points = points
                .into_iter()
                .flat_map(|point| {
                    axis.values.iter().map(move |(text, keys)| {
                        let coordinate = format!("{}={text}", axis.name);
                        let mut merged = point.keys.clone();
                        declarative::merge(&mut merged, keys);
                        let name = if point.name.is_empty() { coordinate } else { within(&point.name, &coordinate) };
                        Point { name, keys: merged }
                    })
                })
                .collect();
        }
        points
    }

    /// Returns `axis=value` for every value, for display.
    pub(crate) fn coordinate_names(&self) -> Vec<String> {
        let names =
            |axis: &Axis| axis.values.iter().map(|(text, _)| format!("{}={text}", axis.name)).collect::<Vec<_>>();
        self.axes.iter().flat_map(names).collect()
    }

    /// Returns `axis=value` for the alternative with this name; `None` if there is none, or several.
    pub(crate) fn coordinate_of(&self, alternative: &str) -> Option<String> {
        let named = self.axes.iter().filter(|axis| axis.named);
        let mut found = named.filter(|axis| axis.values.iter().any(|(text, _)| text == alternative));
        let axis = found.next()?;
        found.next().is_none().then(|| format!("{}={alternative}", axis.name))
    }

    /// Returns the first swept key that `assignments` set to a single value, which would make all points equal.
    pub(crate) fn assigned(&self, assignments: &toml::Table) -> Option<String> {
        let set: Vec<String> = leaves(assignments);
        let swept = self.axes.iter().flat_map(|axis| &axis.values).flat_map(|(_, keys)| leaves(keys));
        swept.into_iter().find(|key| set.contains(key))
    }
}

/// Removes from `[sweep]` every value not in `wanted` (`axis=value`), on each axis that occurs in `wanted`; returns
/// those of `wanted` that are not coordinates of the sweep.
pub(super) fn restrict(table: &mut toml::Table, sweep: &Sweep, wanted: &[String]) -> Vec<String> {
    let mut unknown = Vec::new();
    for text in wanted {
        let known = text.split_once('=').is_some_and(|(axis, value)| {
            sweep.axes.iter().any(|known| known.name == axis && known.values.iter().any(|(text, _)| text == value))
        });
        if !known {
            unknown.push(text.clone());
        }
    }
    for axis in &sweep.axes {
        let kept: Vec<bool> =
            axis.values.iter().map(|(text, _)| wanted.contains(&format!("{}={text}", axis.name))).collect();
        if !kept.contains(&true) {
            continue;
        }
        let mut keep = kept.iter();
        let mut next = || *keep.next().unwrap_or(&false);
        let of_alternatives = table
            .get_mut(ALTERNATIVES)
            .and_then(toml::Value::as_table_mut)
            .and_then(|alternatives| alternatives.get_mut(&axis.name))
            .and_then(toml::Value::as_table_mut);
        match of_alternatives {
            Some(values) => values.retain(|_, _| next()),
            None => {
                if let Some(values) = list_at(table, &axis.name) {
                    values.retain(|_| next());
                }
            }
        }
    }
    unknown
}

fn list_at<'a>(table: &'a mut toml::Table, key: &str) -> Option<&'a mut Vec<toml::Value>> {
    let mut parts = key.split('.');
    let mut value = table.get_mut(parts.next()?)?;
    for part in parts {
        value = value.get_mut(part)?;
    }
    value.as_array_mut()
}

/// Collects the axes under one key: a list is an axis, a table contains more keys.
fn key_axes(key: &str, value: &toml::Value, axes: &mut Vec<Axis>) -> Result<(), String> {
    match value {
        toml::Value::Table(table) => {
            table.iter().try_for_each(|(part, value)| key_axes(&format!("{key}.{part}"), value, axes))
        }
        toml::Value::Array(values) => {
            let values = values.iter().map(|value| match text(value) {
                Some(text) => Ok((text, nested(key, value.clone()))),
                None => Err(format!(
                    "`{key}`: the value {value} cannot be part of a file's name; name it under \
                     [sweep.{ALTERNATIVES}.NAME]"
                )),
            });
            axes.push(Axis { name: key.to_owned(), values: values.collect::<Result<_, _>>()?, named: false });
            Ok(())
        }
        other => Err(format!("`{key}` is {other}; a sweep requires a list of values, such as {key} = [{other}]")),
    }
}

/// Reads the axes of `[sweep.alternatives]`.
fn alternatives(value: &toml::Value) -> Result<Vec<Axis>, String> {
    let how = "write [sweep.alternatives.NAME] with lines such as value = { feature.masks = [] }";
    let axes = value.as_table().ok_or_else(|| format!("`{ALTERNATIVES}` is not a table; {how}"))?;
    axes.iter()
        .map(|(name, values)| {
            if !is_plain(name) {
                return Err(format!("`{name}` cannot be part of a file's name; use letters, digits, `_`, `-` and `.`"));
            }
            let values = values.as_table().ok_or_else(|| format!("`{ALTERNATIVES}.{name}` is not a table; {how}"))?;
            let values = values.iter().map(|(value, keys)| {
                let keys = keys.as_table().ok_or_else(|| format!("`{name}.{value}` is not a table of keys; {how}"))?;
                if !is_plain(value) {
                    return Err(format!(
                        "`{name}.{value}` cannot be part of a file's name; use letters, digits, `_`, `-` and `.`"
                    ));
                }
                if let Some(unknown) = keys.keys().find(|key| !VARIANT_SECTIONS.contains(&key.as_str())) {
                    let problem = declarative::unknown("key", unknown, &VARIANT_SECTIONS);
                    return Err(format!("`{name}.{value}`: {problem}"));
                }
                Ok((value.clone(), keys.clone()))
            });
            Ok(Axis { name: name.clone(), values: values.collect::<Result<_, _>>()?, named: true })
        })
        .collect()
}

/// Returns a value's text in a name; `None` if it would be ambiguous there or invalid in a file name.
fn text(value: &toml::Value) -> Option<String> {
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => value.to_string(),
        toml::Value::Array(values) if values.is_empty() => "none".to_owned(),
        toml::Value::Array(values) => values.iter().map(text).collect::<Option<Vec<_>>>()?.join("+"),
        toml::Value::Datetime(_) | toml::Value::Table(_) => return None,
    };
    (!text.is_empty() && text.split('+').all(is_plain)).then_some(text)
}

/// Returns whether a name is valid in file names and in lists of coordinates.
pub(super) fn is_plain(name: &str) -> bool {
    let plain = |character: char| character.is_alphanumeric() || "_-.".contains(character);
    !name.is_empty() && name.chars().all(plain)
}

/// Converts `a.b` and a value to `{ a = { b = value } }`.
fn nested(key: &str, value: toml::Value) -> toml::Table {
    match key.split_once('.') {
        Some((first, rest)) => toml::Table::from_iter([(first.to_owned(), toml::Value::Table(nested(rest, value)))]),
        None => toml::Table::from_iter([(key.to_owned(), value)]),
    }
}

/// Returns the keys of all values that are not tables.
fn leaves(table: &toml::Table) -> Vec<String> {
    let mut keys = Vec::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(table) => keys.extend(leaves(table).into_iter().map(|rest| format!("{key}.{rest}"))),
            _ => keys.push(key.clone()),
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Sweep, String> {
        Sweep::read(&text.parse().unwrap(), "x.toml").map_err(|error| error.to_string())
    }

    fn names(sweep: &Sweep) -> Vec<String> {
        sweep.points().into_iter().map(|point| point.name).collect()
    }

    const TWO: &str = "feature.packets = [1, 2]\n[alternatives.split]\nrandom = { split.method = \"stratified\" }\n\
                       captures = { split.method = \"grouped\", feature.masks = [\"ports\"] }";

    #[test]
    fn points_are_all_combinations_in_the_order_of_the_file() {
        let sweep = read(TWO).unwrap();
        let expected = [
            "feature.packets=1, split=random",
            "feature.packets=1, split=captures",
            "feature.packets=2, split=random",
            "feature.packets=2, split=captures",
        ];
        assert_eq!(names(&sweep), expected);
        let last = &sweep.points()[3].keys;
        assert_eq!(last["feature"]["packets"].as_integer(), Some(2));
        assert_eq!(last["feature"]["masks"].as_array().unwrap().len(), 1);
        assert_eq!(last["split"]["method"].as_str(), Some("grouped"));
        for name in expected {
            let (own, found) = coordinates(name);
            assert_eq!(own, None);
            assert_eq!((found[0].0, found[1].0), ("feature.packets", "split"));
        }
        assert_eq!(coordinates("random_split"), (Some("random_split"), vec![]));
        assert_eq!(coordinates("random_split, a=1"), (Some("random_split"), vec![("a", "1")]));
    }

    #[test]
    fn values_stand_in_names_as_plain_text() {
        let sweep =
            read("feature.masks = [[], [\"ports\", \"ttl\"]]\nmodel.svm.cost = [0.5]\nmodel.knn.log_scale = [true]");
        assert_eq!(
            names(&sweep.unwrap()),
            [
                "feature.masks=none, model.svm.cost=0.5, model.knn.log_scale=true",
                "feature.masks=ports+ttl, model.svm.cost=0.5, model.knn.log_scale=true"
            ]
        );
    }

    #[test]
    fn invalid_sweeps_are_refused() {
        let problem = |text: &str| read(text).unwrap_err();
        assert!(problem("").contains("no axis"));
        assert!(problem("feature.packets = 4").contains("feature.packets = [4]"));
        assert!(problem("feature.packets = []").contains("is empty"));
        assert!(problem("feature.packets = [1, 1]").contains("lists 1 twice"));
        assert!(problem("featur.packets = [1]").contains("did you mean `feature`?"));
        assert!(problem("seeds = [[1]]").contains("unknown key `seeds`"));
        assert!(problem("split = [{ method = \"grouped\" }]").contains("[sweep.alternatives.NAME]"));
        assert!(problem("selection.label = [\"a/b\"]").contains("[sweep.alternatives.NAME]"));
        assert!(problem("alternatives.x = { \"a/b\" = {} }").contains("file's name"));
        assert!(problem("alternatives.x = { a = { splt = {} } }").contains("did you mean `split`?"));
        let many = (0..101).map(|value| value.to_string()).collect::<Vec<_>>().join(",");
        let text = format!("feature.packets = [{many}]\nfeature.bytes = [{many}]");
        assert!(problem(&text).contains("more than 10000 points"));
    }

    #[test]
    fn a_part_of_a_sweep_is_the_file_with_shorter_lists() {
        let mut table: toml::Table = TWO.parse().unwrap();
        let sweep = Sweep::read(&table, "x.toml").unwrap();
        let wanted = ["feature.packets=2".to_owned(), "split=captures".to_owned(), "split=hosts".to_owned()];
        assert_eq!(restrict(&mut table, &sweep, &wanted), ["split=hosts"]);
        let part = Sweep::read(&table, "x.toml").unwrap();
        assert_eq!(names(&part), ["feature.packets=2, split=captures"]);
        assert_eq!(sweep.coordinate_of("captures").as_deref(), Some("split=captures"));
        assert_eq!((sweep.coordinate_of("hosts"), sweep.coordinate_of("2")), (None, None));
        let twice = read(&format!("{TWO}\n[alternatives.other]\ncaptures = {{ feature.bytes = 9 }}")).unwrap();
        assert_eq!(twice.coordinate_of("captures"), None);
    }

    #[test]
    fn an_assignment_to_a_swept_key_is_seen() {
        let sweep = read(TWO).unwrap();
        assert_eq!(sweep.assigned(&"feature.packets = 4".parse().unwrap()), Some("feature.packets".to_owned()));
        assert_eq!(sweep.assigned(&"split.method = \"temporal\"".parse().unwrap()), Some("split.method".to_owned()));
        assert_eq!(sweep.assigned(&"split.train = 0.5".parse().unwrap()), None);
    }
}

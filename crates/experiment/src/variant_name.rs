//! The former name of a variant. A run keeps the names that it was stored with; they are mapped only where runs, tolerance
//! files or a user's words of different ages meet.

use std::borrow::Cow;

use super::Record;
use etcbench_storage::declarative;

/// The variant that splits flows at random and keeps every byte.
const CURRENT: &str = "random_split";
/// Its name before.
const FORMER: &str = "as_published";

/// Returns today's name of a variant, or of a point of a sweep under it (`as_published, feature.packets=4`).
pub fn current_variant(name: &str) -> Cow<'_, str> {
    match name.strip_prefix(FORMER) {
        Some("") => Cow::Borrowed(CURRENT),
        Some(point) if point.starts_with(", ") => Cow::Owned(format!("{CURRENT}{point}")),
        _ => Cow::Borrowed(name),
    }
}

/// Returns whether any of these variants has today's name, so that the former one, if it is there too, is a variant of
/// the user's own.
pub fn has_current_variant<'a>(names: impl IntoIterator<Item = &'a str>) -> bool {
    names
        .into_iter()
        .any(|name| name.strip_prefix(CURRENT).is_some_and(|rest| rest.is_empty() || rest.starts_with(", ")))
}

/// Renames the variants of one run's records to today's names.
pub fn with_current_variants(records: &[Record]) -> Cow<'_, [Record]> {
    let names = || records.iter().map(|record| record.key.variant.as_str());
    if has_current_variant(names()) || names().all(|name| current_variant(name) == name) {
        return Cow::Borrowed(records);
    }
    let renamed = |record: &Record| {
        let mut record = record.clone();
        record.key.variant = current_variant(&record.key.variant).into_owned();
        record
    };
    Cow::Owned(records.iter().map(renamed).collect())
}

/// Merges a layer of an experiment into the ones below it. If they have the variant under today's name and the layer
/// only under the former one, the layer overrides the variant that it was written for.
pub(super) fn merge_layer(below: &mut toml::Table, layer: &toml::Table) {
    let variants = |table: &toml::Table| table.get("variant").and_then(toml::Value::as_table).cloned();
    let (Some(existing), Some(mut own)) = (variants(below), variants(layer)) else {
        return declarative::merge(below, layer);
    };
    if existing.contains_key(CURRENT)
        && !existing.contains_key(FORMER)
        && !own.contains_key(CURRENT)
        && let Some(keys) = own.remove(FORMER)
    {
        own.insert(CURRENT.to_owned(), keys);
    }
    let mut layer = layer.clone();
    layer.insert("variant".to_owned(), own.into());
    declarative::merge(below, &layer);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_overrides_the_variant_it_was_written_for() {
        let base = toml::toml! {
            variant.random_split.feature.packets = 6
        };
        let merged = |own: toml::Table| {
            let mut table = base.clone();
            merge_layer(&mut table, &own);
            table["variant"].as_table().unwrap().keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(merged(toml::toml! { variant.as_published.feature.packets = 2 }), ["random_split"]);
        let both = toml::toml! {
            variant.as_published.feature.packets = 2
            variant.random_split.feature.packets = 3
        };
        assert_eq!(merged(both), ["random_split", "as_published"], "both are the file's own");
    }

    #[test]
    fn a_former_name_and_its_points_have_current_ones() {
        for (name, current) in [
            ("as_published", "random_split"),
            ("as_published, feature.packets=4", "random_split, feature.packets=4"),
            ("as_published_too", "as_published_too"),
            ("without_shortcuts", "without_shortcuts"),
        ] {
            assert_eq!(current_variant(name), current);
        }
        assert!(has_current_variant(["a", "random_split, b=1"]) && !has_current_variant(["random_splits"]));
    }
}

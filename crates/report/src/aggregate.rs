//! Aggregation of records over seeds: the input of every table and every tolerance.

use std::collections::{BTreeMap, BTreeSet};

use super::ReportError;
use etcbench_evaluate::{Metric, Summary};
use etcbench_experiment::{Record, RunKey, current_variant};
use etcbench_model::{Implementation, ModelKind};

/// One experiment on one dataset in one size, whose records share a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TableKey {
    pub experiment: String,
    pub dataset: String,
    pub size: String,
}

/// One row of a table: all seeds of one model in one variant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowKey {
    pub model: String,
    pub input: String,
    pub implementation: String,
    pub variant: String,
}

impl RowKey {
    /// Returns the row that a fit belongs to.
    pub(crate) fn of(key: &RunKey) -> Self {
        Self {
            model: key.model.clone(),
            input: key.input.clone(),
            implementation: key.implementation.clone(),
            variant: key.variant.clone(),
        }
    }

    /// Returns whether a fit belongs to the row.
    pub(crate) fn is_of(&self, key: &RunKey) -> bool {
        (&self.model, &self.input, &self.implementation, &self.variant)
            == (&key.model, &key.input, &key.implementation, &key.variant)
    }

    /// Returns the model and its input, followed by the implementation unless it is the default.
    pub(crate) fn model_name(&self) -> String {
        let Self { model, input, implementation, .. } = self;
        match self.is_default_implementation() {
            true => format!("{model} · {input}"),
            false => format!("{model} · {input} · {implementation}"),
        }
    }

    /// Returns whether its implementation is the default, which tables omit.
    pub(crate) fn is_default_implementation(&self) -> bool {
        Implementation::is_default(&self.implementation)
    }
}

/// A value over seeds and folds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// Summary of the fits for which the value is defined; `None` if it is undefined in all.
    pub summary: Option<Summary>,
    /// Number of seeds with a record, defined or not.
    pub seeds: usize,
    /// Number of fits (seeds times folds) with a record, defined or not.
    pub fits: usize,
}

/// All records of one [`TableKey`], by row, class and metric.
#[derive(Debug, Default)]
pub(super) struct Aggregate {
    values: BTreeMap<(RowKey, Option<String>, String), Measured>,
    /// Classes in order of first appearance in the records.
    pub classes: Vec<String>,
    /// Variants in order of first appearance in the records, which is the order of the experiment file.
    pub variants: Vec<String>,
}

type Values = BTreeMap<(RowKey, Option<String>, String), BTreeMap<(u64, usize), Option<f64>>>;

/// Aggregates records over seeds and folds. Skips records of confusion matrices, tuning and training curves.
///
/// # Errors
/// Two records for the same value.
pub(super) fn aggregate(records: &[Record]) -> Result<BTreeMap<TableKey, Aggregate>, ReportError> {
    let mut tables: BTreeMap<TableKey, (Values, Vec<String>, Vec<String>)> = BTreeMap::new();
    let is_measured =
        |record: &&Record| record.predicted.is_none() && record.setting.is_none() && record.epoch.is_none();
    for record in records.iter().filter(is_measured) {
        let key = &record.key;
        let table =
            TableKey { experiment: key.experiment.clone(), dataset: key.dataset.clone(), size: key.size.clone() };
        let row = RowKey::of(key);
        let (values, classes, variants) = tables.entry(table).or_default();
        if !variants.contains(&row.variant) {
            variants.push(row.variant.clone());
        }
        if let Some(class) = &record.class
            && !classes.contains(class)
        {
            classes.push(class.clone());
        }
        let seeds = values.entry((row, record.class.clone(), record.metric.clone())).or_default();
        if seeds.insert((key.seed, key.fold), record.value).is_some() {
            return Err(ReportError::Records(format!(
                "{} of {} ({}, {}) class {} seed {} fold {} in {} {} {} is duplicated; keep one record of each value",
                record.metric,
                key.model,
                key.input,
                key.variant,
                record.class.as_deref().unwrap_or("(all)"),
                key.seed,
                key.fold,
                key.experiment,
                key.dataset,
                key.size
            )));
        }
    }
    let put_together = |(values, classes, variants): (Values, Vec<String>, Vec<String>)| Aggregate {
        values: values
            .into_iter()
            .map(|(key, seeds)| {
                let defined: Vec<f64> = seeds.values().copied().flatten().collect();
                let distinct: BTreeSet<u64> = seeds.keys().map(|(seed, _)| *seed).collect();
                (key, Measured { summary: Summary::of(&defined), seeds: distinct.len(), fits: seeds.len() })
            })
            .collect(),
        classes,
        variants,
    };
    Ok(tables.into_iter().map(|(key, table)| (key, put_together(table))).collect())
}

impl Aggregate {
    /// Returns a value, or `None` if it has no record.
    pub(crate) fn get(&self, row: &RowKey, class: Option<&str>, metric: impl AsRef<str>) -> Option<Measured> {
        // Clones the key because a tuple of borrowed parts cannot be looked up; tables are small.
        self.values.get(&(row.clone(), class.map(str::to_owned), metric.as_ref().to_owned())).copied()
    }

    /// Returns the values of a metric that is recorded per part, with the names of the parts.
    pub(crate) fn of_parts<'a>(&'a self, row: &'a RowKey, metric: Metric) -> impl Iterator<Item = (&'a str, Measured)> {
        let of_row = self.values.iter().filter(move |((other, class, _), _)| other == row && class.is_none());
        of_row.filter_map(move |((_, _, name), measured)| Some((metric.part_in(name)?, *measured)))
    }

    /// Returns all rows in table order: models in the order of [`ModelKind`], then other models by name; within a model
    /// by input and implementation; the published variant first, other variants in the order of the records.
    pub(crate) fn rows(&self) -> Vec<RowKey> {
        let rows: BTreeSet<&RowKey> = self.values.keys().map(|(row, _, _)| row).collect();
        let mut rows: Vec<RowKey> = rows.into_iter().cloned().collect();
        // The sort is stable, so rows that compare equal stay in the order of their names.
        rows.sort_by_key(|row| {
            (
                ModelKind::rank(&row.model),
                row.model.clone(),
                row.input.clone(),
                row.implementation.clone(),
                variant_rank(row),
                self.variants.iter().position(|variant| *variant == row.variant),
            )
        });
        rows
    }

    /// Returns the minimum and maximum of a count over the accuracies of all rows.
    fn range(&self, count: impl Fn(&Measured) -> usize) -> Option<(usize, usize)> {
        let counts = || {
            let accuracies =
                self.values.iter().filter(|((_, class, metric), _)| class.is_none() && metric == Metric::ACCURACY.key);
            accuracies.map(|(_, measured)| count(measured))
        };
        Some((counts().min()?, counts().max()?))
    }

    /// Returns the minimum and maximum number of seeds over the accuracies of all rows.
    pub(crate) fn seeds(&self) -> Option<(usize, usize)> {
        self.range(|measured| measured.seeds)
    }

    /// Returns the minimum and maximum number of fits (seeds times folds) over the accuracies of all rows.
    pub(crate) fn fits(&self) -> Option<(usize, usize)> {
        self.range(|measured| measured.fits)
    }
}

fn variant_rank(row: &RowKey) -> usize {
    match &*current_variant(&row.variant) {
        "random_split" => 0,
        "without_shortcuts" => 1,
        _ => 2,
    }
}

//! Records of several seeds put together: what every table and every tolerance is made from.

use std::collections::{BTreeMap, BTreeSet};

use super::ReportError;
use etcbench_evaluate::{Metric, Summary};
use etcbench_experiment::{Record, RunKey};
use etcbench_model::{Implementation, ModelKind};

/// The records of one experiment on one dataset in one size: they may stand in one table.
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
    /// The row that a fit belongs to.
    pub(crate) fn of(key: &RunKey) -> Self {
        Self {
            model: key.model.clone(),
            input: key.input.clone(),
            implementation: key.implementation.clone(),
            variant: key.variant.clone(),
        }
    }

    /// Whether a fit belongs to the row.
    pub(crate) fn is_of(&self, key: &RunKey) -> bool {
        (&self.model, &self.input, &self.implementation, &self.variant)
            == (&key.model, &key.input, &key.implementation, &key.variant)
    }

    /// The model and what it reads; its implementation where it is not the usual one.
    pub(crate) fn model_name(&self) -> String {
        let Self { model, input, implementation, .. } = self;
        match self.is_default_implementation() {
            true => format!("{model} · {input}"),
            false => format!("{model} · {input} · {implementation}"),
        }
    }

    /// Whether its implementation is the usual one, which tables need not name.
    pub(crate) fn is_default_implementation(&self) -> bool {
        Implementation::is_default(&self.implementation)
    }
}

/// A value over seeds and folds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// Summary of the fits where the value is defined; none where it is undefined in all.
    pub summary: Option<Summary>,
    /// Seeds with a record, defined or not.
    pub seeds: usize,
    /// Fits with a record, defined or not: seeds times folds.
    pub fits: usize,
}

/// All records of one [`TableKey`], by row, class and metric.
#[derive(Debug, Default)]
pub(super) struct Aggregate {
    values: BTreeMap<(RowKey, Option<String>, String), Measured>,
    /// Classes in the order in which the records name them.
    pub classes: Vec<String>,
    /// Variants in the order in which the records name them, which is that of the experiment's file.
    pub variants: Vec<String>,
}

type Values = BTreeMap<(RowKey, Option<String>, String), BTreeMap<(u64, usize), Option<f64>>>;

/// Puts records together over seeds and folds. Records of confusion matrices, of tuning and of training
/// curves are left out.
///
/// # Errors
/// Two records of the same value.
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
                "{} of {} ({}, {}) class {} seed {} fold {} in {} {} {} is there twice; give each record once",
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
    /// A value; none where there is no record of it.
    pub(crate) fn get(&self, row: &RowKey, class: Option<&str>, metric: impl AsRef<str>) -> Option<Measured> {
        // The tuple's borrowed form cannot be looked up; tables are small.
        self.values.get(&(row.clone(), class.map(str::to_owned), metric.as_ref().to_owned())).copied()
    }

    /// The values of a metric that is of parts, by the names of the parts.
    pub(crate) fn of_parts<'a>(&'a self, row: &'a RowKey, metric: Metric) -> impl Iterator<Item = (&'a str, Measured)> {
        let of_row = self.values.iter().filter(move |((other, class, _), _)| other == row && class.is_none());
        of_row.filter_map(move |((_, _, name), measured)| Some((metric.part_in(name)?, *measured)))
    }

    /// All rows, in the order of tables: that of the table of models, then others by name; by input and
    /// implementation; the published variant first, others in the order of the records.
    pub(crate) fn rows(&self) -> Vec<RowKey> {
        let rows: BTreeSet<&RowKey> = self.values.keys().map(|(row, _, _)| row).collect();
        let mut rows: Vec<RowKey> = rows.into_iter().cloned().collect();
        // Stable, so that the order by name decides among the rest.
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

    /// The fewest and the most of something over the rows' accuracies.
    fn range(&self, count: impl Fn(&Measured) -> usize) -> Option<(usize, usize)> {
        let counts = || {
            let accuracies =
                self.values.iter().filter(|((_, class, metric), _)| class.is_none() && metric == Metric::ACCURACY.key);
            accuracies.map(|(_, measured)| count(measured))
        };
        Some((counts().min()?, counts().max()?))
    }

    /// The fewest and the most seeds of any row's accuracy.
    pub(crate) fn seeds(&self) -> Option<(usize, usize)> {
        self.range(|measured| measured.seeds)
    }

    /// The fewest and the most fits (seeds times folds) of any row's accuracy.
    pub(crate) fn fits(&self) -> Option<(usize, usize)> {
        self.range(|measured| measured.fits)
    }
}

fn variant_rank(row: &RowKey) -> usize {
    match row.variant.as_str() {
        "as_published" => 0,
        "without_shortcuts" => 1,
        _ => 2,
    }
}

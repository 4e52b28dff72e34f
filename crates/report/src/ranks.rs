//! Models ranked over several tables: mean ranks, Friedman's test and Nemenyi's critical difference (Demšar, 2006), as
//! shown in a critical-difference diagram.

use std::collections::BTreeMap;

use super::aggregate::{Aggregate, RowKey, TableKey, aggregate};
use super::{Cell, Column, ReportError, Table};
use etcbench_evaluate::{Direction, Friedman, Metric, friedman};
use etcbench_experiment::{Record, RunKey, with_current_variants};

/// A ranked model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RankedModel {
    /// Its name.
    pub model: String,
    /// What it reads.
    pub input: String,
    /// Its implementation.
    pub implementation: String,
}

/// The ranking of the models of one variant over several tables.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// The variant.
    pub variant: String,
    /// The metric; its direction is in the table of metrics.
    pub metric: String,
    /// The tables (`experiment on dataset, size`), one block of the test each.
    pub tables: Vec<String>,
    /// The models that every table has, in the same order as the mean ranks in `test`.
    pub models: Vec<RankedModel>,
    /// Models left out because a table lacks them.
    pub left_out: Vec<RankedModel>,
    /// Models with failed fits, each with the number of tables in which it therefore ranks last.
    pub failed: Vec<(RankedModel, usize)>,
    /// Mean ranks, Friedman's test, the critical difference.
    pub test: Friedman,
}

/// Returns whether a record is read to rank models by `metric`: its value over all classes, or that a fit failed.
pub(super) fn is_ranked(record: &Record, metric: Metric) -> bool {
    record.class.is_none() && (record.metric == metric.key || Metric::FAILED.part_in(&record.metric).is_some())
}

/// Returns the records with today's names of variants, table by table.
fn current_by_table(records: &[Record]) -> Vec<Record> {
    let mut tables: BTreeMap<[&str; 3], Vec<Record>> = BTreeMap::new();
    for record in records {
        let RunKey { experiment, dataset, size, .. } = &record.key;
        tables.entry([experiment, dataset, size]).or_default().push(record.clone());
    }
    tables.into_values().flat_map(|records| with_current_variants(&records).into_owned()).collect()
}

/// Ranks the models of every variant over the tables in `records` by the mean of `metric` over seeds and folds. A model
/// with a failed fit in a table ranks last there, whatever its other fits reached: a mean over the fits that survived
/// would reward failing where it is hard. Skips variants with fewer than two tables, or fewer than two models that all
/// tables have.
///
/// # Errors
/// Two records for the same value.
pub fn rankings(records: &[Record], metric: &str) -> Result<Vec<Ranking>, ReportError> {
    // Friedman's test treats larger values as better.
    let lower_is_better = Metric::named(metric).is_some_and(|metric| metric.direction == Direction::Lower);
    let sign = if lower_is_better { -1.0 } else { 1.0 };
    let tables = aggregate(&current_by_table(records))?;
    let mut variants: Vec<String> = Vec::new();
    for row in tables.values().flat_map(Aggregate::rows) {
        if !variants.contains(&row.variant) {
            variants.push(row.variant);
        }
    }
    let mut all = Vec::new();
    for variant in variants {
        let mut blocks: Vec<(&TableKey, BTreeMap<RankedModel, f64>)> = Vec::new();
        let mut models: Vec<RankedModel> = Vec::new();
        for (key, table) in &tables {
            let mut values = BTreeMap::new();
            for row in table.rows().into_iter().filter(|row| row.variant == variant) {
                let has_failed = table.of_parts(&row, Metric::FAILED).next().is_some();
                let mean =
                    table.get(&row, None, metric).and_then(|measured| measured.summary).map(|summary| summary.mean);
                let value = match (has_failed, mean) {
                    // Lower than any score, and equal among those that failed.
                    (true, _) => f64::NEG_INFINITY,
                    (false, Some(mean)) => sign * mean,
                    (false, None) => continue,
                };
                let RowKey { model, input, implementation, .. } = row;
                let model = RankedModel { model, input, implementation };
                if !models.contains(&model) {
                    models.push(model.clone());
                }
                values.insert(model, value);
            }
            // A table without any score ranks nothing.
            if values.values().any(|value| value.is_finite()) {
                blocks.push((key, values));
            }
        }
        let in_all = |model: &RankedModel| blocks.iter().all(|(_, values)| values.contains_key(model));
        let (models, left_out): (Vec<RankedModel>, Vec<RankedModel>) = models.into_iter().partition(in_all);
        if blocks.len() < 2 || models.len() < 2 {
            continue;
        }
        let values: Vec<Vec<f64>> =
            blocks.iter().map(|(_, values)| models.iter().map(|model| values[model]).collect()).collect();
        let failed_in =
            |model: &RankedModel| blocks.iter().filter(|(_, values)| values[model] == f64::NEG_INFINITY).count();
        let failed =
            models.iter().map(|model| (model.clone(), failed_in(model))).filter(|(_, tables)| *tables > 0).collect();
        let test = friedman(&values).map_err(|error| ReportError::Records(error.to_string()))?;
        let name = |key: &TableKey| format!("{} on {}, {}", key.experiment, key.dataset, key.size);
        let tables = blocks.iter().map(|(key, _)| name(key)).collect();
        all.push(Ranking { variant, metric: metric.to_owned(), tables, models, left_out, failed, test });
    }
    Ok(all)
}

/// Returns a ranking as a table, the best mean rank first.
pub fn ranking_table(ranking: &Ranking) -> Table {
    let Ranking { variant, metric, tables, models, left_out, failed, test } = ranking;
    let mut table = Table {
        title: format!("Mean ranks by {metric} over {} tables ({variant})", tables.len()),
        columns: vec![
            Column::text("model", "model"),
            Column::text("input", "input"),
            Column::text("implementation", "implementation").machine_only(),
            Column::number("mean_rank", "mean rank"),
            Column::number("critical_difference", "critical difference").machine_only(),
            Column::text("groups", "groups"),
        ],
        ..Table::default()
    };
    let groups = test.groups();
    for (place, model) in test.order().into_iter().enumerate() {
        let letters: Vec<String> = groups
            .iter()
            .enumerate()
            .filter(|(_, group)| group.contains(&place))
            .map(|(group, _)| (group + 1).to_string())
            .collect();
        let RankedModel { model: name, input, implementation } = &models[model];
        let mut row: Vec<Cell> = [name, input, implementation].map(|text| Cell::Text(text.clone())).into();
        row.push(Cell::number(test.mean_ranks[model], 2));
        row.push(Cell::number(test.critical_difference, 2));
        row.push(Cell::Text(letters.join(" ")));
        table.rows.push(row);
    }
    let friedman = match test.statistic {
        Some(statistic) => format!("Friedman's chi-squared {statistic:.2}, p = {:.2e}", test.p_value),
        None => "all tables rank all models equally".to_owned(),
    };
    table.notes.push(format!(
        "Rank 1 is the best. {friedman}; critical difference {:.2} (Nemenyi, 5 %): models of one group are closer than that \
         and cannot be told apart over {} tables.",
        test.critical_difference,
        tables.len()
    ));
    table.notes.push(format!("Tables: {}.", tables.join("; ")));
    if !failed.is_empty() {
        let named = |(model, tables): &(RankedModel, usize)| format!("{} ({}) in {tables}", model.model, model.input);
        let names: Vec<String> = failed.iter().map(named).collect();
        table.notes.push(format!("Last in a table in which one of its fits failed: {}.", names.join(", ")));
    }
    if !left_out.is_empty() {
        let names = left_out.iter().map(|model| format!("{} ({})", model.model, model.input));
        table
            .notes
            .push(format!("Left out, because not every table has them: {}.", names.collect::<Vec<_>>().join(", ")));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::tables::tests::record;
    use super::*;

    #[test]
    fn models_are_ranked_over_tables_within_a_variant() {
        let mut records = Vec::new();
        for (experiment, values) in
            [("table1", [0.9, 0.8, 0.7]), ("table2", [0.95, 0.9, 0.1]), ("table3", [0.6, 0.7, 0.5])]
        {
            for (model, value) in ["knn", "svm", "random_forest"].into_iter().zip(values) {
                for seed in 0..2 {
                    let mut one = record("random_split", model, seed, None, "macro_f1", value + seed as f64 / 100.0);
                    one.key.experiment = experiment.to_owned();
                    records.push(one);
                }
            }
        }
        let mut alone = record("random_split", "majority", 0, None, "macro_f1", 0.1);
        alone.key.experiment = "table1".to_owned();
        records.push(alone);
        // One table of another variant ranks nothing.
        records.push(record("without_shortcuts", "svm", 0, None, "macro_f1", 0.5));
        records.push(record("without_shortcuts", "knn", 0, None, "macro_f1", 0.5));
        let rankings = rankings(&records, "macro_f1").unwrap();
        assert_eq!(rankings.len(), 1);
        let table = ranking_table(&rankings[0]).to_markdown();
        let expected = "\
**Mean ranks by macro_f1 over 3 tables (random_split)**

| model         | input | mean rank | groups |
| ------------- | ----- | --------: | ------ |
| knn           | bytes |      1.33 | 1      |
| svm           | bytes |      1.67 | 1      |
| random_forest | bytes |      3.00 | 1      |
";
        assert!(table.starts_with(expected), "{table}");
        assert!(table.contains("Friedman's chi-squared 4.67"), "{table}");
        assert!(table.contains("Left out, because not every table has them: majority (bytes)."), "{table}");
        assert!(super::rankings(&records, "no_metric").unwrap().is_empty());
        // The best of table 1, one of whose fits failed there, is last there instead; so is one whose fits all failed.
        let mut failing = records.clone();
        let mut failure = record("random_split", "knn", 2, None, "failed_crashed", 1.0);
        failure.key.experiment = "table1".to_owned();
        failing.push(failure.clone());
        failing.retain(|record| (record.key.experiment.as_str(), record.key.model.as_str()) != ("table1", "svm"));
        failure.key.model = "svm".to_owned();
        failing.push(failure);
        // As the report and the leaderboard ask, which read only what ranks.
        let mut class = record("random_split", "svm", 0, Some("a"), "macro_f1", 0.9);
        class.key.experiment = "table1".to_owned();
        failing.extend([class, record("random_split", "svm", 0, None, "accuracy", 0.9)]);
        let count = failing.len();
        failing.retain(|record| is_ranked(record, Metric::MACRO_F1));
        assert_eq!(failing.len(), count - 2);
        let ranking = &super::rankings(&failing, "macro_f1").unwrap()[0];
        let ranks = ["knn", "svm", "random_forest"]
            .map(|name| ranking.test.mean_ranks[ranking.models.iter().position(|model| model.model == name).unwrap()]);
        assert_eq!(ranks, [(2.5 + 1.0 + 2.0) / 3.0, (2.5 + 2.0 + 1.0) / 3.0, (1.0 + 3.0 + 3.0) / 3.0]);
        assert!(super::rankings(&failing, "no_metric").unwrap().is_empty());
        // Tables of which some have the variant's former name.
        let mut former = records.clone();
        let of_table = |record: &&mut Record| record.key.experiment == "table2";
        former.iter_mut().filter(of_table).for_each(|record| record.key.variant = "as_published".to_owned());
        let of_former = &super::rankings(&former, "macro_f1").unwrap();
        assert_eq!((of_former.len(), &of_former[0].tables), (1, &rankings[0].tables));
        assert_eq!(of_former[0].test.mean_ranks, rankings[0].test.mean_ranks);
        let table = ranking_table(ranking).to_markdown();
        assert!(table.contains("one of its fits failed: svm (bytes) in 1, knn (bytes) in 1."), "{table}");
        // For a loss, the smallest value is the best.
        for record in &mut records {
            record.metric = "log_loss".to_owned();
        }
        let by_loss = &super::rankings(&records, "log_loss").unwrap()[0];
        let best = &by_loss.models[by_loss.test.order()[0]];
        assert_eq!((best.model.as_str(), by_loss.test.mean_ranks[by_loss.test.order()[0]]), ("random_forest", 1.0));
    }
}

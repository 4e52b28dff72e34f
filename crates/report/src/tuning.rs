//! Tables in addition to those of the paper: the settings that tuning tried and chose, and the agreement of two
//! implementations.

use std::collections::BTreeMap;

use super::aggregate::TableKey;
use super::cell_text::significant_decimals;
use super::{Cell, Column, Table};
use etcbench_evaluate::{Metric, Summary};
use etcbench_experiment::{Agreement, Record};
use etcbench_model::ModelKind;

/// Scores and choices of one setting.
#[derive(Default)]
struct Tried {
    /// Its position among the settings of its model.
    order: usize,
    scores: Vec<Option<f64>>,
    chosen: usize,
}

/// Returns tables of all settings tried, with their scores on the validation part and how often each was chosen; one
/// table per experiment, dataset and size, none if nothing was tuned.
pub(super) fn tuning_tables(records: &[Record]) -> Vec<Table> {
    type Settings = BTreeMap<(usize, String, String, String), BTreeMap<String, Tried>>;
    let mut tables: BTreeMap<TableKey, Settings> = BTreeMap::new();
    for record in records {
        let Some(setting) = &record.setting else { continue };
        let key = &record.key;
        let table =
            TableKey { experiment: key.experiment.clone(), dataset: key.dataset.clone(), size: key.size.clone() };
        let row = (ModelKind::rank(&key.model), key.model.clone(), key.input.clone(), key.variant.clone());
        let settings = tables.entry(table).or_default().entry(row).or_default();
        let order = settings.len();
        let tried = settings.entry(setting.clone()).or_insert_with(|| Tried { order, ..Tried::default() });
        if record.metric == Metric::TUNING_MACRO_F1.key {
            tried.scores.push(record.value);
        } else if record.metric == Metric::TUNING_CHOSEN_MACRO_F1.key {
            tried.chosen += 1;
        }
    }
    tables.into_iter().map(|(key, settings)| tuning_table(&key, settings)).collect()
}

fn tuning_table(key: &TableKey, settings: BTreeMap<(usize, String, String, String), BTreeMap<String, Tried>>) -> Table {
    let mut table = Table {
        title: format!("{}: tuning on {}, size {}", key.experiment, key.dataset, key.size),
        columns: vec![
            Column::text("model", "model"),
            Column::text("input", "input"),
            Column::text("variant", "variant"),
            Column::text("setting", "setting"),
            Column::metric(Metric::VALIDATION_MACRO_F1),
            Column::number("chosen", "chosen"),
            Column::number("fits", "of"),
        ],
        notes: vec![
            "Validation F1 is the macro F1 on the validation part, mean±sample standard deviation over seeds and folds; \
             the test part was not looked at. The first setting of a model is the file's own."
                .to_owned(),
        ],
        ..Table::default()
    };
    for ((_, model, input, variant), settings) in settings {
        let mut settings: Vec<(String, Tried)> = settings.into_iter().collect();
        settings.sort_by_key(|(_, tried)| tried.order);
        for (setting, tried) in settings {
            let defined: Vec<f64> = tried.scores.iter().copied().flatten().collect();
            let footnote = (defined.len() < tried.scores.len())
                .then(|| table.footnote("training left the finite numbers in some fits, which are not in the mean"));
            let score = match Summary::of(&defined) {
                Some(summary) => Cell::summary(&summary, 3).noted(footnote),
                None => Cell::Undefined(footnote),
            };
            let mut cells: Vec<Cell> = [&model, &input, &variant, &setting].map(|text| Cell::Text(text.clone())).into();
            cells.push(score);
            cells.extend([Cell::count(tried.chosen), Cell::count(tried.scores.len())]);
            table.rows.push(cells);
        }
    }
    table
}

/// Returns a table that compares the fast with the reference implementation: agreement of predictions, macro F1 and
/// times.
pub fn agreement_table(results: &[Agreement]) -> Table {
    let failed = results.iter().filter(|result| !result.holds()).count();
    let f1 = Metric::MACRO_F1;
    let mut table = Table {
        title: format!("Fast against reference: {failed} of {} models out of bounds", results.len()),
        columns: vec![
            Column::text("model", "model"),
            Column::text("input", "input"),
            Column::number(Metric::TRAINING_FLOWS.key, "fitted on"),
            Column::number(Metric::TEST_FLOWS.key, "predicted"),
            Column::number("agreement", "same (%)"),
            Column::number("bound", "at least (%)"),
            Column::number(&format!("fast_{}", f1.key), &format!("{} fast", f1.heading)),
            Column::number(&format!("reference_{}", f1.key), &format!("{} reference", f1.heading)),
            Column::number(&format!("{}_bound", f1.key), "apart at most"),
            Column::number("fast_seconds", "fast (s)"),
            Column::number("reference_seconds", "reference (s)"),
            Column::text("verdict", "verdict"),
        ],
        notes: vec!["Times are those of the fit and of predicting the test flows.".to_owned()],
        ..Table::default()
    };
    for result in results {
        let seconds = |measured: &etcbench_experiment::AgreementPart| {
            let seconds = measured.fit.wall_seconds + measured.predict.wall_seconds;
            Cell::number(seconds, significant_decimals(seconds))
        };
        let mut cells = vec![Cell::Text(result.model.clone()), Cell::Text(result.input.clone())];
        cells.extend([Cell::count(result.training_flows), Cell::count(result.test_flows)]);
        cells.push(result.agreement.map_or(Cell::Absent, |share| Cell::number(100.0 * share, 2)));
        cells.push(Cell::number(100.0 * result.bound.agreement, 0));
        cells.push(Cell::number(result.fast.macro_f1, 3));
        cells.push(result.reference.as_ref().map_or(Cell::Absent, |reference| Cell::number(reference.macro_f1, 3)));
        cells.push(Cell::number(result.bound.macro_f1, 2));
        cells.push(seconds(&result.fast));
        cells.push(result.reference.as_ref().map_or(Cell::Absent, seconds));
        cells.push(Cell::Text(match &result.reference {
            Err(_) => "the reference refused".to_owned(),
            Ok(_) if result.holds() => "agree".to_owned(),
            Ok(_) => "OUT OF BOUNDS".to_owned(),
        }));
        table.rows.push(cells);
        let note = format!("{}: {}", result.model, result.bound.reason);
        if !table.notes.contains(&note) {
            table.notes.push(note);
            if let Some(limit) = result.reference_limit {
                table.notes.push(format!("{}: the reference refuses over {limit} training flows", result.model));
            }
        }
        if let Err(problem) = &result.reference {
            table.notes.push(format!("{} ({}): {problem}", result.model, result.input));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::tables::tests::record;
    use super::*;

    #[test]
    fn tuning_shows_every_setting_and_how_often_it_was_chosen() {
        let mut records = vec![record("random_split", "svm", 0, None, "accuracy", 0.5)];
        assert!(tuning_tables(&records).is_empty());
        for (seed, scores) in [(0, [0.5, 0.75]), (1, [0.7, 0.25])] {
            for (setting, score) in ["cost = 10.0", "cost = 1.0"].iter().zip(scores) {
                let mut record = record("random_split", "svm", seed, None, "tuning_macro_f1", score);
                record.setting = Some((*setting).to_owned());
                records.push(record.clone());
                if score >= 0.7 {
                    record.metric = "tuning_chosen_macro_f1".to_owned();
                    records.push(record);
                }
            }
        }
        let expected = "\
**table3: tuning on iscxvpn2016, size full**

| model | input | variant      | setting     | validation F1 | chosen |  of |
| ----- | ----- | ------------ | ----------- | ------------: | -----: | --: |
| svm   | bytes | random_split | cost = 10.0 |   0.600±0.141 |      1 |   2 |
| svm   | bytes | random_split | cost = 1.0  |   0.500±0.354 |      1 |   2 |
";
        let tables = tuning_tables(&records);
        assert!(tables[0].to_markdown().starts_with(expected), "{}", tables[0].to_markdown());
        // They do not count as measurements on the test set.
        let models = super::super::tables::tables(&records, etcbench_experiment::TableLayout::Models, &[]).unwrap();
        assert!(models[0].to_markdown().contains("One seed."), "{}", models[0].to_markdown());
    }
}

//! The paired tests of a run as a readable table: each model against the best, or all pairs.

use std::path::Path;

use super::{Cell, Column, ReportError, Table, file_error};
use etcbench_evaluate::Metric;
use etcbench_experiment::{Comparison, PairedTest};

/// A p-value below this is significant.
const LEVEL: f64 = 0.05;

/// The smallest number of pairs for which Wilcoxon's test can reach a p-value below [`LEVEL`]: 2 / 2^6 = 0.031.
const MINIMUM_WILCOXON_PAIRS: usize = 6;

/// Reads a run's `comparisons.csv`.
///
/// # Errors
/// The file cannot be read, or a line is not a comparison.
pub(super) fn read_comparisons(path: &Path) -> Result<Vec<Comparison>, ReportError> {
    let mut reader = csv::Reader::from_path(path).map_err(|problem| file_error(path, problem))?;
    reader.deserialize().collect::<Result<_, _>>().map_err(|problem| file_error(path, problem))
}

/// A model of a variant: name, input and implementation.
type Model<'a> = (&'a str, &'a str, &'a str);

/// All tests of one pair of models, with the order in which the table shows the two.
struct Pair<'a> {
    variant: &'a str,
    first: Model<'a>,
    second: Model<'a>,
    tests: Vec<&'a Comparison>,
}

impl Pair<'_> {
    fn tests(&self, test: PairedTest) -> impl Iterator<Item = &Comparison> {
        self.tests.iter().copied().filter(move |comparison| comparison.test == test)
    }

    /// Returns the mean difference, first minus second.
    fn difference(&self, test: PairedTest) -> Option<f64> {
        let differences: Vec<f64> = self.tests(test).map(|test| test.first_value - test.second_value).collect();
        (!differences.is_empty()).then(|| differences.iter().sum::<f64>() / differences.len() as f64)
    }

    fn turned(self) -> Self {
        Self { first: self.second, second: self.first, ..self }
    }

    fn sign(&self) -> f64 {
        match self.tests.first() {
            Some(test) if first_of(test) == self.first => 1.0,
            _ => -1.0,
        }
    }
}

fn first_of(test: &Comparison) -> Model<'_> {
    (&test.first_model, &test.first_input, &test.first_implementation)
}

fn second_of(test: &Comparison) -> Model<'_> {
    (&test.second_model, &test.second_input, &test.second_implementation)
}

/// Returns a table with a row per pair of models and its tests. With `against_best`, only the pairs that include the
/// model with the highest mean accuracy of its variant, which is shown second. P-values are corrected for all pairs in
/// either case. Returns `None` if nothing was compared.
pub(super) fn comparison_table(comparisons: &[Comparison], against_best: bool) -> Option<Table> {
    let mut pairs: Vec<Pair<'_>> = Vec::new();
    for test in comparisons {
        let (variant, first, second) = (test.variant.as_str(), first_of(test), second_of(test));
        match pairs.iter_mut().find(|pair| (pair.variant, pair.first, pair.second) == (variant, first, second)) {
            Some(pair) => pair.tests.push(test),
            None => pairs.push(Pair { variant, first, second, tests: vec![test] }),
        }
    }
    if pairs.is_empty() {
        return None;
    }
    if against_best {
        let best = best_models(comparisons);
        pairs = pairs
            .into_iter()
            .filter_map(|pair| {
                let best = best.iter().find(|(variant, _)| *variant == pair.variant)?.1;
                match (pair.first == best, pair.second == best) {
                    (true, _) => Some(pair.turned()),
                    (_, true) => Some(pair),
                    _ => None,
                }
            })
            .collect();
    }
    let fits = pairs[0].tests(PairedTest::Mcnemar).count();
    let difference = |metric: Metric| Column::number(&format!("{}_difference", metric.key), metric.label);
    let is_informative = fits >= MINIMUM_WILCOXON_PAIRS;
    let wilcoxon = Column::number("wilcoxon_adjusted_p_value", "Wilcoxon p");
    let mut table = Table {
        title: "Whether the models differ".to_owned(),
        columns: vec![
            Column::text("variant", "variant"),
            Column::text("first_model", "model"),
            Column::text("first_input", "input"),
            Column::text("first_implementation", "implementation").machine_only(),
            Column::text("second_model", if against_best { "against the best" } else { "against" }),
            Column::text("second_input", "its input"),
            Column::text("second_implementation", "its implementation").machine_only(),
            difference(Metric::ACCURACY),
            Column::number("mcnemar_significant", "McNemar < 0.05"),
            Column::number("mcnemar_adjusted_p_value", "largest p"),
            difference(Metric::MACRO_F1),
            // Over few test sets its p-value cannot be small, so only CSV files include it.
            if is_informative { wilcoxon } else { wilcoxon.machine_only() },
            Column::number("corrected_t_adjusted_p_value", "corrected t p"),
        ],
        ..Table::default()
    };
    for pair in &pairs {
        let significant = pair.tests(PairedTest::Mcnemar).filter(|test| test.adjusted_p_value < LEVEL).count();
        let largest = pair.tests(PairedTest::Mcnemar).map(|test| test.adjusted_p_value).reduce(f64::max);
        let mut row = vec![Cell::Text(pair.variant.to_owned())];
        for (model, input, implementation) in [pair.first, pair.second] {
            row.extend([model, input, implementation].map(|text| Cell::Text(text.to_owned())));
        }
        row.push(Cell::number_or_absent(pair.difference(PairedTest::Mcnemar).map(|value| value * pair.sign()), 3));
        row.push(Cell::count(significant));
        row.push(largest.map_or(Cell::Absent, Cell::PValue));
        row.push(Cell::number_or_absent(pair.difference(PairedTest::Wilcoxon).map(|value| value * pair.sign()), 3));
        for test in [PairedTest::Wilcoxon, PairedTest::CorrectedT] {
            row.push(pair.tests(test).next().map_or(Cell::Absent, |test| Cell::PValue(test.adjusted_p_value)));
        }
        table.rows.push(row);
    }
    // With one test set, the columns of tests over several are empty.
    for place in 0..table.columns.len() {
        if table.rows.iter().all(|row| row[place] == Cell::Absent) {
            table.columns[place].machine_only = true;
        }
    }
    let test_sets = if fits == 1 { "one test set".to_owned() } else { format!("{fits} test sets") };
    table.notes.push(format!(
        "Differences are the model's value less that of the other, means over {test_sets}. McNemar's exact test on the flows \
         of each test set: in how many p < 0.05, and the largest p. All p-values are corrected by Holm's method for all \
         pairs of models of the variant."
    ));
    if fits > 1 && !is_informative {
        table.notes.push(
            "The corrected resampled t-test (Nadeau and Bengio, 2003) is over all test sets, and allows for the flows that they \
             share. Wilcoxon's signed-rank test says nothing over so few; the CSV file has it."
                .to_owned(),
        );
    } else if fits > 1 {
        table.notes.push(format!(
            "Wilcoxon's signed-rank test over {fits} test sets cannot give a p-value below {} before correction; the test \
             sets share flows, so it finds differences more readily than new data would. The corrected resampled t-test \
             (Nadeau and Bengio, 2003) allows for what they share.",
            0.5_f64.powi(i32::try_from(fits).unwrap_or(i32::MAX) - 1)
        ));
    }
    Some(table)
}

/// Returns the model with the highest mean accuracy of each variant, the first if several are equal.
fn best_models(comparisons: &[Comparison]) -> Vec<(&str, Model<'_>)> {
    let mut accuracies: Vec<(&str, Model<'_>, Vec<f64>)> = Vec::new();
    for test in comparisons.iter().filter(|test| test.test == PairedTest::Mcnemar) {
        for (model, value) in [(first_of(test), test.first_value), (second_of(test), test.second_value)] {
            let variant = test.variant.as_str();
            match accuracies.iter_mut().find(|(other, known, _)| (*other, *known) == (variant, model)) {
                Some((.., values)) => values.push(value),
                None => accuracies.push((variant, model, vec![value])),
            }
        }
    }
    let mut best: Vec<(&str, Model<'_>, f64)> = Vec::new();
    for (variant, model, values) in accuracies {
        // The accuracy of a fit is repeated once per pair, equally often for all models, so the mean is unaffected.
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        match best.iter_mut().find(|(other, ..)| *other == variant) {
            Some(known) if mean > known.2 => *known = (variant, model, mean),
            Some(_) => {}
            None => best.push((variant, model, mean)),
        }
    }
    best.into_iter().map(|(variant, model, _)| (variant, model)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(test: PairedTest, seed: Option<u64>, pair: [&str; 2], values: [f64; 2], p_value: f64) -> Comparison {
        Comparison {
            variant: "random_split".to_owned(),
            test,
            metric: "accuracy".to_owned(),
            seed,
            fold: seed.map(|_| 0),
            first_model: pair[0].to_owned(),
            first_input: "bytes".to_owned(),
            first_implementation: "fast".to_owned(),
            second_model: pair[1].to_owned(),
            second_input: "bytes".to_owned(),
            second_implementation: "fast".to_owned(),
            first_value: values[0],
            second_value: values[1],
            for_first: 3.0,
            for_second: 1.0,
            p_value: p_value / 3.0,
            adjusted_p_value: p_value,
        }
    }

    #[test]
    fn the_best_stands_second_and_differences_keep_their_sign() {
        let mut all = Vec::new();
        for seed in 0..2 {
            let p_value = if seed == 0 { 0.01 } else { 0.2 };
            all.push(test(PairedTest::Mcnemar, Some(seed), ["svm", "knn"], [0.9, 0.8], p_value));
            all.push(test(PairedTest::Mcnemar, Some(seed), ["svm", "random_forest"], [0.9, 0.95], 0.001));
            all.push(test(PairedTest::Mcnemar, Some(seed), ["knn", "random_forest"], [0.8, 0.95], 0.001));
        }
        all.push(test(PairedTest::Wilcoxon, None, ["svm", "random_forest"], [0.85, 0.9], 0.5));
        let table = comparison_table(&all, true).unwrap();
        assert_eq!(
            table.to_markdown().lines().skip(2).take(4).collect::<Vec<_>>().join("\n"),
            "\
| variant      | model | input | against the best | its input | accuracy | McNemar < 0.05 | largest p | macro F1 |
| ------------ | ----- | ----- | ---------------- | --------- | -------: | -------------: | --------: | -------: |
| random_split | svm   | bytes | random_forest    | bytes     |   -0.050 |              2 |     0.001 |   -0.050 |
| random_split | knn   | bytes | random_forest    | bytes     |   -0.150 |              2 |     0.001 |          |"
        );
        assert!(table.notes[1].contains("says nothing over so few"), "{:?}", table.notes);
        assert!(table.to_csv().unwrap().contains("wilcoxon_adjusted_p_value"));
        for seed in 2..6 {
            all.push(test(PairedTest::Mcnemar, Some(seed), ["svm", "random_forest"], [0.9, 0.95], 0.001));
        }
        let six = comparison_table(&all, true).unwrap();
        assert!(six.to_markdown().contains("| Wilcoxon p |") && six.notes[1].contains("below 0.03125 before"));
        all.truncate(7);
        let all_pairs = comparison_table(&all, false).unwrap();
        assert_eq!(all_pairs.rows.len(), 3);
        assert_eq!(all_pairs.rows[0][8..10], [Cell::count(1), Cell::PValue(0.2)]);
        // If the best model is the first of a pair, the pair is swapped.
        all.retain(|test| test.second_model != "random_forest");
        let table = comparison_table(&all, true).unwrap();
        assert_eq!(table.rows[0][1], Cell::Text("knn".to_owned()));
        assert!(matches!(table.rows[0][7], Cell::Number { value, .. } if (value + 0.1).abs() < 1e-12));
        assert_eq!(comparison_table(&[], true), None);
    }

    #[test]
    fn a_line_that_is_no_comparison_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("comparisons.csv");
        std::fs::write(&path, "variant,test\nrandom_split,chance\n").unwrap();
        assert!(read_comparisons(&path).unwrap_err().to_string().contains("comparisons.csv: CSV"));
    }
}

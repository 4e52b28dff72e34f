//! The declarative format: the contents of an experiment file, and how base files, a size, a variant and `--set` are
//! combined. Three passes: `parse` reads the files, `resolve` merges them into one table per variant, and `validate`
//! converts these to typed values.
//!
//! Later layers take precedence: the files named by `extends` in order, the experiment file, their keys under
//! `[on.DATASET]` for the datasets in use, the size (`experiments/sizes/NAME.toml`) and its `[on.DATASET]`, the
//! variant's keys, those of a sweep's point, then every `--set`.

mod parse;
mod resolve;
pub(super) mod validate;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::evaluation::EvaluationOptions;
use super::ladder::{LadderOptions, LadderOverrides};
use super::tune::TuneOptions;
use etcbench_feature::{FlowpicOptions, PacketColumns, Selection, SequenceOptions, TokenOptions};
use etcbench_flow::FlowOptions;
use etcbench_model::ModelSpec;
use etcbench_split::SplitOptions;
use etcbench_storage::declarative::DeclarativeError;

/// Options given on the command line in addition to the experiment file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Overrides {
    /// Datasets to use instead of the file's.
    pub data: Vec<String>,
    /// The size: the name of a file in `experiments/sizes`; by default, the sizes in the file itself.
    pub size: Option<String>,
    /// `key=value` assignments, applied last.
    pub assignments: Vec<String>,
    /// Seeds to use instead of the file's.
    pub seeds: Option<Vec<u64>>,
    /// Models to use instead of the file's.
    pub models: Vec<String>,
    /// Restricts the run to these variants of the file, or values of a sweep (`feature.packets=4`); all if empty.
    pub variants: Vec<String>,
    /// The rungs of a ladder to use instead of the file's variants; `None` to run the experiment as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ladder: Option<LadderOverrides>,
}

impl Overrides {
    /// Returns the overrides as command-line options; a ladder's rungs belong to a separate subcommand.
    pub fn as_options(&self) -> Vec<String> {
        let mut options: Vec<String> = self.data.iter().map(|name| format!("--data {name}")).collect();
        options.extend(self.size.iter().map(|size| format!("--size {size}")));
        options.extend(self.assignments.iter().map(|assignment| format!("--set {assignment}")));
        let seeds = |seeds: &Vec<u64>| seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        options.extend(self.seeds.as_ref().map(|list| format!("--seeds {}", seeds(list))));
        for (option, list) in [("--models", &self.models), ("--variants", &self.variants)] {
            if !list.is_empty() {
                options.push(format!("{option} {}", list.join(",")));
            }
        }
        options
    }

    /// Returns whether results differ from those of the experiment at a named size on a dataset, and so must not
    /// replace them.
    pub fn change_results(&self) -> bool {
        let ladder = self.ladder.as_ref().is_some_and(|ladder| *ladder != LadderOverrides::default());
        !self.assignments.is_empty()
            || self.seeds.is_some()
            || !self.models.is_empty()
            || !self.variants.is_empty()
            || ladder
    }
}

/// A resolved experiment: every variant with every key.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// The experiment's name: the file's stem, such as `table2`.
    pub name: String,
    /// One line for the captions of tables.
    pub title: String,
    /// The table layout, after one of the paper's tables: 1 (models as rows) or 2 (classes as rows).
    pub layout: TableLayout,
    /// Names of the datasets.
    pub datasets: Vec<String>,
    /// `full`, or the name of the size.
    pub size: String,
    /// The seeds, one run each.
    pub seeds: Vec<u64>,
    /// Tuning options; `None` if nothing is tuned.
    pub tune: Option<TuneOptions>,
    /// Evaluations of fitted models in addition to the test flows.
    pub evaluation: EvaluationOptions,
    /// The ladder whose rungs are the variants; `None` if the experiment is run as it is. Rungs for which the data
    /// cannot be divided are left out, and the others are run.
    pub ladder: Option<LadderOptions>,
    /// The variants, in the file's order; at least one.
    pub variants: Vec<Variant>,
    /// Variants of a ladder in which none of the models can be fitted, with the reason.
    pub left_out: Vec<(String, String)>,
    /// The whole experiment as TOML, for provenance and hashing.
    pub resolved: toml::Table,
}

/// The rows of a table.
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
    /// Its name; `default` if the file has no variants.
    pub name: String,
    /// Selection of flows, and their classes.
    pub selection: Selection,
    /// Where flows begin and end.
    pub flow: FlowOptions,
    /// The byte tokens extracted from each flow.
    pub feature: TokenOptions,
    /// The packet sequences for `input = "sequences"`.
    pub sequences: SequenceOptions,
    /// The FlowPics for `input = "flowpic"`.
    pub flowpic: FlowpicOptions,
    /// How flows are divided.
    pub split: SplitOptions,
    /// One entry per model and input.
    pub models: Vec<ModelSpec>,
    /// Whether any model reads packet sequences, with its own settings or with those to be tried.
    reads_sequences: bool,
    /// Whether any model reads FlowPics.
    reads_flowpic: bool,
    /// Whether any model reads packet times.
    pub(super) reads_packet_times: bool,
}

impl Variant {
    /// Returns the packet sequences, if a model reads them.
    pub(super) fn used_sequences(&self) -> Option<&SequenceOptions> {
        self.reads_sequences.then_some(&self.sequences)
    }

    /// Returns the FlowPics, if a model reads them.
    pub(super) fn used_flowpic(&self) -> Option<&FlowpicOptions> {
        self.reads_flowpic.then_some(&self.flowpic)
    }

    /// Returns the features of packets in addition to byte tokens.
    pub(super) fn packet_columns(&self) -> PacketColumns<'_> {
        PacketColumns { sequences: self.used_sequences(), flowpic: self.used_flowpic() }
    }
}

/// Reads an experiment file with everything it extends, and applies `overrides`.
///
/// # Errors
/// A file is missing or not TOML, or it has unknown keys, values out of range, or duplicate seeds.
pub fn read_experiment(path: &Path, overrides: &Overrides) -> Result<Experiment, DeclarativeError> {
    let layers = parse::parse(path, overrides)?;
    validate::validate(resolve::resolve(layers, overrides)?)
}

#[cfg(test)]
mod tests {
    use etcbench_storage::declarative;

    use super::*;

    fn shipped(name: &str, data: &[&str]) -> Experiment {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments").join(format!("{name}.toml"));
        let data = data.iter().map(|&name| name.to_owned()).collect();
        read_experiment(&path, &Overrides { data, ..Overrides::default() }).unwrap()
    }

    #[test]
    fn every_experiment_that_comes_along_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
        let mut read = 0;
        for name in declarative::names(&folder) {
            let path = folder.join(format!("{name}.toml"));
            // Files without a title are only extended by others.
            if declarative::read_table(&path).unwrap().contains_key("title") {
                read_experiment(&path, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
                read += 1;
            }
        }
        assert!(read > 20, "{read}");
    }

    #[test]
    fn a_file_names_data_and_task_and_the_rest_has_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, "dataset.names = [\"mine\"]\nselection.label = \"application\"\n").unwrap();
        let experiment = read_experiment(&path, &Overrides::default()).unwrap();
        assert_eq!((experiment.title.as_str(), &experiment.seeds[..]), ("mine", &[0, 1, 2][..]));
        let models: Vec<&str> = experiment.variants[0].models.iter().map(|spec| spec.kind.name()).collect();
        assert_eq!(models, ["random_forest", "gradient_boosting", "majority"]);
        assert_eq!(experiment.resolved["title"].as_str(), Some("mine"));
        std::fs::write(&path, "title = \"Mine\"").unwrap();
        let problem = read_experiment(&path, &Overrides::default()).unwrap_err().to_string();
        assert!(problem.ends_with("missing keys `dataset`, `selection`"), "{problem}");
    }

    #[test]
    fn settings_for_a_dataset_apply_to_it_only() {
        let original = shipped("table2", &[]);
        assert_eq!(original.seeds.len(), 5);
        assert!(original.title.contains("ISCXVPN2016"));
        assert!(!original.resolved.contains_key("on"));
        assert!(original.resolved["selection"]["classes"].get("netflix").is_some());
        assert_eq!(shipped("table2", &["synth"]).resolved["selection"], original.resolved["selection"]);

        let lab = shipped("table2", &["lab"]);
        assert_eq!(lab.seeds, [0, 1, 2], "stated in paper.toml");
        assert!(!lab.title.contains("ISCX"));
        let classes = lab.resolved["selection"]["classes"].as_array().unwrap();
        assert_eq!(classes.len(), 10);
        assert!(lab.variants.iter().all(|variant| variant.selection != original.variants[0].selection));
        assert_eq!(lab.variants[0].feature, original.variants[0].feature);
    }

    #[test]
    fn a_resolved_experiment_reads_back_as_the_same() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments/table2.toml");
        let owned = |text: &str| text.to_owned();
        let assignments = ["split.method=k_fold", "feature.masks=[\"ports\"]", "model.svm.cost=3"].map(owned).to_vec();
        let overrides =
            Overrides { data: vec![owned("lab")], size: Some(owned("demo")), assignments, ..Overrides::default() };
        // Folds do not accept the shares set by the variants.
        assert!(read_experiment(&path, &overrides).is_err());
        let assignments =
            vec![owned("feature.masks=[\"ports\"]"), owned("split.validation=0.15"), owned("split.train=0.75")];
        let overrides = Overrides { assignments, ..overrides };
        let first = read_experiment(&path, &overrides).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let stored = folder.path().join("table2.toml");
        std::fs::write(&stored, first.resolved.to_string()).unwrap();
        let again = read_experiment(&stored, &Overrides::default()).unwrap();
        assert_eq!((&again.variants, &again.resolved, &again.seeds), (&first.variants, &first.resolved, &first.seeds));
    }

    #[test]
    fn a_ladder_keeps_the_share_for_validation_on_every_rung() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments/table2.toml");
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own.toml");
        let mut stored = read_experiment(&path, &Overrides::default()).unwrap().resolved;
        stored.insert("split".to_owned(), toml::toml! { validation = 0.25 }.into());
        std::fs::write(&own, stored.to_string()).unwrap();
        let overrides = Overrides { ladder: Some(LadderOverrides::default()), ..Overrides::default() };
        let experiment = read_experiment(&own, &overrides).unwrap();
        for variant in &experiment.variants {
            assert_eq!(variant.split.validation, Some(0.25), "{}", variant.name);
        }
        let time = experiment.variants.iter().find(|variant| variant.name == "time").unwrap();
        assert!((time.split.train.unwrap() - 0.65).abs() < 1e-9 && time.split.test == Some(0.1), "{:?}", time.split);
        stored.insert("split".to_owned(), toml::toml! { validation = 0.95 }.into());
        std::fs::write(&own, stored.to_string()).unwrap();
        let problem = read_experiment(&own, &overrides).unwrap_err().to_string();
        assert!(problem.contains("validation = 0.95 leaves nothing to train on"), "{problem}");
    }

    #[test]
    fn a_variant_is_selected_by_its_former_name_too() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments/table2.toml");
        let overrides = Overrides { variants: vec!["as_published".to_owned()], ..Overrides::default() };
        let experiment = read_experiment(&path, &overrides).unwrap();
        let names: Vec<&str> = experiment.variants.iter().map(|variant| variant.name.as_str()).collect();
        assert_eq!(names, ["random_split"]);

        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("own.toml");
        let text = experiment.resolved.to_string().replace("random_split", "as_published");
        std::fs::write(&copy, &text).unwrap();
        let experiment = read_experiment(&copy, &overrides).unwrap();
        assert_eq!(experiment.variants[0].name, "as_published", "a file's own variant keeps its name");

        // A file that overrides its base's variant under the former name.
        std::fs::write(folder.path().join("base.toml"), text.replace("as_published", "random_split")).unwrap();
        std::fs::write(&copy, "extends = \"base.toml\"\n[variant.as_published]\nfeature.packets = 2\n").unwrap();
        for overrides in [Overrides::default(), overrides] {
            let experiment = read_experiment(&copy, &overrides).unwrap();
            assert!(experiment.variants.iter().all(|variant| variant.name != "as_published"));
            assert_eq!(
                (experiment.variants[0].name.as_str(), experiment.variants[0].feature.packets),
                ("random_split", 2)
            );
        }
    }

    #[test]
    fn a_size_overrides_settings_for_a_dataset() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments/table1.toml");
        let overrides = Overrides { data: vec!["lab".into()], size: Some("demo".into()), ..Overrides::default() };
        let demo = read_experiment(&path, &overrides).unwrap();
        assert_eq!(demo.seeds, [0]);
        assert_eq!(demo.resolved["selection"]["maximum_flows_per_class"].as_integer(), Some(200));
    }
}

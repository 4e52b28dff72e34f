//! A cache entry is reused if and only if nothing that affects it has changed: changes every key of an experiment and
//! checks that exactly the stages that must run again do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::common::{Project, every_stage};
use etcbench::experiment::{self, Cache, Overrides, Recipe, Run, Settings};
use etcbench::model::Device;
use etcbench::progress::Silent;

/// The models that are trained again.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Again {
    /// Nothing.
    Nothing,
    /// One model, as rows name it.
    Model(&'static str),
    /// All models that read bytes.
    Bytes,
    /// All models that read sequences.
    Sequences,
    /// Everything.
    All,
}
use Again::{All, Bytes, Model, Nothing, Sequences};

/// Assignments, whether flows are assembled again, and what is trained again. An assignment of several keys has a
/// semicolon between them.
const CHANGES: &[(&str, bool, Again)] = &[
    ("title=\"Another\"", false, Nothing),
    ("layout=\"classes\"", false, Nothing),
    ("models=[\"knn\"]", false, Nothing),
    ("seeds=[1]", false, All),
    ("selection.minimum_packets=2", false, All),
    ("selection.maximum_flows_per_class=8", false, All),
    ("selection.classes=[\"two\", \"one\"]", false, All),
    ("selection.filter={ kind = [\"one\", \"two\"] }", false, All),
    ("flow.direction=\"unidirectional\"", true, All),
    ("flow.idle_timeout=100.0", true, All),
    ("flow.active_timeout=200.0", true, All),
    ("flow.activity_timeout=1.0", true, All),
    ("flow.kept_packets=30", true, All),
    ("flow.kept_bytes=300", true, All),
    ("flow.tunnels=\"inner\"", true, All),
    ("feature.packets=1", false, Bytes),
    ("feature.bytes=22", false, Bytes),
    ("feature.packet_start=\"after_ip_header\"", false, Bytes),
    ("feature.masks=[\"ports\"]", false, Bytes),
    ("feature.sequences.packets=25", true, All),
    ("feature.sequences.transformation=\"none\"", false, Sequences),
    ("feature.sequences.times=false", false, Sequences),
    ("feature.flowpic.resolution=20", false, Model("flowpic_cnn")),
    ("feature.flowpic.window=1.0", false, Model("flowpic_cnn")),
    ("feature.flowpic.packets=9", false, Model("flowpic_cnn")),
    ("split.method=\"temporal\"", false, All),
    ("split.train=0.6;split.validation=0.2;split.test=0.2", false, All),
    ("split.sampling=\"none\"", false, Nothing),
    ("model.svm.kernel=\"linear\"", false, Model("svm")),
    ("model.svm.cost=2.0", false, Model("svm")),
    ("model.svm.gamma=0.5", false, Model("svm")),
    ("model.svm.degree=2", false, Model("svm")),
    ("model.svm.coef0=1.0", false, Model("svm")),
    ("model.svm.class_weights=\"balanced\"", false, Model("svm")),
    ("model.svm.tolerance=0.01", false, Model("svm")),
    ("model.svm.maximum_iterations=1000", false, Model("svm")),
    ("model.svm.cache_mebibytes=50", false, Model("svm")),
    ("model.svm.probabilities=\"platt\"", false, Model("svm")),
    ("model.svm.standardise=false", false, Model("svm")),
    ("model.svm.log_scale=false", false, Model("svm")),
    ("model.svm.input=\"statistics\"", false, Model("svm")),
    ("model.svm.implementation=\"reference\"", false, Model("svm")),
    ("model.random_forest.trees=5", false, Model("random_forest")),
    ("model.random_forest.maximum_depth=3", false, Model("random_forest")),
    ("model.random_forest.minimum_samples_split=3", false, Model("random_forest")),
    ("model.random_forest.minimum_samples_leaf=2", false, Model("random_forest")),
    ("model.random_forest.maximum_features=\"log2\"", false, Model("random_forest")),
    ("model.random_forest.class_weights=\"balanced\"", false, Model("random_forest")),
    ("model.random_forest.out_of_bag=true", false, Model("random_forest")),
    ("model.random_forest.permutation_repeats=1", false, Model("random_forest")),
    ("model.knn.k=3", false, Model("knn")),
    ("model.knn.weights=\"distance\"", false, Model("knn")),
    ("model.knn.distance=\"manhattan\"", false, Model("knn")),
    ("model.knn.standardise=false", false, Model("knn")),
    ("model.knn.log_scale=false", false, Model("knn")),
    // The transformation alone was tried above.
    ("model.knn.scaling=\"transfer_learning\";feature.sequences.transformation=\"none\"", false, Model("knn")),
    ("model.gradient_boosting.rounds=4", false, Model("gradient_boosting")),
    ("model.gradient_boosting.depth=2", false, Model("gradient_boosting")),
    ("model.gradient_boosting.learning_rate=0.1", false, Model("gradient_boosting")),
    ("model.gradient_boosting.subsample=0.5", false, Model("gradient_boosting")),
    ("model.gradient_boosting.column_sample=0.5", false, Model("gradient_boosting")),
    ("model.gradient_boosting.l1=0.1", false, Model("gradient_boosting")),
    ("model.gradient_boosting.l2=2.0", false, Model("gradient_boosting")),
    ("model.gradient_boosting.minimum_child_weight=0.5", false, Model("gradient_boosting")),
    ("model.gradient_boosting.minimum_split_loss=0.1", false, Model("gradient_boosting")),
    ("model.gradient_boosting.maximum_bins=16", false, Model("gradient_boosting")),
    ("model.gradient_boosting.early_stopping_rounds=2", false, Model("gradient_boosting")),
    ("model.logistic_regression.l2=2.0", false, Model("logistic_regression")),
    ("model.logistic_regression.standardise=false", false, Model("logistic_regression")),
    ("model.logistic_regression.log_scale=false", false, Model("logistic_regression")),
    ("model.decision_tree.maximum_depth=2", false, Model("decision_tree")),
    ("model.decision_tree.minimum_samples_split=3", false, Model("decision_tree")),
    ("model.decision_tree.minimum_samples_leaf=2", false, Model("decision_tree")),
    ("model.decision_tree.class_weights=\"balanced\"", false, Model("decision_tree")),
    ("model.attention_lstm.lstm=9", false, Model("attention_lstm")),
    ("model.attention_lstm.attention=false", false, Model("attention_lstm")),
    ("model.attention_lstm.dense=9", false, Model("attention_lstm")),
    ("model.attention_lstm.activation=\"tanh\"", false, Model("attention_lstm")),
    ("model.attention_lstm.epochs=2", false, Model("attention_lstm")),
    ("model.attention_lstm.batch=5", false, Model("attention_lstm")),
    ("model.attention_lstm.learning_rate=0.002", false, Model("attention_lstm")),
    ("model.attention_lstm.weight_decay=0.1", false, Model("attention_lstm")),
    ("model.attention_lstm.clip_norm=1.0", false, Model("attention_lstm")),
    ("model.attention_lstm.dropout=0.1", false, Model("attention_lstm")),
    ("model.attention_lstm.patience=2", false, Model("attention_lstm")),
    ("model.attention_lstm.learning_rate_schedule=\"cosine\"", false, Model("attention_lstm")),
    ("model.attention_lstm.warm_up_steps=5", false, Model("attention_lstm")),
    ("model.attention_lstm.class_weights=\"balanced\"", false, Model("attention_lstm")),
    ("model.attention_lstm.label_smoothing=0.1", false, Model("attention_lstm")),
    ("model.attention_lstm.weight_averaging=\"exponential\"", false, Model("attention_lstm")),
    (
        "model.attention_lstm.weight_averaging=\"exponential\";model.attention_lstm.weight_averaging_decay=0.9",
        false,
        Model("attention_lstm"),
    ),
    ("model.attention_lstm.encoder=\"none\"", false, Model("attention_lstm")),
    ("model.attention_lstm.encoder=\"fine_tuned\"", false, Model("attention_lstm")),
    (
        "model.attention_lstm.encoder=\"fine_tuned\";model.attention_lstm.layer_rate_divisor=2.0",
        false,
        Model("attention_lstm"),
    ),
    ("model.attention_lstm.encoder=\"from_scratch\"", false, Model("attention_lstm")),
    ("model.attention_lstm.pooling=\"maximum\"", false, Model("attention_lstm")),
    ("model.attention_lstm.pooling=\"segments\";model.attention_lstm.segments=3", false, Model("attention_lstm")),
    ("model.attention_lstm.pooling=\"attention\"", false, Model("attention_lstm")),
    ("model.attention_lstm.normalisation=\"batch\"", false, Model("attention_lstm")),
    ("model.attention_lstm.packet_metadata=[\"length\"]", false, Model("attention_lstm")),
    ("model.attention_lstm.elmo.hidden=6;model.attention_lstm.elmo.embedding=6", false, Model("attention_lstm")),
    ("model.attention_lstm.elmo.layers=2", false, Model("attention_lstm")),
    ("model.attention_lstm.elmo.positions=true", false, Model("attention_lstm")),
    ("model.attention_lstm.elmo.epochs=1", false, Model("attention_lstm")),
    ("model.attention_lstm.elmo.batch=9", false, Model("attention_lstm")),
    ("model.attention_lstm.elmo.learning_rate=0.002", false, Model("attention_lstm")),
    ("model.attention_lstm.elmo.clip_norm=1.0", false, Model("attention_lstm")),
    ("model.attention_lstm.elmo.dropout=0.1", false, Model("attention_lstm")),
    ("model.attention_lstm.elmo.corpus=[\"other\"]", false, Model("attention_lstm")),
    (
        "model.attention_lstm.elmo.corpus=[\"other\"];model.attention_lstm.elmo.corpus_packets=5",
        false,
        Model("attention_lstm"),
    ),
    ("model.attention_lstm.elmo.unlabelled=true", false, Model("attention_lstm")),
    ("model.attention_lstm.elmo.pretrained=\"elmo.safetensors\"", false, Model("attention_lstm")),
    (
        "model.attention_lstm.elmo.pretrained=\"elmo.safetensors\";model.attention_lstm.elmo.accept_seen=true",
        false,
        Model("attention_lstm"),
    ),
    ("model.sequence_cnn.channels=[4, 4, 5]", false, Model("sequence_cnn")),
    ("model.sequence_cnn.blocks=2", false, Model("sequence_cnn")),
    ("model.sequence_cnn.statistics=5", false, Model("sequence_cnn")),
    ("model.sequence_cnn.statistics_layers=2", false, Model("sequence_cnn")),
    ("model.sequence_cnn.shared=5", false, Model("sequence_cnn")),
    ("model.sequence_cnn.dropout=0.2", false, Model("sequence_cnn")),
    ("model.sequence_cnn.statistics_dropout=0.2", false, Model("sequence_cnn")),
    ("model.sequence_cnn.shared_dropout=0.3", false, Model("sequence_cnn")),
    ("model.sequence_cnn.optimiser=\"adamax\"", false, Model("sequence_cnn")),
    ("model.sequence_cnn.epochs=1", false, Model("sequence_cnn")),
    ("model.sequence_cnn.batch=5", false, Model("sequence_cnn")),
    ("model.sequence_cnn.patience=1", false, Model("sequence_cnn")),
    ("model.sequence_cnn.learning_rate=0.01", false, Model("sequence_cnn")),
    ("model.sequence_cnn.learning_rate_schedule=\"cosine\"", false, Model("sequence_cnn")),
    ("model.sequence_cnn.weight_decay=0.1", false, Model("sequence_cnn")),
    ("model.sequence_cnn.label_smoothing=0.1", false, Model("sequence_cnn")),
    ("model.sequence_cnn.class_weights=\"balanced\"", false, Model("sequence_cnn")),
    ("model.byte_cnn.channels=[8, 9]", false, Model("byte_cnn")),
    ("model.byte_cnn.kernel=5", false, Model("byte_cnn")),
    ("model.byte_cnn.pool=2", false, Model("byte_cnn")),
    ("model.byte_cnn.dense=9", false, Model("byte_cnn")),
    ("model.byte_cnn.dropout=0.2", false, Model("byte_cnn")),
    ("model.byte_cnn.optimiser=\"adamax\"", false, Model("byte_cnn")),
    ("model.byte_cnn.epochs=1", false, Model("byte_cnn")),
    ("model.byte_cnn.batch=5", false, Model("byte_cnn")),
    ("model.byte_cnn.patience=1", false, Model("byte_cnn")),
    ("model.byte_cnn.learning_rate=0.01", false, Model("byte_cnn")),
    ("model.byte_cnn.learning_rate_schedule=\"cosine\"", false, Model("byte_cnn")),
    ("model.byte_cnn.weight_decay=0.1", false, Model("byte_cnn")),
    ("model.byte_cnn.label_smoothing=0.1", false, Model("byte_cnn")),
    ("model.byte_cnn.class_weights=\"balanced\"", false, Model("byte_cnn")),
    ("model.byte_transformer.patch=5", false, Model("byte_transformer")),
    ("model.byte_transformer.embedding=8", false, Model("byte_transformer")),
    ("model.byte_transformer.layers=2", false, Model("byte_transformer")),
    ("model.byte_transformer.heads=1", false, Model("byte_transformer")),
    ("model.byte_transformer.feed_forward=9", false, Model("byte_transformer")),
    ("model.byte_transformer.dropout=0.2", false, Model("byte_transformer")),
    ("model.byte_transformer.pretraining_epochs=1", false, Model("byte_transformer")),
    ("model.byte_transformer.pretraining_batch=3", false, Model("byte_transformer")),
    ("model.byte_transformer.pretraining_learning_rate=0.01", false, Model("byte_transformer")),
    ("model.byte_transformer.mask_ratio=0.25", false, Model("byte_transformer")),
    ("model.byte_transformer.corpus=[\"other\"]", false, Model("byte_transformer")),
    (
        "model.byte_transformer.corpus=[\"other\"];model.byte_transformer.corpus_flows=5",
        false,
        Model("byte_transformer"),
    ),
    ("model.byte_transformer.unlabelled=true", false, Model("byte_transformer")),
    ("model.byte_transformer.pretrained=\"transformer.safetensors\"", false, Model("byte_transformer")),
    (
        "model.byte_transformer.pretrained=\"transformer.safetensors\";model.byte_transformer.accept_seen=true",
        false,
        Model("byte_transformer"),
    ),
    ("model.byte_transformer.layer_rate_divisor=2.0", false, Model("byte_transformer")),
    ("model.byte_transformer.epochs=1", false, Model("byte_transformer")),
    ("model.byte_transformer.batch=5", false, Model("byte_transformer")),
    ("model.byte_transformer.patience=1", false, Model("byte_transformer")),
    ("model.byte_transformer.optimiser=\"adamax\"", false, Model("byte_transformer")),
    ("model.byte_transformer.learning_rate=0.01", false, Model("byte_transformer")),
    ("model.byte_transformer.learning_rate_schedule=\"constant\"", false, Model("byte_transformer")),
    ("model.byte_transformer.warm_up_steps=3", false, Model("byte_transformer")),
    ("model.byte_transformer.weight_decay=0.1", false, Model("byte_transformer")),
    ("model.byte_transformer.label_smoothing=0.1", false, Model("byte_transformer")),
    ("model.byte_transformer.class_weights=\"balanced\"", false, Model("byte_transformer")),
    ("model.deep_fingerprinting.reads=\"signed_lengths\"", false, Model("deep_fingerprinting")),
    ("model.deep_fingerprinting.channels=[2, 2, 2, 3]", false, Model("deep_fingerprinting")),
    ("model.deep_fingerprinting.kernel=3", false, Model("deep_fingerprinting")),
    ("model.deep_fingerprinting.pool=6", false, Model("deep_fingerprinting")),
    ("model.deep_fingerprinting.pool_stride=3", false, Model("deep_fingerprinting")),
    ("model.deep_fingerprinting.dense=5", false, Model("deep_fingerprinting")),
    ("model.deep_fingerprinting.dropout=0.2", false, Model("deep_fingerprinting")),
    ("model.deep_fingerprinting.dense_dropout=[0.1, 0.1]", false, Model("deep_fingerprinting")),
    ("model.deep_fingerprinting.optimiser=\"adamw\"", false, Model("deep_fingerprinting")),
    ("model.deep_fingerprinting.epochs=1", false, Model("deep_fingerprinting")),
    ("model.deep_fingerprinting.batch=5", false, Model("deep_fingerprinting")),
    ("model.deep_fingerprinting.patience=1", false, Model("deep_fingerprinting")),
    ("model.deep_fingerprinting.learning_rate=0.01", false, Model("deep_fingerprinting")),
    ("model.deep_fingerprinting.learning_rate_schedule=\"cosine\"", false, Model("deep_fingerprinting")),
    ("model.deep_fingerprinting.weight_decay=0.1", false, Model("deep_fingerprinting")),
    ("model.deep_fingerprinting.label_smoothing=0.1", false, Model("deep_fingerprinting")),
    ("model.deep_fingerprinting.class_weights=\"balanced\"", false, Model("deep_fingerprinting")),
    ("model.flowpic_cnn.channels=[8, 9]", false, Model("flowpic_cnn")),
    ("model.flowpic_cnn.kernel=3", false, Model("flowpic_cnn")),
    ("model.flowpic_cnn.pool=1", false, Model("flowpic_cnn")),
    ("model.flowpic_cnn.dense=[8, 9]", false, Model("flowpic_cnn")),
    ("model.flowpic_cnn.channel_dropout=0.5", false, Model("flowpic_cnn")),
    ("model.flowpic_cnn.dropout=0.2", false, Model("flowpic_cnn")),
    ("model.flowpic_cnn.optimiser=\"adamax\"", false, Model("flowpic_cnn")),
    ("model.flowpic_cnn.epochs=1", false, Model("flowpic_cnn")),
    ("model.flowpic_cnn.batch=5", false, Model("flowpic_cnn")),
    ("model.flowpic_cnn.patience=1", false, Model("flowpic_cnn")),
    ("model.flowpic_cnn.learning_rate=0.01", false, Model("flowpic_cnn")),
    ("model.flowpic_cnn.learning_rate_schedule=\"cosine\"", false, Model("flowpic_cnn")),
    ("model.flowpic_cnn.weight_decay=0.1", false, Model("flowpic_cnn")),
    ("model.flowpic_cnn.label_smoothing=0.1", false, Model("flowpic_cnn")),
    ("model.flowpic_cnn.class_weights=\"balanced\"", false, Model("flowpic_cnn")),
    ("model.ensemble.of=[\"decision_tree\", \"knn:statistics\"]", false, Model("ensemble")),
];

struct Bench {
    project: Project,
    settings: Settings,
}

impl Bench {
    fn run(&self, assignments: &str) -> Run {
        let assignments = assignments.split(';').filter(|text| !text.is_empty()).map(str::to_owned).collect();
        let overrides = Overrides { assignments, ..Overrides::default() };
        let experiment = experiment::read_experiment(&self.project.path("experiments/small.toml"), &overrides).unwrap();
        experiment::run(&experiment, &self.settings, &Silent).unwrap()
    }
}

fn computed(run: &Run, stage: &str) -> u64 {
    run.stages.get(stage).map_or(0, |count| count.computed)
}

/// Small networks, and an ensemble of which one member reads bytes and one nothing.
const NETWORKS: &str = r#"
[model.sequence_cnn]
channels = [4, 4, 4]
blocks = 1
statistics = 4
statistics_layers = 1
shared = 4
epochs = 2
batch = 4
[model.byte_cnn]
channels = [8, 8]
kernel = 3
dense = 8
epochs = 2
batch = 4
[model.byte_transformer]
patch = 4
embedding = 4
layers = 1
heads = 2
feed_forward = 4
pretraining_epochs = 2
pretraining_batch = 4
epochs = 2
batch = 4
[model.deep_fingerprinting]
channels = [2, 2, 2, 2]
dense = 4
epochs = 2
batch = 4
[feature.flowpic]
resolution = 16
packets = 10
[model.flowpic_cnn]
channels = [8, 8]
dense = [8, 8]
epochs = 2
batch = 4
[model.ensemble]
of = ["decision_tree", "majority"]
"#;

/// Without tuning and with the variant that has the file's own keys alone, and every model.
fn untuned() -> String {
    let text = every_stage::EXPERIMENT;
    let all = "\"attention_lstm\", \"decision_tree\", \"majority\", \"sequence_cnn\", \"byte_cnn\", \"byte_transformer\", \"deep_fingerprinting\", \
               \"flowpic_cnn\", \"ensemble\"]";
    text[..text.find("[variant").unwrap()].replace("\"attention_lstm\"]", all) + NETWORKS
}

fn bench(experiment: &str) -> Bench {
    let project = every_stage::project();
    project.write("experiments/small.toml", experiment);
    let settings = Settings {
        project: project.path(""),
        device: Device::Cpu,
        device_reason: None,
        cache: Cache::new(project.path("results/cache")),
        generator: |_, _| Err("nothing is generated here".to_owned()),
        take_failures: false,
        memory_limit: None,
    };
    Bench { project, settings }
}

#[test]
fn a_changed_key_runs_the_right_stages_again_and_only_those() {
    let bench = bench(&untuned());
    let first = bench.run("");
    assert_eq!((computed(&first, "flows"), computed(&first, "fits")), (1, 15));
    assert_eq!((computed(&first, "elmo_pretraining"), computed(&first, "encoding")), (1, 2));
    assert_eq!(computed(&first, "masked_pretraining"), 1);
    let recipe = Recipe::of_experiment(&first.experiment, Some("attention_lstm")).unwrap();
    let elmo = experiment::pretrain_datasets(&recipe, &["other".to_owned()], 3, &bench.settings, &Silent).unwrap();
    bench.project.write("elmo.safetensors", elmo.to_bytes().unwrap());
    // Another file with the same name is a different ELMo.
    let pretrained = "model.attention_lstm.elmo.pretrained=\"elmo.safetensors\"";
    assert_eq!(computed(&bench.run(pretrained), "fits"), 1);
    let elmo = experiment::pretrain_datasets(&recipe, &["other".to_owned()], 4, &bench.settings, &Silent).unwrap();
    bench.project.write("elmo.safetensors", elmo.to_bytes().unwrap());
    let recipe = Recipe::of_experiment(&first.experiment, Some("byte_transformer")).unwrap();
    let flows = experiment::pretrain_datasets(&recipe, &["other".to_owned()], 3, &bench.settings, &Silent).unwrap();
    bench.project.write("transformer.safetensors", flows.to_bytes().unwrap());
    for &(assignments, flows, again) in CHANGES {
        let run = bench.run(assignments);
        assert_eq!(computed(&run, "flows") > 0, flows, "{assignments}: flows");
        let reads = |row: &experiment::FittedRow| match again {
            Nothing => false,
            Model(model) => row.key.model == model || row.key.model == "ensemble" && model == "decision_tree",
            Bytes => ["bytes", "members"].contains(&row.key.input.as_str()) && row.key.model != "majority",
            Sequences => row.key.input == "sequences",
            All => true,
        };
        for row in &run.rows {
            assert_eq!(!row.reused, reads(row), "{assignments}: {} {}", row.key.model, row.key.input);
        }
        if again == Model("byte_transformer") {
            // Keys that only affect supervised training do not repeat the pre-training.
            let key = assignments.split('.').nth(2).unwrap_or_default().split('=').next().unwrap_or_default();
            let network =
                ["patch", "embedding", "layers", "heads", "feed_forward", "dropout", "mask_ratio", "weight_decay"];
            let trains = network.contains(&key) || key.starts_with("pretraining_") || key == "corpus";
            assert_eq!(computed(&run, "masked_pretraining") > 0, trains, "{assignments}");
        }
        let elmo = computed(&run, "elmo_pretraining") > 0;
        if again == Model("attention_lstm") {
            // No labels are left out here, so `unlabelled` adds no packets.
            let same = [".elmo.pretrained", ".elmo.unlabelled"].iter().any(|key| assignments.contains(key));
            let trains = assignments.contains(".elmo.") && !same;
            assert_eq!(elmo, trains, "{assignments}: ELMo");
        } else if !matches!(again, All | Bytes) {
            assert!(!elmo, "{assignments}: ELMo");
        }
    }
    // The original entries are still complete.
    let last = bench.run("");
    assert!(last.stages.values().all(|count| count.computed == 0), "{:?}", last.stages);
    assert_eq!(last.rows.len(), 15);
}

#[test]
fn every_key_that_the_manual_names_is_changed_above() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/README.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let changed: BTreeSet<&str> =
        CHANGES.iter().flat_map(|(text, ..)| text.split(';')).map(|text| text.split('=').next().unwrap()).collect();
    let mut model = String::new();
    let mut named = 0;
    for line in manual.lines() {
        let cells: Vec<&str> = line.split('|').collect();
        if line.starts_with("|---") {
            continue;
        }
        let Some(first) = cells.get(1).filter(|_| line.starts_with("| `")) else {
            model.clear();
            continue;
        };
        let keys: Vec<&str> = first.split('`').skip(1).step_by(2).collect();
        if let Some(name) = keys[0].strip_prefix("[model.") {
            model = name.trim_end_matches(']').to_owned();
            continue;
        }
        if !model.is_empty() && line.matches('|').count() == 4 {
            for key in keys {
                named += 1;
                assert!(changed.contains(format!("model.{model}.{key}").as_str()), "model.{model}.{key} is not tried");
            }
        }
    }
    assert!(named > 30, "{named} keys found in the manual");
}

#[test]
fn changed_files_run_everything_again_and_untouched_ones_nothing() {
    let bench = bench(&untuned());
    bench.run("");
    let definition = std::fs::read_to_string(bench.project.path("data/small.toml")).unwrap();
    // A comment does not change flows.
    bench.project.write("data/small.toml", format!("{definition}# checked again\n"));
    let run = bench.run("");
    assert_eq!(computed(&run, "fits"), computed(&run, "flows") * 15, "both or none");
    bench.project.write("data/small.toml", &definition);
    assert_eq!(computed(&bench.run(""), "fits"), 0);
    // One byte of one packet.
    let path = bench.project.path("data/small/one.pcap");
    let original = std::fs::read(&path).unwrap();
    let mut bytes = original.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let run = bench.run("");
    assert_eq!((computed(&run, "flows"), computed(&run, "fits")), (1, 15));
    std::fs::write(&path, original).unwrap();
    assert_eq!(computed(&bench.run(""), "fits"), 0);
}

/// Changes of `[tune]`, in turn.
const TUNING: &[&str] = &[
    "",
    "tune.budget=4",
    "tune.space.knn.k=[1, 4]",
    "tune.space.knn.k=[4, 1, 3];tune.budget=4",
    "tune.space.knn.weights=[\"distance\"]",
    "tune.space.svm.cost=[0.01, 100.0]",
    "tune.space.svm.gamma=[0.5]",
    "tune.search=\"random\"",
    "tune.search=\"random\";tune.budget=2",
    "tune.search=\"random\";tune.space.knn.k={ low = 1, high = 6 };tune.budget=5",
    "tune.search=\"random\";tune.space.svm.cost={ low = 0.1, high = 10.0, scale = \"logarithmic\" }",
    "tune.search=\"random\";tune.space.svm.cost={ low = 0.1, high = 10.0, scale = \"linear\" }",
    "models=[\"knn\"]",
    "",
];

#[test]
fn a_changed_key_of_tuning_tries_what_was_not_tried_and_fits_what_was_not_fitted() {
    let text = untuned().replace(
        &untuned().lines().find(|line| line.starts_with("models")).unwrap().to_owned(),
        "models = [\"knn\", \"svm\"]",
    );
    let tune =
        "[tune]\nsearch = \"grid\"\nbudget = 3\n[tune.space.knn]\nk = [1, 3]\n[tune.space.svm]\ncost = [0.1, 2.0]\n";
    let bench = bench(&format!("{text}{tune}"));
    // By model and input: the settings that were tried, and those that were fitted.
    let mut seen: BTreeMap<(String, String), [BTreeSet<String>; 2]> = BTreeMap::new();
    // A key that was added to a space is `default` in earlier trials.
    let without_defaults =
        |setting: &str| setting.split(", ").filter(|part| !part.ends_with("= default")).collect::<Vec<_>>().join(", ");
    let (mut all_tried, mut all_fitted) = (0, 0);
    for (number, assignments) in TUNING.iter().enumerate() {
        let run = bench.run(assignments);
        assert_eq!(computed(&run, "flows"), u64::from(number == 0), "{assignments}");
        let (mut tried, mut fitted) = (0, 0);
        for row in &run.rows {
            let [trials, fits] = seen.entry((row.key.model.clone(), row.key.input.clone())).or_default();
            let tuning = row.tuning.as_ref().unwrap();
            tried +=
                tuning.trials.iter().filter(|trial| trials.insert(without_defaults(&trial.setting))).count() as u64;
            let is_new = fits.insert(without_defaults(&tuning.trials[tuning.chosen].setting));
            assert_eq!(row.reused, !is_new, "{assignments}: {} {}", row.key.model, row.key.input);
            fitted += u64::from(is_new);
        }
        assert_eq!((computed(&run, "trials"), computed(&run, "fits")), (tried, fitted), "{assignments}");
        (all_tried, all_fitted) = (all_tried + tried, all_fitted + fitted);
    }
    assert!(all_tried > 20 && all_fitted > 3, "{all_tried} {all_fitted}");
}

/// Changes of the folds, and the first fold from which fits are recomputed; `None` if none are.
const FOLDS: &[(&str, Option<usize>)] = &[
    ("", Some(0)),
    ("split.folds=3", Some(0)),
    ("split.repeats=1", None),
    ("split.repeats=2", Some(2)),
    ("split.repeats=3", Some(4)),
    ("split.validation=0.3", Some(0)),
    ("split.minimum_class_flows=10", None),
    ("split.minimum_class_flows=10;split.small_classes=\"leave_out\"", None),
    ("split.sampling=\"none\"", None),
    ("seeds=[0, 1]", None),
    ("", None),
];

#[test]
fn a_changed_key_of_folds_fits_the_new_folds_and_only_those() {
    let text = untuned().replace(
        &untuned().lines().find(|line| line.starts_with("models")).unwrap().to_owned(),
        "models = [\"knn\", \"majority\"]",
    );
    let start = text.find("method = ").unwrap();
    let end = text.find("sampling = ").unwrap();
    let text = format!("{}method = \"k_fold\"\nfolds = 2\nvalidation = 0.2\n{}", &text[..start], &text[end..])
        .replace("[model.knn]\n", "[model.knn]\nk = 1\n");
    let bench = bench(&text);
    for (number, (assignments, from)) in FOLDS.iter().enumerate() {
        let run = bench.run(assignments);
        assert_eq!(computed(&run, "flows"), u64::from(number == 0), "{assignments}");
        for row in &run.rows {
            let is_new = from.is_some_and(|from| row.key.fold >= from) || row.key.seed == 1;
            assert_eq!(row.reused, !is_new, "{assignments}: {} {} fold {}", row.key.model, row.key.input, row.key.fold);
        }
    }
}

//! A reproducibility appendix of a run: answers the questions of the ACM's artifact badges and the NeurIPS checklist
//! from the run's files. What the files do not contain is marked as unknown, to be filled in by the author.

use std::collections::BTreeMap;
use std::path::Path;

use super::SubmissionError;
use super::card::{Card, cards};
use super::claimed::RunFile;
use etcbench_dataset::{DatasetDefinition, EntryState, Manifest, definition_path, read_manifest};
use etcbench_experiment::{Cost, LADDER};
use etcbench_report::{StoredRun, latex_text};
use etcbench_storage as storage;

/// The text for what a run does not know.
const UNKNOWN: &str = "Unknown to the run; to be filled in by the author.";

/// The output formats of an appendix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendixFormat {
    /// Markdown.
    Markdown,
    /// A LaTeX file to include.
    Latex,
}

/// A heading with its items: a name and a text each.
struct Section {
    title: &'static str,
    items: Vec<(String, String)>,
}

impl Section {
    fn new(title: &'static str) -> Self {
        Self { title, items: Vec::new() }
    }

    fn add(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.items.push((name.into(), text.into()));
    }
}

/// Returns the appendix of the run in a folder; definitions of its datasets are read from `project`.
///
/// # Errors
/// The run cannot be read.
pub fn appendix(folder: &Path, project: &Path, format: AppendixFormat) -> Result<String, SubmissionError> {
    let (stored, run) = storage::read_folder(folder, || -> Result<_, SubmissionError> {
        let stored = StoredRun::read(folder)?;
        let run: RunFile =
            serde_json::from_value(stored.information.clone()).map_err(|error| SubmissionError::Run {
                run: folder.to_owned(),
                problem: format!(
                    "its run.json is from another version ({error}); run it again, which takes its fits from the cache"
                ),
            })?;
        Ok((stored, run))
    })?;
    let cards = cards(&run, &stored.experiment);
    let sections = [
        what_was_run(&stored, &run),
        data(&stored, &run, project),
        splits(&stored, &run),
        models(&cards, &run),
        machine(&stored, &run),
        statistics(&run),
        badges(&run),
        checklist(&run, &cards),
        not_provided(folder, &run),
    ];
    let title = format!("Reproducibility: {}", stored.facts.title);
    Ok(match format {
        AppendixFormat::Markdown => markdown(&title, &sections),
        AppendixFormat::Latex => latex(&title, &sections),
    })
}

fn list(items: impl IntoIterator<Item = impl Into<String>>) -> String {
    let items: Vec<String> = items.into_iter().map(Into::into).collect();
    if items.is_empty() { "none".to_owned() } else { items.join("; ") }
}

fn what_was_run(stored: &StoredRun, run: &RunFile) -> Section {
    let mut section = Section::new("What was run");
    let provenance = &stored.facts.provenance;
    section.add("Experiment", format!("{} on {}, size {}", run.experiment, run.datasets.join(" and "), run.size));
    section.add("Program", format!("etcbench {}", provenance.version));
    let commit = provenance.commit.as_deref();
    section
        .add("Commit of the project", commit.unwrap_or("none: the project has no repository, or git is not installed"));
    if commit.is_some_and(|commit| commit.ends_with("-modified")) {
        section.add("Changed files", "Files of the project differed from that commit when it was run.");
    }
    section.add("Experiment file", "experiment.toml of the run contains every key as resolved.");
    let by = match run.experiment.strip_suffix(LADDER) {
        Some(experiment) => format!("etcbench ladder {experiment}"),
        None => "etcbench run experiment.toml".to_owned(),
    };
    section.add("Command", format!("{by} computes it again; --threads and --jobs affect no result."));
    section
}

fn data(stored: &StoredRun, run: &RunFile, project: &Path) -> Section {
    let mut section = Section::new("Data");
    for name in &run.datasets {
        let manifest = read_manifest(&stored.folder.join("manifests").join(format!("{name}.json"))).ok();
        let definition = DatasetDefinition::read(&definition_path(project, name)).ok();
        let definition =
            definition.filter(|own| manifest.as_ref().is_none_or(|manifest| manifest.definition == own.digest));
        let licence = definition.as_ref().and_then(|definition| definition.licence.clone());
        match definition {
            Some(definition) => {
                section.add(format!("{name}: description"), &definition.title);
                section.add(format!("{name}: reference"), &definition.reference);
                let at = &definition.published_at;
                section.add(format!("{name}: published at"), format!("{}; {}", at.url, at.how));
            }
            None => section.add(
                format!("{name}: description"),
                "Unknown here: this project does not have the definition that the run used.",
            ),
        }
        section.add(
            format!("{name}: licence"),
            licence
                .as_deref()
                .unwrap_or("Unknown: the definition of the dataset states none; to be filled in by the author."),
        );
        section.add(format!("{name}: files"), files(manifest.as_ref()));
    }
    for variant in &run.variants {
        let classes = variant.flows_per_class.iter().map(|(class, count)| format!("{class} {count}"));
        section.add(format!("Flows of {}", variant.name), format!("{}: {}", variant.flows, list(classes)));
        if !variant.small_classes.is_empty() {
            let left = variant.small_classes.iter().map(|small| format!("{} ({} flows)", small.class, small.flows));
            section.add(format!("Classes left out of {}", variant.name), list(left));
        }
    }
    for note in &stored.facts.data_notes {
        section.add("Note", note);
    }
    section
}

fn files(manifest: Option<&Manifest>) -> String {
    let Some(manifest) = manifest else { return "Unknown: the run has no manifest.".to_owned() };
    let count = |state| manifest.of(state).count();
    let packets: u64 = manifest.of(EntryState::Used).filter_map(|entry| entry.packets).sum();
    format!(
        "{} captures with {packets} packets are used, {} published ones are missing, {} are left out; the run's \
         manifest contains the SHA-256 of each",
        count(EntryState::Used),
        count(EntryState::Missing),
        count(EntryState::Excluded) + count(EntryState::Duplicate) + count(EntryState::WithoutLabel),
    )
}

fn splits(stored: &StoredRun, run: &RunFile) -> Section {
    let mut section = Section::new("Splits and seeds");
    section.add("Seeds", list(run.seeds.iter().map(u64::to_string)));
    section.add(
        "What a seed decides",
        "The split, the sample of training flows, training, and the bootstrap intervals. Flows drawn by a selection \
         and settings drawn by a random search are the same for all seeds.",
    );
    let common = stored.experiment.get("split").map(ToString::to_string);
    let variants = stored.experiment.get("variant").and_then(toml::Value::as_table);
    for variant in &run.variants {
        let of_variant = variants.and_then(|all| all.get(&variant.name)?.get("split")).map(ToString::to_string);
        let keys = [common.clone(), of_variant].into_iter().flatten().collect::<Vec<_>>().join(", then ");
        section
            .add(variant.name.clone(), if keys.is_empty() { "the defaults of the version".to_owned() } else { keys });
        let of_test = variant
            .shared_captures
            .iter()
            .filter(|shared| (shared.first.as_str(), shared.second.as_str()) == ("train", "test"));
        let most = of_test.map(|shared| shared.captures).max();
        let text = most.map_or_else(|| UNKNOWN.to_owned(), |most| format!("at most {most}, over all splits"));
        section.add(format!("{}: captures in training and test part", variant.name), text);
    }
    section.add(
        "Files",
        "splits/*.csv contains the part of every flow, flows/*.csv its class, predictions/*.csv every prediction.",
    );
    section
}

fn models(cards: &[Card], run: &RunFile) -> Section {
    let mut section = Section::new("Models, hyperparameters, search");
    for card in cards {
        let version = card.version.map_or_else(|| "unknown version".to_owned(), |version| format!("version {version}"));
        let summary = card.summary.clone().unwrap_or_else(|| "Imported; unknown to the run.".to_owned());
        section.add(
            card.model.clone(),
            format!("{summary} Reads {}; {}, {version}.", card.inputs.join(", "), card.implementation),
        );
        section.add(
            format!("{}: hyperparameters", card.model),
            format!("{}; others are the defaults of the version", card.parameters),
        );
        if let Some(tuning) = &card.tuning {
            section.add(
                format!("{}: search", card.model),
                format!("{tuning}; scored by macro F1 on the validation part, with one budget for all models"),
            );
        }
        if let Some(program) = &card.program {
            section.add(format!("{}: program", card.model), program.to_string());
        }
        for seen in &card.pretraining {
            section.add(format!("{}: pre-training", card.model), seen.to_string());
        }
    }
    let chosen = run.fits.iter().filter_map(|fit| fit.setting.as_ref()).count();
    let text = match chosen {
        0 => "The run did not tune. Whether keys were chosen by hand in earlier runs is unknown to it.".to_owned(),
        chosen => format!(
            "{chosen} fits have a setting chosen on their validation part; every setting tried is in the records."
        ),
    };
    section.add("Search", text);
    section
}

fn machine(stored: &StoredRun, run: &RunFile) -> Section {
    let mut section = Section::new("Hardware, software, compute");
    let provenance = &stored.facts.provenance;
    let unknown = || "unknown: the system does not report it".to_owned();
    section.add("CPU", provenance.processor.clone().unwrap_or_else(unknown));
    section.add(
        "Memory",
        provenance.memory_bytes.map_or_else(unknown, |bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))),
    );
    section.add("Device of deep models", &provenance.device);
    section.add("Threads", provenance.threads.to_string());
    section.add("System", &provenance.system);
    let measured: Vec<(Cost, Cost)> = run.fits.iter().filter_map(|fit| Some((fit.fit?, fit.predict?))).collect();
    let sum =
        |value: &dyn Fn(&Cost) -> f64| measured.iter().map(|(fit, predict)| value(fit) + value(predict)).sum::<f64>();
    section.add(
        "Fits",
        format!(
            "{}, of which {} were taken from a cache, with the costs measured on the machine that computed them first",
            run.fits.len(),
            run.fits.iter().filter(|fit| fit.reused).count()
        ),
    );
    if measured.is_empty() {
        section.add("Compute time", UNKNOWN);
    } else {
        let wall = sum(&|cost| cost.wall_seconds);
        let known = measured.iter().all(|(fit, predict)| fit.cpu_seconds.is_some() && predict.cpu_seconds.is_some());
        let cpu = known.then(|| sum(&|cost| cost.cpu_seconds.unwrap_or_default()));
        let cpu = cpu.map_or_else(|| "CPU time unknown".to_owned(), |cpu| format!("{cpu:.1} s of CPU time"));
        section.add(
            "Compute time",
            format!("{wall:.1} s elapsed and {cpu} for fitting and predicting, without reading captures and tuning"),
        );
        let most = measured
            .iter()
            .flat_map(|(fit, predict)| [fit.peak_memory_bytes, predict.peak_memory_bytes])
            .flatten()
            .max();
        section.add("Peak memory", most.map_or_else(unknown, |bytes| format!("{:.0} MB", bytes as f64 / 1e6)));
        let mut by_model: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
        for fit in &run.fits {
            if let Some(cost) = fit.fit {
                let (count, seconds) = by_model.entry(&fit.key.model).or_default();
                (*count, *seconds) = (*count + 1, *seconds + cost.wall_seconds);
            }
        }
        let each = by_model.iter().map(|(model, (count, seconds))| format!("{model} {:.2} s", seconds / *count as f64));
        section.add("Mean time of a fit", list(each));
    }
    section.add("Compute of earlier and failed runs", UNKNOWN);
    section
}

fn seeds(run: &RunFile) -> String {
    match run.seeds.len() {
        1 => "one seed".to_owned(),
        count => format!("{count} seeds"),
    }
}

fn statistics(run: &RunFile) -> Section {
    let mut section = Section::new("Statistics");
    let mut of_row: BTreeMap<[&str; 4], usize> = BTreeMap::new();
    for key in run.fits.iter().map(|fit| &fit.key) {
        *of_row.entry([&key.variant, &key.model, &key.input, &key.implementation]).or_default() += 1;
    }
    let most = of_row.values().copied().max().unwrap_or_default();
    let count = run.fits.len();
    section.add(
        "Fits",
        format!("{count} in total, at most {most} per row of a table (seeds times folds), with {}", seeds(run)),
    );
    let (intervals, tests) = match most {
        0 | 1 => (
            "95 % by bootstrap over the test flows of the fit (2,000 draws); one fit has no interval over seeds.",
            "McNemar's on the test set, corrected by Holm's method over all pairs of models; one fit allows no test \
             over seeds.",
        ),
        _ => (
            "95 % of the mean over seeds and folds by Student's t, and by bootstrap over the test flows of a fit \
             (2,000 draws).",
            "McNemar's on every test set, Wilcoxon's signed-rank and the corrected resampled t-test over all of them, \
             corrected by Holm's method over all pairs of models.",
        ),
    };
    section.add("Intervals", intervals);
    section.add("Tests of difference", tests);
    section.add(
        "Failures",
        list(run.failures.iter().map(|failure| format!("{}: {}", failure.key.model, failure.problem))),
    );
    section
}

fn badges(run: &RunFile) -> Section {
    let mut section = Section::new("ACM artifact badges");
    section.add("Artifacts Available", UNKNOWN);
    section
        .add("Artifacts Evaluated: documented", "The files of a run are described in results/FORMAT.md of etcbench.");
    section.add(
        "Artifacts Evaluated: consistent",
        "Records, tests of difference and tables are computed from the stored \
             predictions; `etcbench submission check` recomputes them.",
    );
    let external = run.models.iter().filter(|model| model.external.is_some()).map(|model| model.name.clone());
    section.add(
        "Artifacts Evaluated: complete",
        format!("External programs needed in addition to etcbench: {}.", list(external)),
    );
    section.add("Artifacts Evaluated: exercisable", "One command recomputes the results; see above.");
    section.add("Results Reproduced", "Unknown to the run: to be shown by others.");
    section.add("Results Replicated", "Unknown to the run: to be shown by others.");
    section
}

fn checklist(run: &RunFile, cards: &[Card]) -> Section {
    let mut section = Section::new("NeurIPS checklist");
    let imported = cards.iter().any(|card| card.implementation == "imported");
    for item in ["Claims", "Limitations", "Theory assumptions and proofs"] {
        section.add(item, UNKNOWN);
    }
    section.add(
        "Experimental result reproducibility",
        match imported {
            true => "Predictions were imported, and this run cannot recompute them.",
            false => {
                "Experiment, seeds, splits and versions are above; the same experiment and seed produce the same \
                 bits on the same machine type."
            }
        },
    );
    section.add(
        "Open access to data and code",
        "The sources of the data are above. Whether this run and the code \
             of its models are published is unknown to the run.",
    );
    section.add(
        "Experimental setting",
        "Splits, hyperparameters and how they were chosen are above, and in full in experiment.toml.",
    );
    section.add("Statistical significance", format!("Intervals and tests are above, with {}.", seeds(run)));
    section.add("Compute resources", "See above, for this run only.");
    for item in ["Code of ethics", "Broader impacts", "Safeguards"] {
        section.add(item, UNKNOWN);
    }
    section.add(
        "Licences of existing assets",
        "Those of the data are unknown to the run; etcbench is licensed under MIT or Apache-2.0.",
    );
    for item in
        ["New assets", "Crowdsourcing and human subjects", "Approvals by review boards", "Use of language models"]
    {
        section.add(item, UNKNOWN);
    }
    section
}

fn not_provided(folder: &Path, run: &RunFile) -> Section {
    let mut section = Section::new("What is not provided");
    section.add("Captures", "Not part of a run: manifests identify them by SHA-256.");
    let saved = folder.join("models").is_dir();
    section.add(
        "Weights",
        if saved {
            "Saved with the run, in models/."
        } else {
            "Not saved with the run (`--save-models` does so); the same command recomputes them."
        },
    );
    section.add("Features", "Not stored: `etcbench export` writes the input of models.");
    section
        .add("Variants left out", list(run.left_out.iter().map(|left| format!("{}: {}", left.variant, left.problem))));
    section
}

fn markdown(title: &str, sections: &[Section]) -> String {
    // Escapes characters that would begin markup.
    let plain = |text: &str| {
        let mut plain = String::new();
        for letter in text.split_whitespace().collect::<Vec<_>>().join(" ").chars() {
            if "\\*_<>|[]".contains(letter) {
                plain.push('\\');
            }
            plain.push(letter);
        }
        plain
    };
    let mut text = format!("# {}\n", plain(title));
    for section in sections {
        text += &format!("\n## {}\n\n", section.title);
        for (name, value) in &section.items {
            text += &format!("- **{}**: {}\n", plain(name), plain(value));
        }
    }
    text
}

fn latex(title: &str, sections: &[Section]) -> String {
    let mut text = format!("\\section{{{}}}\n", latex_text(title));
    for section in sections {
        text += &format!("\n\\subsection{{{}}}\n\\begin{{description}}\n", latex_text(section.title));
        for (name, value) in &section.items {
            text += &format!("\\item[{{{}}}] {}\n", latex_text(name), latex_text(value));
        }
        text += "\\end{description}\n";
    }
    text
}

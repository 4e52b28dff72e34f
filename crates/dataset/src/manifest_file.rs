//! Manifests on disk: JSON, or CSV if the name ends in `.csv`.

use std::path::Path;

use super::labelled::Labels;
use super::manifest::{EntryState, MANIFEST_FORMAT, Manifest, ManifestEntry, ManifestError};
use etcbench_storage as storage;
use etcbench_storage::declarative::did_you_mean;

/// The columns of the CSV format. The first three have the same value in every row.
const COLUMNS: [&str; 13] = [
    "format",
    "dataset",
    "definition",
    "state",
    "name",
    "path",
    "size",
    "sha256",
    "packets",
    "link_types",
    "damage",
    "note",
    "labels",
];
/// Maximum size in bytes. A manifest of the largest datasets has a few hundred kilobytes.
const LARGEST: u64 = 256 << 20;

fn is_csv(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("csv"))
}

/// Writes a manifest.
///
/// # Errors
/// Any I/O error.
pub fn write_manifest(path: &Path, manifest: &Manifest) -> Result<(), ManifestError> {
    let io = |source| ManifestError::Io { path: path.to_owned(), source };
    if !is_csv(path) {
        let mut text = serde_json::to_vec_pretty(manifest).map_err(|error| io(error.into()))?;
        text.push(b'\n');
        return storage::write_whole(path, &text).map_err(io);
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    let other = |error: csv::Error| io(std::io::Error::other(error.to_string()));
    writer.write_record(COLUMNS).map_err(other)?;
    let number = |value: Option<u64>| value.map_or(String::new(), |value| value.to_string());
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    for entry in &manifest.entries {
        let link_types: Vec<String> = entry.link_types.iter().map(u32::to_string).collect();
        let labels: Vec<String> = entry.labels.iter().map(|(column, value)| format!("{column}={value}")).collect();
        let row = [
            manifest.format.clone(),
            manifest.dataset.clone(),
            manifest.definition.clone(),
            entry.state.name().to_owned(),
            entry.name.clone(),
            entry.path.clone(),
            number(entry.size),
            text(&entry.sha256),
            number(entry.packets),
            link_types.join(" "),
            text(&entry.damage),
            text(&entry.note),
            labels.join(";"),
        ];
        writer.write_record(row).map_err(other)?;
    }
    let bytes = writer.into_inner().map_err(|error| io(std::io::Error::other(error.to_string())))?;
    storage::write_whole(path, &bytes).map_err(io)
}

/// Reads a manifest written by [`write_manifest`].
///
/// # Errors
/// The file cannot be read or is not a manifest; includes the line if known.
pub fn read_manifest(path: &Path) -> Result<Manifest, ManifestError> {
    let io = |source| ManifestError::Io { path: path.to_owned(), source };
    let fault = |line: Option<u64>, problem: String| ManifestError::Content { path: path.to_owned(), line, problem };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > LARGEST {
        return Err(fault(
            None,
            format!("{size} bytes is too large for a manifest; use one written by `data verify --manifest`"),
        ));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    let manifest = if is_csv(path) {
        from_csv(&bytes).map_err(|(line, problem)| fault(line, problem))?
    } else {
        serde_json::from_slice::<Manifest>(&bytes).map_err(|error| {
            fault(
                Some(error.line() as u64),
                format!("not a manifest: {error}; use one written by `data verify --manifest`"),
            )
        })?
    };
    if manifest.format != MANIFEST_FORMAT {
        return Err(fault(None, format!("its format is `{}`; this version reads {MANIFEST_FORMAT}", manifest.format)));
    }
    Ok(manifest)
}

fn from_csv(bytes: &[u8]) -> Result<Manifest, (Option<u64>, String)> {
    let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
    let headers = reader.headers().map_err(|error| (Some(1), error.to_string()))?.clone();
    if headers.iter().ne(COLUMNS) {
        return Err((Some(1), format!("not a manifest: its columns are not {}", COLUMNS.join(","))));
    }
    let mut manifest: Option<Manifest> = None;
    for record in reader.records() {
        let record = record.map_err(|error| (error.position().map(csv::Position::line), error.to_string()))?;
        let line = record.position().map(csv::Position::line);
        let entry = entry(&record).map_err(|problem| (line, problem))?;
        let manifest = manifest.get_or_insert_with(|| Manifest {
            format: record[0].to_owned(),
            dataset: record[1].to_owned(),
            definition: record[2].to_owned(),
            entries: Vec::new(),
        });
        if [&record[0], &record[1], &record[2]] != [&manifest.format, &manifest.dataset, &manifest.definition] {
            return Err((line, "format, dataset or definition differs from the lines above".to_owned()));
        }
        manifest.entries.push(entry);
    }
    manifest.ok_or((None, "not a manifest: it lists no files".to_owned()))
}

fn entry(record: &csv::StringRecord) -> Result<ManifestEntry, String> {
    let number = |index: usize| match &record[index] {
        "" => Ok(None),
        text => {
            text.parse::<u64>().map(Some).map_err(|_| format!("column `{}`: `{text}` is not a number", COLUMNS[index]))
        }
    };
    let text = |index: usize| (!record[index].is_empty()).then(|| record[index].to_owned());
    let state = EntryState::ALL.into_iter().find(|state| state.name() == &record[3]).ok_or_else(|| {
        format!("`{}` is not a state{}", &record[3], did_you_mean(&record[3], EntryState::ALL.map(EntryState::name)))
    })?;
    let link_types =
        record[9].split_whitespace().map(|text| text.parse().map_err(|_| format!("`{text}` is not a link type")));
    let mut labels = Labels::new();
    for label in record[12].split(';').filter(|label| !label.is_empty()) {
        let (column, value) = label.split_once('=').ok_or_else(|| format!("`{label}` is not column=value"))?;
        labels.insert(column.to_owned(), value.to_owned());
    }
    Ok(ManifestEntry {
        state,
        name: record[4].to_owned(),
        path: record[5].to_owned(),
        size: number(6)?,
        sha256: text(7),
        packets: number(8)?,
        link_types: link_types.collect::<Result<_, _>>()?,
        damage: text(10),
        out_of_order: 0,
        fractions_out_of_range: 0,
        note: text(11),
        labels,
    })
}

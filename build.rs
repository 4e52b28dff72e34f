//! Lists the files to embed in the program ([`etcbench::project`]): experiments, definitions of datasets with their
//! tables, and the paper's printed tables.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The folders whose files are embedded, and the file extension in each.
const FOLDERS: [(&str, &str); 5] = [
    ("experiments", "toml"),
    ("experiments/sizes", "toml"),
    ("data", "toml"),
    ("data", "csv"),
    ("paper/published", "csv"),
];

fn main() {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let mut list = String::from("&[\n");
    for (folder, ending) in FOLDERS {
        println!("cargo::rerun-if-changed={folder}");
        let entries = std::fs::read_dir(root.join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| Path::new(name).extension().is_some_and(|found| found == ending))
            .collect();
        names.sort();
        for name in names {
            let path = format!("{folder}/{name}");
            println!("cargo::rerun-if-changed={path}");
            let file = root.join(&path);
            writeln!(list, "    StockFile {{ path: {path:?}, bytes: include_bytes!({file:?}) }},")
                .expect("it is a string");
        }
    }
    list.push(']');
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    std::fs::write(out.join("stock.rs"), list).expect("cargo's folder can be written");
}

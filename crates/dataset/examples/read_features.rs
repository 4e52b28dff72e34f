//! Measures how long it takes to read a dataset's feature files: `read_features DEFINITION FOLDER`, five times.

use std::path::Path;
use std::time::Instant;

use etcbench_dataset::{Dataset, DatasetDefinition, DatasetError, load_features, open_folder};
use etcbench_storage::progress::Silent;

fn main() -> Result<(), DatasetError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [definition, folder] = &arguments[..] else {
        println!("read_features DEFINITION FOLDER");
        return Ok(());
    };
    for _ in 0..5 {
        let definition = DatasetDefinition::read(Path::new(definition))?;
        let folder = open_folder(&definition, Path::new(folder))?;
        let start = Instant::now();
        let table = load_features(&[Dataset { definition, folder }], &Silent)?;
        println!(
            "{} rows of {} features in {:.3} s",
            table.rows.len(),
            table.names.len(),
            start.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

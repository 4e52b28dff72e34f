//! Files of kinds that are not read, detected by their first bytes, with the way around.

use std::path::Path;

/// Returns why a file that starts with these bytes cannot be read and how to convert it, or `None` if it may be.
pub(super) fn foreign_kind(start: &[u8]) -> Option<&'static str> {
    match start {
        [0x89, b'H', b'D', b'F', ..] => Some(HDF5),
        // The first instruction of a pickle is its protocol, and the last one a dot.
        [0x80, 2..=5, ..] => Some(PICKLE),
        _ => None,
    }
}

// The established readers of HDF5 depend on a C library, and those in Rust are young. pandas keeps a frame in a group with
// the key as its name, in its fixed format as arrays, which only pandas puts together again; other programs write tables.
const HDF5: &str = "it is an HDF5 file, which is not read; if you trust its source, because pandas unpickles columns of \
                    objects, convert its tables to CSV once, with Python: python3 -c \"import tables, pandas; \
                    store = pandas.HDFStore('FILE.h5', 'r'); \
                    values = lambda c: (c.astype(str) if c.dtype.kind == 'S' else c).tolist(); \
                    frame = lambda t: pandas.DataFrame({n: values(t.col(n)) for n in t.colnames}); \
                    frames = {k: store[k] for k in store.keys()} or \
                    {t._v_pathname: frame(t) for t in store.root._v_file.walk_nodes('/', 'Table')}; \
                    assert frames, 'no table in it'; \
                    [f.to_csv('flows' + k.replace('/', '-') + '.csv', index=False) for k, f in frames.items()]; store.close()\"";
const PICKLE: &str = "it is a pickle, which can run programs when it is read, so it is not; if you trust its source, \
                      convert it once, with Python: python3 -c \"import pickle, numpy; numpy.save('NEW.npy', \
                      numpy.asarray(pickle.load(open('FILE.pkl', 'rb'), encoding='bytes'), 'float32'))\"";
/// An array of Python objects in NumPy's format.
pub(super) const OBJECTS: &str = "it contains pickled Python objects, which can run programs when they are read, so they \
                                  are not; if you trust its source, convert it once, with Python: python3 -c \"import \
                                  numpy; numpy.save('NEW.npy', numpy.array(numpy.load('FILE.npy', \
                                  allow_pickle=True).tolist(), 'float32'))\", after padding rows of different lengths \
                                  with 0; for a member of an npz, use numpy.load('FILE.npz', allow_pickle=True)['X'] \
                                  and numpy.savez('NEW.npz', X=..., y=...)";

/// The same, of classes.
pub(super) const OBJECTS_OF_CLASSES: &str = "it contains pickled Python objects, which can run programs when they are read, so they are not; if you trust its \
     source, convert it once, with Python: python3 -c \"import numpy; numpy.save('y_NEW.npy', numpy.load('FILE.npy', \
     allow_pickle=True).astype(str))\"; for a member of an npz, use numpy.load('FILE.npz', allow_pickle=True)['y'] and \
     numpy.savez('NEW.npz', X=..., y=...)";

/// Returns why a file with these first bytes cannot be read as arrays and how to convert it to some, or `None` if it may
/// be.
pub(super) fn foreign_to_arrays(start: &[u8]) -> Option<&'static str> {
    foreign_kind(start).map(|kind| if kind == HDF5 { HDF5_OF_ARRAYS } else { kind })
}

const HDF5_OF_ARRAYS: &str = "it is an HDF5 file, which is not read; convert its arrays once, with Python: python3 -c \"import h5py, numpy; \
     arrays = {}; h5py.File('FILE.h5', 'r').visititems(lambda name, item: arrays.update({name.replace('/', '_'): \
     item[()]}) if isinstance(item, h5py.Dataset) else None); numpy.savez('NEW.npz', **arrays)\"";

/// Returns what to add to the message that a folder contains no file of the dataset, if it or a folder below it contains
/// files of such kinds.
pub(super) fn foreign_files(folder: &Path) -> Option<String> {
    let entries = walkdir::WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
    entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_file()).find_map(|entry| {
        let kind = kind_of_name(entry.path())?;
        let name = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        Some(format!("{}: {kind}", name.display()))
    })
}

fn kind_of_name(file: &Path) -> Option<&'static str> {
    let extension = file.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "h5" | "hdf5" | "hdf" => Some(HDF5),
        "pkl" | "pickle" => Some(PICKLE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_files_are_found_in_subfolders_and_in_any_letter_case() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(foreign_files(folder.path()), None);
        let below = folder.path().join("parts/second");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(below.join("rows.HDF5"), "").unwrap();
        std::fs::write(below.join("readme.txt"), "").unwrap();
        let told = foreign_files(folder.path()).unwrap();
        let name = Path::new("parts").join("second").join("rows.HDF5");
        assert!(told.starts_with(&format!("{}: it is an HDF5 file", name.display())), "{told}");
        std::fs::write(folder.path().join("ROWS.PKL"), "").unwrap();
        let told = foreign_files(folder.path()).unwrap();
        assert!(told.starts_with("ROWS.PKL: it is a pickle"), "{told}");
    }
}

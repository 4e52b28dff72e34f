//! Files of kinds that are not read, detected by their first bytes, with the way around.

/// Returns why a file that starts with these bytes cannot be read and how to convert it, or `None` if it may be.
pub(super) fn foreign_kind(start: &[u8]) -> Option<&'static str> {
    match start {
        [0x89, b'H', b'D', b'F', ..] => Some(HDF5),
        // The first instruction of a pickle is its protocol, and the last one a dot.
        [0x80, 2..=5, ..] => Some(PICKLE),
        _ => None,
    }
}

// The established readers of HDF5 depend on a C library, and those in Rust are young.
const HDF5: &str = "it is an HDF5 file, which is not read; convert its tables to CSV once, with Python: python3 -c \"import tables, pandas; \
                    values = lambda c: (c.astype(str) if c.dtype.kind == 'S' else c).tolist(); \
                    [pandas.DataFrame({n: values(t.col(n)) for n in t.colnames})\
                    .to_csv(f'flows-{t._v_name}.csv', index=False) \
                    for t in tables.open_file('FILE.h5').walk_nodes('/', 'Table')]\"";
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

/// Returns what to add to the message that a folder contains no file of the dataset, if it contains files of such kinds.
pub(super) fn foreign_files(folder: &std::path::Path) -> Option<String> {
    let names = std::fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let foreign = |name: &String| {
        let end = name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase());
        end.is_some_and(|end| ["h5", "hdf5", "hdf", "pkl", "pickle"].contains(&end.as_str()))
    };
    let mut found: Vec<String> = names.filter(foreign).collect();
    found.sort();
    let first = found.first()?;
    let kind = if first.ends_with(['l', 'e']) { PICKLE } else { HDF5 };
    Some(format!("{first}: {kind}"))
}

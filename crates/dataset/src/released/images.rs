//! Splits released as folders of images, as YaTC and NetMamba do: `train/CLASS/*.png` and `test/CLASS/*.png`, one byte
//! per pixel.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Budget, ReleasedPart, fault, part_of, words};
use crate::DatasetError;
use crate::published::images::GreyImage;

/// Reads the images below a folder. The folder of an image is its class; the folders above it, the given one included,
/// state its part.
pub(super) fn read(folder: &Path, budget: &mut Budget) -> Result<Vec<ReleasedPart>, DatasetError> {
    let mut parts: Vec<ReleasedPart> = Vec::new();
    let mut class: Option<(PathBuf, Arc<str>, &'static str)> = None;
    for entry in walkdir::WalkDir::new(folder).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| fault(&folder.display().to_string(), error.to_string()))?;
        let path = entry.path();
        let text = path.display().to_string();
        let is_image = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
        let Some(parent) = path.parent().filter(|_| is_image && entry.file_type().is_file()) else { continue };
        if class.as_ref().is_none_or(|(known, _, _)| known != parent) {
            class = Some(class_of(folder, parent).map_err(|problem| fault(&text, problem))?);
        }
        let Some((_, label, name)) = &class else { continue };
        let opened = File::open(path).map_err(|error| fault(&text, error.to_string()))?;
        let image = GreyImage::read(opened).map_err(|problem| fault(&text, problem))?;
        budget.take(image.pixels.len()).map_err(|problem| fault(&text, problem))?;
        let values = image.pixels.iter().map(|&pixel| f32::from(pixel));
        match parts.iter_mut().find(|part| part.name == *name) {
            Some(part) if part.width == image.pixels.len() => {
                part.values.extend(values);
                part.labels.push(Arc::clone(label));
            }
            Some(part) => {
                let problem =
                    format!("it has {} pixels, but the images before it have {}", image.pixels.len(), part.width);
                return Err(fault(&text, problem));
            }
            None => parts.push(ReleasedPart {
                name,
                width: image.pixels.len(),
                values: values.collect(),
                labels: vec![Arc::clone(label)],
            }),
        }
    }
    if parts.is_empty() {
        let problem = "it contains no PNG images; expected FOLDER/CLASS/*.png".to_owned();
        return Err(fault(&folder.display().to_string(), problem));
    }
    Ok(parts)
}

/// Returns the class and the part of the images in a folder.
fn class_of(given: &Path, folder: &Path) -> Result<(PathBuf, Arc<str>, &'static str), String> {
    let below = folder.strip_prefix(given).unwrap_or(folder);
    let name = below.file_name().ok_or("images must be in a folder per class, such as FOLDER/CLASS/image.png")?;
    let above = below.parent().into_iter().flat_map(Path::components);
    let own = given.file_name().into_iter();
    // The nearest folder states the part: in `test/train/CLASS`, `train`.
    let mut names: Vec<String> = own.map(|name| name.to_string_lossy().into_owned()).collect();
    names.extend(above.map(|component| component.as_os_str().to_string_lossy().into_owned()));
    let part = names.iter().rev().map(|name| part_of(&words(name))).find(|part| *part != "all").unwrap_or("all");
    Ok((folder.to_owned(), name.to_string_lossy().into(), part))
}

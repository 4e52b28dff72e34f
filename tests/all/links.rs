//! Every relative link of the repository's Markdown pages leads to a file, and its anchor to a heading of that page.
//! `docs/check_links.py` checks the built site in the same way.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use walkdir::WalkDir;

/// A Markdown page: the anchors of its headings, and its links with their lines.
struct Page {
    anchors: HashSet<String>,
    links: Vec<(usize, String)>,
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Self { anchors: HashSet::new(), links: Vec::new() };
        let mut heading: Option<String> = None;
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push((text[..range.start].matches('\n').count() + 1, dest_url.into_string()));
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => page.add_anchor(&heading.take().unwrap_or_default()),
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                _ => {}
            }
        }
        page
    }

    /// Adds the anchor that forges and mdBook give to a heading; a repeated one gets a number.
    fn add_anchor(&mut self, heading: &str) {
        let is_kept = |letter: &char| letter.is_alphanumeric() || ['-', '_', ' '].contains(letter);
        let anchor: String = heading.trim().to_lowercase().chars().filter(is_kept).collect();
        let anchor = anchor.replace(' ', "-");
        let mut numbered = (1..).map(|number| format!("{anchor}-{number}"));
        let mut free = anchor.clone();
        while !self.anchors.insert(free) {
            free = numbered.next().unwrap();
        }
    }
}

/// Returns the Markdown pages below a folder that belong to the project: not those of builds, runs and datasets, which
/// git ignores.
fn pages(root: &Path) -> Vec<PathBuf> {
    let is_ours = |path: &Path| {
        let parts: Vec<&str> = path.strip_prefix(root).unwrap().iter().filter_map(OsStr::to_str).collect();
        match parts[..] {
            ["data", folder] if path.is_dir() => ["lab", "examples"].contains(&folder),
            ["results", folder] if path.is_dir() => ["gpu", "reference"].contains(&folder),
            ["paper", "tables"] => false,
            [.., "target"] => false,
            [.., name] => !name.starts_with('.'),
            [] => true,
        }
    };
    let entries = WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(|entry| is_ours(entry.path()));
    let files = entries.map(|entry| entry.unwrap().into_path());
    files.filter(|path| path.extension() == Some(OsStr::new("md"))).collect()
}

/// Resolves `..` by name alone: `fs::canonicalize` would fail for what does not exist, and follow links.
fn resolved(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(resolved.pop()),
            Component::CurDir => {}
            part => resolved.push(part),
        }
    }
    resolved
}

/// Returns a line for each dead link of the pages below a folder, and the number of relative links.
fn dead_links(root: &Path) -> (Vec<String>, usize) {
    let pages: BTreeMap<PathBuf, Page> = pages(root)
        .into_iter()
        .map(|path| {
            let page = Page::read(&fs::read_to_string(&path).unwrap());
            (path, page)
        })
        .collect();
    let mut dead = Vec::new();
    let mut count = 0;
    for (path, page) in &pages {
        for (line, link) in &page.links {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let at = format!("{}:{line}: {link}", path.strip_prefix(root).unwrap().display());
            let (file, anchor) =
                link.split_once('#').map_or((link.as_str(), None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { path.clone() } else { resolved(&path.with_file_name(file)) };
            if !target.starts_with(root) || !target.exists() {
                dead.push(format!("{at}: no such file"));
            } else if let Some(anchor) = anchor {
                match pages.get(&target) {
                    Some(page) if page.anchors.contains(anchor) => {}
                    Some(_) => dead.push(format!("{at}: no such heading")),
                    None => dead.push(format!("{at}: an anchor in what is no Markdown page of the project")),
                }
            }
        }
    }
    (dead, count)
}

#[test]
fn every_link_leads_somewhere() {
    let (dead, count) = dead_links(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
    assert!(count > 80, "only {count} links found");
}

#[test]
fn dead_links_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in ["a", "target", "data/captures", "data/lab"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(root.join("x.toml"), "").unwrap();
    let page = "# The `[key]`: a, b\n## Twice\n## Twice\n\n[1](../README.md#one--two) [2](#the-key-a-b) [3](#twice-1)\n\
                [4](../a/) ![5](../x.toml) [6](https://example.org/#x)\n\n```\n[7](none)\n```\n`[8](none)`\n";
    fs::write(root.join("a/page.md"), page).unwrap();
    fs::write(root.join("README.md"), "# One & two\n\n[over two\nlines](a/page.md#twice)\n").unwrap();
    assert_eq!(dead_links(root), (vec![], 6));

    let dead = "[1](none.md)\n[2](page.md#twice-2)\n\n| [3](../../x) |\n|---|\n| ![4](x.png) [5](../x.toml#y) |\n";
    fs::write(root.join("a/dead.md"), dead).unwrap();
    for ignored in ["target", "data/captures"] {
        fs::write(root.join(ignored).join("page.md"), "[1](none.md)").unwrap();
    }
    fs::write(root.join("data/lab/README.md"), "[1](#none)").unwrap();
    let (found, count) = dead_links(root);
    assert_eq!(count, 6 + 6);
    assert_eq!(
        found,
        [
            "a/dead.md:1: none.md: no such file",
            "a/dead.md:2: page.md#twice-2: no such heading",
            "a/dead.md:4: ../../x: no such file",
            "a/dead.md:6: x.png: no such file",
            "a/dead.md:6: ../x.toml#y: an anchor in what is no Markdown page of the project",
            "data/lab/README.md:1: #none: no such heading",
        ]
    );
}

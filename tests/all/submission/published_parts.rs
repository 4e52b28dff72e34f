//! Bundles of `split.method = "published"`: what a bundle states of the published parts is checked, and what it cannot
//! state is said.

use super::tampered::Tampered;
use super::{Files, check, pack, passes_as_it_is, read, run, write};
use crate::common::Project;

/// Replaces the part of the first flow in a split whose line contains these words.
fn assign(tampered: &mut Tampered, seed: u64, flow: &str, from: &str, to: &str) {
    let names = tampered.names(&["splits/", &format!("seed{seed}.csv")]);
    let [name] = &names[..] else { panic!("{names:?}") };
    let text = tampered.text(name);
    let of_flow = |line: &&str| line.contains(flow) && line.ends_with(&format!(",{from}"));
    let line = text.lines().find(of_flow).unwrap_or_else(|| panic!("no {flow} in {from}: {text}")).to_owned();
    tampered.replace(name, &line, &format!("{},{to}", line.rsplit_once(',').unwrap().0));
}

/// Returns the output of the check of a tampered bundle, which has findings.
fn found(project: &Project, honest: &Files, change: impl FnOnce(&mut Tampered)) -> String {
    let mut tampered = Tampered(honest.clone());
    change(&mut tampered);
    tampered.settle();
    write(&project.path("tampered.etcbundle"), &tampered.0);
    let (code, printed) = check(project, "tampered.etcbundle");
    assert_eq!(code, Some(1), "{printed}");
    printed
}

fn holds(printed: &str, words: &str) {
    assert!(printed.contains(words), "{words} is not in {printed}");
}

const UNKNOWN: &str = "the published part is not in a manifest with a definition in this project";

#[test]
fn parts_of_captures_are_those_of_the_definition() {
    let project = crate::published::project();
    for folder in ["second", "third"] {
        for (kind, flow) in [("short", 2), ("short", 3), ("long", 4)] {
            project.write(&format!("data/small/{folder}/{kind}/{flow}.txt"), "1500000000\t0\t80\t1\n");
        }
    }
    let definition = std::fs::read_to_string(project.path("data/small.toml")).unwrap();
    let text = std::fs::read_to_string(project.path("experiments/small.toml")).unwrap();
    let (head, rest) = text.split_once("[split]\n").unwrap();
    let (_, models) = rest.split_once("[model.").unwrap();
    let head = head.replace("filter = { partition = \"first\" }\n", "").replace("seeds = [0]", "seeds = [0, 1, 2]");
    let experiment = format!("{head}[split]\nmethod = \"published\"\n[model.{models}");
    project.write("experiments/published.toml", experiment);
    let arguments = ["run", "published", "--models", "knn"];
    let with_parts = |validation: &str| {
        let parts = format!("[parts]\ncolumn = \"partition\"\ntrain = [\"first\"]\n{validation}test = [\"second\"]\n");
        project.write("data/small.toml", definition.replace("[published]", &format!("{parts}[published]")));
    };

    with_parts("");
    let folder = run(&project, &arguments);
    let honest = read(&passes_as_it_is(&project, "drawn validation flows", &folder));
    // In every seed, a flow that is published for testing is trained on.
    let printed = found(&project, &honest, |tampered| {
        (0..3).for_each(|seed| assign(tampered, seed, "second/short/2.txt", "test", "train"));
    });
    for seed in 0..3 {
        holds(&printed, &format!("second/short/2.txt#0 is in train but drawn for test (method published, seed {seed}"));
    }
    let printed = found(&project, &honest, |tampered| assign(tampered, 0, "first/long", "train", "validation"));
    holds(&printed, "is in validation but drawn for train (method published, seed 0");
    // Without the definition, the first seed's split is the reference.
    project.write("data/small.toml", definition.clone());
    write(&project.path("honest.etcbundle"), &honest);
    let (code, printed) = check(&project, "honest.etcbundle");
    assert_eq!(code, Some(0), "{printed}");
    holds(&printed, UNKNOWN);
    let printed = found(&project, &honest, |tampered| assign(tampered, 2, "second/short/2.txt", "test", "train"));
    holds(&printed, "second/short/2.txt#0 is in train but drawn for test (method published, seed 2");

    with_parts("validation = [\"third\"]\n");
    let folder = run(&project, &arguments);
    let honest = read(&passes_as_it_is(&project, "a published validation part", &folder));
    let printed = found(&project, &honest, |tampered| {
        (0..3).for_each(|seed| assign(tampered, seed, "third/short/2.txt", "validation", "train"));
    });
    holds(&printed, "third/short/2.txt#0 is in train but drawn for validation (method published, seed 0");
}

#[test]
fn parts_of_single_rows_are_the_same_for_every_seed() {
    let project = Project::new();
    let mut table = "x,y,kind,part,client\n".to_owned();
    for row in 0..60 {
        let (kind, part) = (["a", "b"][row % 2], ["train", "train", "test"][row / 2 % 3]);
        table += &format!("{}.5,{}.25,{kind},{part},{}\n", row % 7, row % 2 * 3, row / 4);
    }
    project.write("data/rows/rows.csv", table);
    project.write(
        "data/rows.toml",
        "name = \"rows\"\ntitle = \"Rows with parts\"\nreference = \"none\"\nlabel_columns = [\"kind\", \"part\"]\n\
         [published_at]\nurl = \"https://example.org/rows\"\nhow = \"nothing to download\"\n[files]\npatterns = [\"*.csv\"]\n\
         [features]\nformat = \"csv\"\nlabels = { kind = \"kind\", part = \"part\" }\ngroup = [\"client\"]\n\
         [parts]\ncolumn = \"part\"\ntrain = [\"train\"]\ntest = [\"test\"]\n",
    );
    project.write(
        "experiments/rows.toml",
        "title = \"Rows\"\nseeds = [0, 1, 2]\nmodels = [\"knn\"]\n[dataset]\nnames = [\"rows\"]\n[selection]\nlabel = \
         \"kind\"\n[split]\nmethod = \"published\"\n[model.knn]\ninput = \"statistics\"\n",
    );
    let folder = run(&project, &["run", "rows"]);
    let honest = read(&passes_as_it_is(&project, "parts of rows", &folder));
    let bundle = pack(&project, &folder);
    let (_, printed) = check(&project, bundle.file_name().unwrap().to_str().unwrap());
    holds(&printed, &format!("for 60 of 60 flows {UNKNOWN}"));
    let printed = found(&project, &honest, |tampered| assign(tampered, 1, "rows.csv!", "test", "train"));
    holds(&printed, "is in train but drawn for test (method published, seed 1");
    let printed = found(&project, &honest, |tampered| assign(tampered, 0, "rows.csv!", "train", "validation"));
    holds(&printed, "is in validation but drawn for train (method published, seed 0");
    // A row is the same row in another group.
    let printed = found(&project, &honest, |tampered| tampered.replace_everywhere("rows.csv!3#12,", "rows.csv!0#13,"));
    holds(&printed, "1 flow(s) are duplicated, the first rows.csv!");
}

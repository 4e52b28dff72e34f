//! Tamperings with predicted classes, their probabilities, and the names of classes.

use super::{KNN, Tampering, columns, wrong_line};

pub(super) const TAMPERINGS: &[Tampering] = &[
    (
        "a predicted class is changed",
        |t| {
            t.edit(KNN, |text| {
                let line = text.lines().nth(1).unwrap();
                let mut own = columns(line);
                own[2] = if own[2] == "web" { "mail".into() } else { "web".into() };
                text.replacen(line, &own.join(","), 1)
            });
        },
        &["predictions: ", "the predicted class does not have the highest probability"],
    ),
    (
        "a wrong prediction is made right, with its probabilities",
        |t| {
            let name =
                t.names(&["predictions/random-", "seed"]).into_iter().find(|name| wrong_line(&t.text(name)).is_some());
            let name = name.expect("some prediction is wrong");
            t.edit(&name, |text| {
                let line = wrong_line(&text).unwrap();
                let mut own = columns(&line);
                own.swap(3, 4);
                own[2] = own[1].clone();
                text.replacen(&line, &own.join(","), 1)
            });
        },
        &["records: records.csv: ", "accuracy (", " is claimed as ", ", but is "],
    ),
    (
        "probabilities are made a little surer",
        |t| {
            t.edit("predictions/random-random_forest-bytes-seed0.csv", |text| {
                let sharper = |line: &str| {
                    let mut own = columns(line);
                    let sure: f32 = own[3].parse().unwrap();
                    if (0.5..1.0).contains(&sure) {
                        (own[3], own[4]) = ((sure + 0.01).to_string(), (1.0 - sure - 0.01).to_string());
                    }
                    own.join(",") + "\n"
                };
                let (header, rest) = text.split_once('\n').unwrap();
                format!("{header}\n{}", rest.lines().map(sharper).collect::<String>())
            });
        },
        &["records: records.csv: ", "(random_forest on bytes, random, seed 0, fold 0) is claimed as"],
    ),
    (
        "classes change names in a file of predictions",
        |t| {
            t.edit(KNN, |text| {
                text.replacen("probability_web,probability_mail", "probability_mail,probability_web", 1)
            });
        },
        &[
            "classes: predictions/random-knn-bytes-seed0.csv: the classes are mail, web, but those of the flows web, mail",
        ],
    ),
    (
        "classes change names in all files of results",
        |t| {
            for name in t.names(&[".csv"]).into_iter().chain(t.names(&["run.json"])) {
                let swap = |text: String| {
                    let text = text.replace("web-", "\u{1}").replace("mail-", "\u{2}");
                    let text = text.replace("web", "\u{3}").replace("mail", "web").replace('\u{3}', "mail");
                    text.replace('\u{1}', "web-").replace('\u{2}', "mail-")
                };
                let text = swap(t.text(&name));
                t.set(&name, text);
            }
        },
        &[
            "classes: run.json: random: the classes are mail, web, but the experiment lists web, mail",
            "labels: flows/random.csv: ",
        ],
    ),
    (
        "a tested flow gets the class that was predicted",
        |t| {
            let name =
                t.names(&["predictions/random-"]).into_iter().find(|name| wrong_line(&t.text(name)).is_some()).unwrap();
            let own = columns(&wrong_line(&t.text(&name)).unwrap());
            let (id, from, to) = (format!("{},", own[0]), own[1].clone(), own[2].clone());
            for file in [t.names(&["predictions/"]), t.names(&["flows/"])].concat() {
                let changed = |line: &str| {
                    let mut own = columns(line);
                    let place = if file.starts_with("flows/") { own.len() - 1 } else { 1 };
                    if line.starts_with(&id) && own[place] == from {
                        own[place].clone_from(&to);
                    }
                    own.join(",") + "\n"
                };
                let text = t.text(&file).lines().map(changed).collect();
                t.set(&file, text);
            }
        },
        &["labels: flows/random.csv: 1 flow(s) have a class other than in the manifest, the first: "],
    ),
];

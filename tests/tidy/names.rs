//! Names that users meet (scripts, tables, metrics, flags, limits, problems, ...): each is documented, and no other is.
//!
//! A name is documented where it stands as code in a column of the title of its kind, in some table of some page.

use std::collections::BTreeSet;

use boxoffice::api::{Problem, openapi};
use boxoffice::cli::Cli;
use boxoffice::ledger::Cause;
use boxoffice::limits::Limit;
use boxoffice::outcome_label::OutcomeLabel;
use clap::CommandFactory;
use serde_json::Value;

use crate::markdown;
use crate::tree::Tree;

type Names = BTreeSet<String>;

/// Where the program and its pages differ.
pub fn differences(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (title, names) in kinds(tree) {
        let told = markdown::column(tree.pages(), title);
        found.extend(compare(title, &names, &told));
    }
    for (path, description) in [("docs/api.md", openapi::CLIENTS), ("docs/operating.md", openapi::OPERATORS)]
    {
        let told = requests_told(tree.text(path));
        found.extend(compare(&format!("request of {path}"), &requests(description), &told));
    }
    found.extend(unknown_metrics(tree));
    found.extend(unknown_problems(tree));
    found.extend(settings_by_other_names(tree));
    found.extend(flags_of_commands(tree));
    found.extend(targets_of_make(tree));
    found
}

/// The title of a kind's columns, and all there is of it.
fn kinds(tree: &Tree) -> Vec<(&'static str, Names)> {
    let scripts = tree
        .files("lua/", ".lua")
        .map(|(path, _)| path.trim_start_matches("lua/").trim_end_matches(".lua").to_owned());
    let serve = flags_of("serve");
    let own = |names: &mut dyn Iterator<Item = &'static str>| names.map(str::to_owned).collect();
    vec![
        ("`script`", scripts.collect()),
        ("table", tables(tree.text("src/ledger/sqlite/schema.rs"))),
        ("metric", metrics(tree.text("src/admin/metrics.rs"))),
        ("flag", serve),
        ("limit", own(&mut Limit::ALL.iter().map(|limit| limit.name()))),
        ("`type`", own(&mut Problem::ALL.iter().map(|problem| problem.name))),
        ("`outcome`", own(&mut OutcomeLabel::ALL.iter().map(|ending| ending.label()))),
        ("`reason`", reasons(tree.text("src/admin/readiness.rs"))),
        ("`kind`", labels(tree.text("src/audit/findings.rs"), "kinds! {")),
    ]
}

fn compare(title: &str, names: &Names, told: &Names) -> Vec<String> {
    let missing = names.difference(told).map(|name| format!("no page has `{name}` in a column {title}"));
    let invented =
        told.difference(names).map(|name| format!("a page has `{name}` in a column {title}: there is none"));
    missing.chain(invented).collect()
}

/// What a description by OpenAPI has, as `GET /path`. HEAD and OPTIONS go without saying.
fn requests(description: &str) -> Names {
    let description: Value = serde_json::from_str(description).expect("the description is JSON");
    let paths = description["paths"].as_object().expect("it has paths");
    let of_path = |(path, methods): (&String, &Value)| {
        let methods: Vec<String> = methods.as_object().expect("a path has methods").keys().cloned().collect();
        let asked =
            methods.into_iter().filter(|method| ["get", "put", "post", "delete"].contains(&method.as_str()));
        asked.map(|method| format!("{} {path}", method.to_ascii_uppercase())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

/// What the tables of requests of a page have, without queries.
fn requests_told(page: &str) -> Names {
    let cells = markdown::column([("", page)].into_iter(), "request");
    let without_query = |cell: &String| cell.split('?').next().map(str::to_owned);
    cells.iter().filter(|cell| cell.contains(" /")).filter_map(without_query).collect()
}

/// `CREATE TABLE name`, in the product.
fn tables(schema: &str) -> Names {
    let schema = before_tests(schema);
    let rest = schema.split("CREATE TABLE ").skip(1);
    rest.filter_map(|rest| rest.split([' ', '(']).next()).map(str::to_owned).collect()
}

/// The series of the page of metrics, as the encoder names them: with the prefix, and `_total` or the unit behind.
fn metrics(source: &str) -> Names {
    let source = before_tests(source);
    let mut names = Names::new();
    for start in ["encode_descriptor(", "encoder,"] {
        for (at, _) in source.match_indices(start) {
            let rest = source[at + start.len()..].trim_start();
            let rest = rest.strip_prefix('(').unwrap_or(rest).trim_start();
            let Some((name, rest)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) else {
                continue;
            };
            // What stands behind the name up to the end of its descriptor, the help left out.
            let behind: String = rest.split('"').step_by(2).collect();
            let descriptor = behind.split(')').next().unwrap_or_default();
            let suffix = match descriptor {
                kind if kind.contains("Counter") => "_total",
                kind if kind.contains("Gauge") => "",
                _ => "_seconds",
            };
            names.insert(format!("boxoffice_{name}{suffix}"));
        }
    }
    names
}

/// `Variant "label",` in a block of a macro.
fn labels(source: &str, start: &str) -> Names {
    let block = source.split(start).nth(1).and_then(|rest| rest.split("\n}").next()).unwrap_or_default();
    let label =
        |line: &str| line.trim().strip_suffix("\",")?.split_once(" \"").map(|(_, label)| label.to_owned());
    block.lines().filter_map(label).collect()
}

/// Why nothing is sold: what ledgers say, and what the host knows besides.
fn reasons(source: &str) -> Names {
    let own = before_tests(source).split("Inability::").skip(1).filter_map(|rest| {
        let (_, rest) = rest.split_once(" => \"")?;
        rest.split('"').next().map(str::to_owned)
    });
    own.chain(Cause::ALL.iter().map(|cause| cause.label().to_owned())).collect()
}

fn before_tests(source: &str) -> &str {
    source.split("\n#[cfg(").next().unwrap_or(source)
}

/// Series that are named in running text, in commands and in the changelog.
fn unknown_metrics(tree: &Tree) -> Vec<String> {
    let names = metrics(tree.text("src/admin/metrics.rs"));
    let mut found = Vec::new();
    let others = tree.files("docs/monitoring/", "").chain([("CHANGELOG.md", tree.text("CHANGELOG.md"))]);
    for (path, page) in tree.pages().chain(others) {
        for (at, _) in page.match_indices("boxoffice_") {
            let name: String = page[at..]
                .chars()
                .take_while(|&letter| letter.is_ascii_lowercase() || letter == '_')
                .collect();
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|part| name.strip_suffix(part))
                .unwrap_or(&name);
            if name != "boxoffice_" && !names.contains(base) {
                found.push(format!("{path}: there is no metric `{name}`"));
            }
        }
    }
    found
}

fn unknown_problems(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, page) in tree.pages() {
        for (at, start) in page.match_indices("/problems/") {
            let rest = &page[at + start.len()..];
            let name: String =
                rest.chars().take_while(|&letter| letter.is_ascii_lowercase() || letter == '-').collect();
            if !name.is_empty() && Problem::find(&name).is_none() {
                found.push(format!("{path}: there is no problem `{name}`"));
            }
        }
    }
    found
}

/// The long flags of a subcommand and of all below it.
fn flags_of(subcommand: &str) -> Names {
    fn collect(command: &clap::Command, flags: &mut Names) {
        flags.extend(
            command
                .get_arguments()
                .filter_map(|argument| argument.get_long())
                .map(|long| format!("--{long}")),
        );
        command.get_subcommands().for_each(|inner| collect(inner, flags));
    }
    let mut flags = Names::new();
    let command = Cli::command();
    collect(command.find_subcommand(subcommand).expect("a subcommand"), &mut flags);
    flags
}

/// Each row of the settings has one name in three forms.
fn settings_by_other_names(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for table in tree.pages().flat_map(|(_, page)| markdown::tables(page)) {
        let place = |title| table[0].iter().position(|cell| cell == title);
        let (Some(flag), Some(variable), Some(key)) = (place("flag"), place("variable"), place("TOML key"))
        else {
            continue;
        };
        for row in &table[1..] {
            let word = |place: usize| markdown::spans(&row[place]).next().unwrap_or_default();
            let name = word(flag).trim_start_matches("--");
            let wanted = format!("BOXOFFICE_{}", name.to_ascii_uppercase().replace('-', "_"));
            if word(variable) != wanted || !(word(key) == name || name == "config") {
                found.push(format!(
                    "the settings have `{}` and `{}` for `--{name}`",
                    word(variable),
                    word(key)
                ));
            }
        }
    }
    found
}

/// Flags of the commands beside `serve` are named somewhere; and what stands as a flag by itself is one.
fn flags_of_commands(tree: &Tree) -> Vec<String> {
    // Of other programs, named without them.
    const FOREIGN: [&str; 1] = ["--aof-load-truncated"];
    let all: Names = ["serve", "sale", "booking", "audit", "top", "rehearse", "config", "nginx"]
        .into_iter()
        .flat_map(flags_of)
        .collect();
    let mut told = Names::new();
    let mut found = Vec::new();
    for (path, page) in tree.pages().filter(|(path, _)| *path == "README.md" || path.starts_with("docs/")) {
        let (blocks, prose) = markdown::split(page);
        for span in markdown::spans(&prose) {
            let flags = span.split([' ', '[', ']', '=']).filter(|word| word.starts_with("--"));
            told.extend(flags.map(str::to_owned));
            let flag = span.split([' ', '=']).next().unwrap_or_default();
            if flag.starts_with("--") && !all.contains(flag) && !FOREIGN.contains(&flag) {
                found.push(format!("{path}: there is no flag `{flag}`"));
            }
        }
        for line in blocks.iter().flat_map(|block| &block.lines).filter(|line| line.contains("boxoffice ")) {
            told.extend(line.split([' ', '=']).filter(|word| word.starts_with("--")).map(str::to_owned));
        }
    }
    found.extend(all.difference(&told).map(|flag| format!("no page has the flag `{flag}`")));
    found
}

/// `make x` in a page is in the Makefile, and what the Makefile has a line of help for is in CONTRIBUTING.
fn targets_of_make(tree: &Tree) -> Vec<String> {
    let makefile = tree.text("Makefile");
    let targets: Names = makefile
        .lines()
        .filter_map(|line| line.split_once(": ").or(line.split_once(':')))
        .filter(|(name, _)| {
            !name.is_empty() && name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-')
        })
        .map(|(name, _)| name.to_owned())
        .collect();
    let mut found = Vec::new();
    for (path, page) in tree.pages() {
        let (_, prose) = markdown::split(page);
        for span in markdown::spans(&prose) {
            let Some(rest) = span.strip_prefix("make ") else { continue };
            let target = rest.split(' ').next().unwrap_or_default();
            if !targets.contains(target) {
                found.push(format!("{path}: there is no `make {target}`"));
            }
        }
    }
    let contributing = tree.text("CONTRIBUTING.md");
    for line in makefile.lines().filter(|line| line.contains(" ## ")) {
        let target = line.split(':').next().unwrap_or_default();
        if !["help", "fmt"].contains(&target) && !contributing.contains(&format!("`make {target}")) {
            found.push(format!("CONTRIBUTING.md does not have `make {target}`"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Names {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_name_that_one_side_has_alone_is_found() {
        let found = compare("limit", &names(&["a", "b"]), &names(&["b", "c"]));
        assert_eq!(
            found,
            ["no page has `a` in a column limit", "a page has `c` in a column limit: there is none"]
        );
    }

    /// Planted in a copy of the real tree, a drift of each kind is found, and it alone.
    #[test]
    fn each_kind_that_the_pages_lose_or_invent_is_found() {
        for (title, all) in kinds(&Tree::read()) {
            let tree = Tree::read();
            let told = markdown::column(tree.pages(), title);
            assert_eq!(compare(title, &all, &told), [""; 0]);
            assert!(all.len() > 5, "{title}: {all:?}");
            let first = all.first().expect("some").clone();
            let mut fewer = told.clone();
            fewer.remove(&first);
            assert_eq!(compare(title, &all, &fewer).len(), 1, "{title}");
            let page = format!("| {title} |\n| --- |\n| `never-heard-of` |\n");
            let more = markdown::column(tree.pages().chain([("docs/more.md", page.as_str())]), title);
            assert_eq!(compare(title, &all, &more).len(), 1, "{title}");
        }
    }

    #[test]
    fn requests_that_one_side_has_alone_are_found() {
        let page = Tree::read().text("docs/operating.md").to_owned();
        let all = requests(openapi::OPERATORS);
        assert_eq!(compare("request", &all, &requests_told(&page)), [""; 0]);
        for (there, planted) in
            [("`POST /v1/drain`", "`POST /v1/drown`"), ("`PUT /v1/sales/{sale}`", "`PATCH /v1/sales/{sale}`")]
        {
            assert_eq!(
                compare("request", &all, &requests_told(&page.replace(there, planted))).len(),
                2,
                "{planted}"
            );
        }
    }

    #[test]
    fn metrics_are_read_off_their_source() {
        let source = "encoder.encode_descriptor(name, help, None, kind)?;\n\
            encoder.encode_descriptor(\"a\", help, None, MetricType::Counter)?;\n\
            self.each_core(encoder, (\"b\", \"Some (of them)\", Gauge), |core| 1)?;\n\
            self.histogram(\n encoder,\n (\"c\", \"How long\"), |core| 1)\n#[cfg(test)]\nencode_descriptor(\"d\")";
        assert_eq!(metrics(source), names(&["boxoffice_a_total", "boxoffice_b", "boxoffice_c_seconds"]));
    }

    #[test]
    fn a_metric_and_a_problem_that_nobody_has_are_found() {
        let page =
            "`boxoffice_a_total`, boxoffice_b and `boxoffice_`; /problems/sold-out, /problems/sold-in\n";
        let source = "encoder.encode_descriptor(\"a\", help, None, MetricType::Counter)?;";
        let tree = Tree::of(&[("docs/a.md", page), ("src/admin/metrics.rs", source)]);
        assert_eq!(unknown_metrics(&tree), ["docs/a.md: there is no metric `boxoffice_b`"]);
        assert_eq!(unknown_problems(&tree), ["docs/a.md: there is no problem `sold-in`"]);
    }

    #[test]
    fn a_setting_of_another_name_is_found() {
        let page = "| flag | variable | TOML key |\n| --- | --- | --- |\n| `--no-pin` | `BOXOFFICE_NOPIN` | `no-pin` |\n";
        let found = settings_by_other_names(&Tree::of(&[("docs/a.md", page)]));
        assert_eq!(found, ["the settings have `BOXOFFICE_NOPIN` and `no-pin` for `--no-pin`"]);
    }

    #[test]
    fn flags_that_are_not_documented_or_not_there_are_found() {
        let found = flags_of_commands(&Tree::of(&[("docs/a.md", "`--wait` and `--json`\n")]));
        assert_eq!(found[0], "docs/a.md: there is no flag `--wait`");
        assert!(found.contains(&"no page has the flag `--metrics`".to_owned()), "{found:?}");
        assert!(!found.contains(&"no page has the flag `--json`".to_owned()), "{found:?}");
    }

    #[test]
    fn targets_of_make_that_one_side_has_alone_are_found() {
        let makefile = "test: lint ## All\nlint: ## Some\n";
        let tree = Tree::of(&[("Makefile", makefile), ("CONTRIBUTING.md", "`make test`, `make tset X=1`\n")]);
        let found = targets_of_make(&tree);
        assert_eq!(
            found,
            ["CONTRIBUTING.md: there is no `make tset`", "CONTRIBUTING.md does not have `make lint`"]
        );
    }
}

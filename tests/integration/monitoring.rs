//! What is measured, and what is made of it: promtool on the page of metrics and on the alerts, and each query of
//! `docs/monitoring/` against a host's page.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::crowd::rush;
use crate::support::host::Host;
use crate::support::turn;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What promtool says; panics unless it is content.
#[track_caller]
fn promtool(words: &[&str], input: &str) -> String {
    let mut promtool = Command::new("promtool");
    promtool
        .args(words)
        .current_dir(folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let started = promtool.spawn();
    let mut promtool = started.unwrap_or_else(|error| panic!("promtool: {error} (`make setup` installs it)"));
    promtool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
    assert!(output.status.success(), "promtool {words:?}: {}\n{said}", output.status);
    said
}

/// A host that has sold and refused.
fn host(folder: &Path) -> Host {
    let host = Host::start(folder, &["--sale", "ticket=10", "--access-log", "access.log"]);
    rush(&[host.address], "ticket", 2, 20, 2);
    host
}

fn page(host: &Host, accept: &str) -> (String, String) {
    let mut operator = host.operator();
    operator.send(format!("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n{accept}\r\n")).unwrap();
    let answer = operator.receive().unwrap().expect(200);
    (answer.field("content-type").unwrap().to_owned(), answer.text().to_owned())
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let (content_type, text) = page(&host, "");
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(promtool(&["check", "metrics"], &text), "");
    assert!(text.contains("# TYPE boxoffice_requests_total counter\n"), "{text}");

    // As Prometheus asks.
    let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                  text/plain;version=0.0.4;q=0.3,*/*;q=0.2\r\n";
    let (content_type, open) = page(&host, accept);
    assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.ends_with("# EOF\n"), "{open}");
    let samples = |page: &str| -> BTreeSet<String> {
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(samples(&open), samples(&text));
}

/// More sales than that have no series of their own; those that have some are the same each time, and all are counted.
#[test]
fn the_page_is_bounded_however_many_sales_there_are() {
    use boxoffice::limits::SALES_MEASURED_MAX;
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> =
        (0..SALES_MEASURED_MAX + 5).map(|number| format!("sale-{number:06}=1")).collect();
    let words: Vec<&str> = names.iter().flat_map(|name| ["--sale", name]).collect();
    let host = Host::start(folder.path(), &words);
    let (_, text) = page(&host, "");
    let listed = text.lines().filter(|line| line.starts_with("boxoffice_tickets{")).count();
    assert_eq!(listed, 3 * SALES_MEASURED_MAX);
    assert!(text.contains(&format!("\nboxoffice_sales {}\n", names.len())));
    let last = SALES_MEASURED_MAX - 1;
    assert!(
        text.contains(&format!("sale=\"sale-{last:06}\""))
            && !text.contains(&format!("sale=\"sale-{:06}\"", last + 1))
    );
}

/// `- alert: NAME` or `alertname: NAME`.
fn named<'a>(text: &'a str, before: &str) -> BTreeSet<&'a str> {
    text.lines().filter_map(|line| line.split_once(before)).map(|(_, name)| name.trim()).collect()
}

#[test]
fn alerts_fire_when_they_should() {
    promtool(&["check", "rules", "alerts.yml"], "");
    promtool(&["test", "rules", "alerts_test.yml"], "");
    let (alerts, tests, page) =
        (read("docs/monitoring/alerts.yml"), read("docs/monitoring/alerts_test.yml"), read("docs/alerts.md"));
    let all = named(&alerts, "- alert: ");
    assert!(all.len() > 5);
    // Each with what is expected of it.
    let expected: BTreeSet<_> = tests
        .split("alertname: ")
        .filter_map(|rest| rest.split_once("\n        exp_alerts:").map(|(name, _)| name))
        .collect();
    assert_eq!(expected, all);
    let headings = named(&page, "### ");
    assert_eq!(headings, all, "what to do about each");
    for alert in all {
        let runbook = format!("runbook: docs/alerts.md#{}\n", alert.to_ascii_lowercase());
        assert!(alerts.contains(&runbook), "{alert}");
    }
}

/// A metric in a query, with its label matchers.
#[derive(Debug)]
struct Selector {
    metric: String,
    matchers: Vec<(String, String)>,
}

/// All that name a metric of ours.
fn selectors(query: &str) -> Vec<Selector> {
    let starts = query.match_indices("boxoffice_").map(|(at, _)| &query[at..]);
    let selector = |rest: &str| {
        let end =
            rest.find(|letter: char| !letter.is_ascii_lowercase() && letter != '_').unwrap_or(rest.len());
        let (metric, rest) = rest.split_at(end);
        let inside =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        let matcher = |text: &str| {
            let (label, rest) = text.split_at(text.find(['=', '!']).unwrap());
            let value = rest.trim_start_matches(['=', '!', '~']).trim_matches('"');
            (label.trim().to_owned(), value.to_owned())
        };
        let matchers = inside.split(',').filter(|text| !text.trim().is_empty()).map(matcher).collect();
        Selector { metric: metric.to_owned(), matchers }
    };
    starts.map(selector).collect()
}

/// Each metric of a page, with each label and its values.
fn measured(page: &str) -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let mut measured: BTreeMap<_, BTreeMap<_, BTreeSet<_>>> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (metric, labels) = series.split_once('{').unwrap_or((series, "}"));
        let known = measured.entry(metric.to_owned()).or_default();
        for label in labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once('=').unwrap();
            known.entry(label.to_owned()).or_default().insert(value.trim_matches('"').to_owned());
        }
    }
    measured
}

/// Why a query asks for what no host tells.
fn unknown(query: &str, page: &str) -> Vec<String> {
    let measured = measured(page);
    // What Prometheus adds to each series, and to a rule's result.
    let of_prometheus = ["instance", "job"];
    let mut found = Vec::new();
    for Selector { metric, matchers } in selectors(query) {
        let Some(labels) = measured.get(&metric) else {
            found.push(format!("{metric}: no host tells it"));
            continue;
        };
        for (label, value) in matchers.iter().filter(|(label, _)| !of_prometheus.contains(&label.as_str())) {
            match labels.get(label) {
                None => found.push(format!("{metric} has no label {label}")),
                Some(_) if value.starts_with('$') => {}
                Some(values) => found.extend(
                    value
                        .split('|')
                        .filter(|value| !values.contains(*value))
                        .map(|value| format!("{metric} has no {label} {value}")),
                ),
            }
        }
        for by in query.split("by (").skip(1).filter_map(|rest| rest.split(')').next()) {
            let by = by.split(',').map(str::trim).filter(|label| !of_prometheus.contains(label));
            found.extend(
                by.filter(|label| !labels.contains_key(*label))
                    .map(|label| format!("{metric} has no label {label}")),
            );
        }
    }
    found
}

/// An expression of a rule, in one line or in a block: what follows in the rule is indented less than the block.
fn expression(rest: &str) -> String {
    let lines = rest
        .lines()
        .take_while(|line| !["        for:", "        labels:"].iter().any(|next| line.starts_with(next)));
    lines.collect::<Vec<_>>().join(" ")
}

/// The queries of the Grafana dashboard, those of its variables included.
fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn alerts_and_panels_ask_for_what_hosts_tell() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let (_, page) = page(&host, "");
    for wrong in [
        "rate(boxoffice_request_total[5m])",
        "boxoffice_requests_total{outcome=\"sold out\"}",
        "boxoffice_unable{reason=~\"tls|shy\"}",
        "boxoffice_tickets{product=\"a\"}",
        "sum by (core) (boxoffice_tickets)",
    ] {
        assert_ne!(unknown(wrong, &page), [""; 0], "{wrong}");
    }
    let alerts = read("docs/monitoring/alerts.yml");
    let expressions: Vec<_> = alerts.split("        expr: ").skip(1).map(expression).collect();
    assert_eq!(expressions.len(), named(&alerts, "- alert: ").len());
    for expression in expressions.iter().filter(|expression| !expression.starts_with("up{")) {
        assert!(!selectors(expression).is_empty(), "{expression}");
        assert_eq!(unknown(expression, &page), [""; 0], "{expression}");
    }

    let dashboard: Value = serde_json::from_str(&read("docs/monitoring/grafana.json")).unwrap();
    let queries = queries(&dashboard);
    assert!(queries.len() > 10);
    let mut rules = "groups:\n- name: panels\n  rules:\n".to_owned();
    for (number, query) in queries.iter().enumerate() {
        assert_eq!(unknown(query, &page), [""; 0], "{query}");
        // As Grafana sends it.
        let sent =
            query.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$sale", "ticket");
        assert!(!sent.contains('$'), "{sent}");
        rules.push_str(&format!(
            "  - record: panel:{number}\n    expr: {}\n",
            serde_json::to_string(&sent).unwrap()
        ));
    }
    let file = folder.path().join("panels.yml");
    std::fs::write(&file, rules).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()], "");
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let query = variable["query"].as_str().unwrap();
        assert_eq!(unknown(query, &page), [""; 0], "{query}");
    }
}

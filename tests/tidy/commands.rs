//! The commands and settings that pages show: they parse, and what needs no server prints what the pages say.

use boxoffice::api::Problem;
use boxoffice::cli::{Cli, Command};
use boxoffice::config::{Config, Words};
use clap::{CommandFactory, Parser};
use serde_json::Value;

use crate::markdown::{self, Block};
use crate::tree::Tree;

/// A machine of two CPUs, as the pages have it.
const MACHINE: [usize; 2] = [0, 1];

/// What is wrong with the examples of all pages.
pub fn differences(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, page) in tree.pages() {
        let (blocks, prose) = markdown::split(page);
        for block in &blocks {
            let wrong = match block.language.as_str() {
                "console" => console(block),
                "toml" => settings(&block.lines.join("\n")).err().into_iter().collect(),
                _ => Vec::new(),
            };
            found.extend(wrong.into_iter().map(|wrong| format!("{path}: {wrong}")));
        }
        let named = markdown::spans(&prose).filter_map(|span| named(span).err());
        found.extend(named.map(|wrong| format!("{path}: {wrong}")));
    }
    found.extend(defaults(tree));
    found.extend(nginx_upstream(tree.text("nginx/boxoffice.conf")).err());
    found
}

/// A block of commands and what they print.
fn console(block: &Block) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = block.lines.iter().peekable();
    while let Some(line) = lines.next() {
        let Some(mut command) = line.strip_prefix("$ ").map(str::to_owned) else { continue };
        while command.ends_with('\\') {
            command.pop();
            command.push_str(lines.next().map_or("", |line| line.trim_start()));
        }
        let mut output = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
            output.push(line.as_str());
        }
        let output = output.join("\n");
        for part in command.split(" && ").flat_map(|part| part.split(" | ")) {
            found.extend(run(part.trim_end_matches(" &"), &output).err());
        }
        found.extend(problems(&output));
    }
    found
}

/// Parses a command of ours, and compares what it prints where that needs no server.
fn run(command: &str, output: &str) -> Result<(), String> {
    let words = words(command);
    let own = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["boxoffice", rest @ ..] | ["cargo", "run", "--release", "--", rest @ ..] => rest.len(),
        _ => return Ok(()),
    };
    let own = std::iter::once("boxoffice".to_owned()).chain(words[words.len() - own..].iter().cloned());
    let cli = Cli::try_parse_from(own).map_err(|error| format!("`{command}`: {error}"))?;
    let printed = match cli.command {
        Command::Nginx(flags) => {
            let mut printed = Vec::new();
            flags.run(&mut printed).expect("a Vec takes every byte");
            String::from_utf8(printed).expect("text")
        }
        Command::Serve(flags) => {
            let no_file = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
            match flags.config(&|_| None, &no_file, &MACHINE) {
                Ok(_) => return Ok(()),
                Err(error) => format!("boxoffice: {error}\n"),
            }
        }
        _ => return Ok(()),
    };
    if printed.trim_end() == output.trim_end() {
        return Ok(());
    }
    Err(format!("`{command}` prints\n{printed}and the page says\n{output}"))
}

/// The words of a shell's line: quotes are taken off, nothing else is read.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            (None, ' ') => words.push(String::new()),
            _ => words.last_mut().expect("never empty").push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Problem documents in an output have the title, the status and the explanation of their type.
fn problems(output: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in output.lines().filter(|line| line.starts_with(r#"{"type":"#)) {
        let Ok(document) = serde_json::from_str::<Value>(line) else {
            found.push(format!("this is not JSON: {line}"));
            continue;
        };
        let name = document["type"].as_str().unwrap_or_default().trim_start_matches("/problems/");
        let told = |field: &str| document[field].as_str().unwrap_or_default();
        let text = if told("explanation").is_empty() { told("detail") } else { told("explanation") };
        let agrees = Problem::find(name).is_some_and(|problem| {
            told("title") == problem.title
                && document["status"] == problem.status().code()
                && text == problem.explanation
        });
        if !agrees {
            found.push(format!("the problem `{name}` is told otherwise: {line}"));
        }
    }
    found
}

/// A TOML file that `serve` takes.
fn settings(text: &str) -> Result<(), String> {
    let words = Words::from_toml("boxoffice.toml".as_ref(), text).map_err(|error| error.to_string())?;
    Config::read(&Words::default(), &|_| None, Some(&words), &MACHINE).map_err(|error| error.to_string())?;
    Ok(())
}

/// `boxoffice sale open NAME --stock N` in running text: there is such a command, and it has these flags.
fn named(span: &str) -> Result<(), String> {
    let Some(rest) = span.strip_prefix("boxoffice ") else { return Ok(()) };
    let mut command = Cli::command();
    command.build();
    let mut command = &command;
    for word in rest.split([' ', '[', ']']).filter(|word| !word.is_empty()) {
        if let Some(inner) = command.find_subcommand(word) {
            command = inner;
        } else if let Some(long) = word.strip_prefix("--") {
            let long = long.split('=').next().unwrap_or(long);
            if !command.get_arguments().any(|argument| argument.get_long() == Some(long)) && long != "help" {
                return Err(format!("`{span}`: `{}` has no --{long}", command.get_name()));
            }
        } else if command.has_subcommands() {
            return Err(format!("`{span}`: there is no command {word}"));
        }
    }
    Ok(())
}

/// The defaults in the table of settings are those of the program.
fn defaults(tree: &Tree) -> Vec<String> {
    let mut told = Words::default();
    for table in tree.pages().flat_map(|(_, page)| markdown::tables(page)) {
        let place = |title| table[0].iter().position(|cell| cell == title);
        let (Some(flag), Some(default)) = (place("flag"), place("default")) else { continue };
        for row in &table[1..] {
            let name = markdown::spans(&row[flag]).next().unwrap_or_default().trim_start_matches("--");
            if let Some(value) = markdown::spans(&row[default]).next() {
                told.flag(name, value);
            }
        }
    }
    let read = |words: &Words| Config::read(words, &|_| None, None, &MACHINE);
    match (read(&told), read(&Words::default())) {
        (Ok(told), Ok(own)) if told == own => Vec::new(),
        (told, own) => vec![format!("the defaults of the settings are {own:?}, and the page says {told:?}")],
    }
}

/// The upstream of `nginx/boxoffice.conf` is what `boxoffice nginx` prints for its hosts.
fn nginx_upstream(conf: &str) -> Result<(), String> {
    let lines = conf.lines().map(|line| line.split('#').next().unwrap_or(line).trim_end());
    let block: Vec<&str> = lines
        .skip_while(|line| !line.starts_with("upstream "))
        .take_while(|line| *line != "server {" && !line.starts_with("map "))
        .filter(|line| !line.is_empty())
        .collect();
    let servers = block.iter().filter_map(|line| line.trim().strip_prefix("server "));
    let hosts = servers.filter_map(|server| {
        let (address, rest) = server.split_once(" weight=")?;
        Some(format!("--host {address}={}", rest.split(' ').next()?))
    });
    run(&format!("boxoffice nginx {}", hosts.collect::<Vec<_>>().join(" ")), &block.join("\n"))
        .map_err(|wrong| format!("nginx/boxoffice.conf: {wrong}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences_of(page: &str) -> Vec<String> {
        let (blocks, _) = markdown::split(page);
        blocks.iter().flat_map(console).collect()
    }

    fn upstream() -> String {
        let page = Tree::read();
        let page = page.text("docs/operating.md");
        let at = page.find("$ boxoffice nginx").expect("the example");
        format!("```console\n{}```\n", page[at..].split("```").next().unwrap())
    }

    #[test]
    fn an_output_that_has_changed_is_found() {
        assert_eq!(differences_of(&upstream()), [""; 0]);
        let found = differences_of(&upstream().replace("max_fails=1", "max_fails=3"));
        assert!(found.len() == 1 && found[0].contains("prints"), "{found:?}");
        let found = differences_of(&upstream().replace("    zone boxoffice 128k;\n", ""));
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn a_command_that_does_not_parse_is_found() {
        let page = |command: &str| format!("```console\n$ true && {command} &\n```\n");
        assert_eq!(differences_of(&page("boxoffice sale set a --stock +5 --hold none")), [""; 0]);
        for wrong in ["boxoffice sale set a", "boxoffice serve --wait", "cargo run --release -- audti ticket"]
        {
            assert_eq!(differences_of(&page(wrong)).len(), 1, "{wrong}");
        }
    }

    #[test]
    fn an_error_that_reads_otherwise_is_found() {
        let line = "boxoffice: --cores: \"0-9\" names CPU 2, which this machine does not have (or this process may not use); \
            it has 0-1";
        let page = |line: &str| format!("```console\n$ boxoffice serve --cores 0-9\n{line}\n```\n");
        assert_eq!(differences_of(&page(line)), [""; 0]);
        assert_eq!(differences_of(&page(&line.replace("CPU 2", "CPU 3"))).len(), 1);
    }

    #[test]
    fn a_problem_told_otherwise_is_found() {
        let page = Tree::read().text("docs/api.md").to_owned();
        assert_eq!(differences_of(&page), [""; 0]);
        assert_eq!(differences_of(&page.replace("Buyer limit reached", "Buyer limit")).len(), 1);
    }

    #[test]
    fn settings_that_serve_does_not_take_are_found() {
        assert_eq!(settings("sale = [\"a=1\"]\n[limit]\nidle-time = \"1m\"\n"), Ok(()));
        assert!(settings("lisen = \"127.0.0.1:1\"\n").is_err());
        assert!(settings("buffer = 11\n").is_err());
    }

    #[test]
    fn a_command_in_running_text_that_is_none_is_found() {
        for right in [
            "boxoffice sale list [--json]",
            "boxoffice serve --help",
            "boxoffice nginx --host A=1",
            "make boxoffice",
        ] {
            assert_eq!(named(right), Ok(()));
        }
        for wrong in ["boxoffice sale lits", "boxoffice sale list --jsno", "boxoffice guests"] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_default_told_otherwise_is_found() {
        let page = |value: &str| {
            format!(
                "| flag | default |\n| --- | --- |\n| `--weight` | `{value}` |\n| `--access-log` | none |\n"
            )
        };
        assert_eq!(defaults(&Tree::of(&[("docs/a.md", &page("1"))])), [""; 0]);
        assert_eq!(defaults(&Tree::of(&[("docs/a.md", &page("2"))])).len(), 1);
    }

    #[test]
    fn an_upstream_that_differs_is_found() {
        let conf = Tree::read().text("nginx/boxoffice.conf").to_owned();
        assert_eq!(nginx_upstream(&conf), Ok(()));
        assert!(nginx_upstream(&conf.replace("keepalive 256", "keepalive 64")).is_err());
    }
}

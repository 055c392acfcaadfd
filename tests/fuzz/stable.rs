//! The fuzz targets on stable Rust: every input of the corpus, then mutations of them from a seed that is printed.
//!
//! `FUZZ_SEED` is for another seed, `FUZZ_CASES` says how many mutations each target gets. An input that fails is written to
//! `target/tmp/`, and is a file for the target's corpus once the product is mended.

mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use targets::TARGETS;

/// Mutations of each target where `FUZZ_CASES` does not say: together they take seconds.
const CASES: u64 = 10_000;

/// The seed where `FUZZ_SEED` does not say: the same in every run, so that a change is blamed for what it did alone.
/// Looking further is what `make fuzz` and other seeds are for.
const SEED: u64 = 1;

/// Longest input that is made.
const INPUT_BYTES_MAX: usize = 4_096;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// The files of the target's corpus, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = directory().join("corpus").join(name);
    let entries =
        std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(paths.len() >= 8, "{} has hardly anything in it", directory.display());
    paths.iter().map(|path| std::fs::read(path).expect("a file of the corpus")).collect()
}

/// The words of the target's dictionary, which has a `"word"` a line.
fn dictionary(name: &str) -> Vec<Vec<u8>> {
    let path = directory().join("dictionaries").join(format!("{name}.dict"));
    let Ok(text) = std::fs::read_to_string(path) else { return Vec::new() };
    let quoted = |line: &str| Some(unescape(line.trim().strip_prefix('"')?.strip_suffix('"')?));
    text.lines().filter_map(quoted).collect()
}

/// libFuzzer's escapes: `\\`, `\"` and `\xAB`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let escaped = if byte == b'\\' { rest.next() } else { None };
        bytes.push(match escaped {
            None => byte,
            Some(b'x') => {
                let digits = [rest.next(), rest.next()].map(|digit| digit.expect("two digits"));
                u8::from_str_radix(std::str::from_utf8(&digits).expect("digits"), 16).expect("digits")
            }
            Some(byte) => byte,
        });
    }
    bytes
}

/// Changes `input` in one of the ways in which fuzzers do.
fn mutate(input: &mut Vec<u8>, random: &mut StdRng, corpus: &[Vec<u8>], dictionary: &[Vec<u8>]) {
    let at = random.random_range(0..=input.len());
    let end = random.random_range(at..=input.len().min(at + 32));
    match random.random_range(0..8) {
        0 => input.insert(at, random.random()),
        1 if at < input.len() => input[at] = random.random(),
        2 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        3 => drop(input.drain(at..end)),
        4 => {
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        5 => {
            let other = corpus.choose(random).expect("a corpus");
            let from = random.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let byte = [random.random()];
            let word = dictionary.choose(random).map_or(&byte[..], |word| word);
            input.splice(at..if random.random() { at } else { end }, word.iter().copied());
        }
    }
    input.truncate(INPUT_BYTES_MAX);
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} takes a number, not {text:?}")))
}

fn fuzz(name: &str) {
    let seed = number("FUZZ_SEED").unwrap_or(SEED);
    println!("{name}: FUZZ_SEED={seed}");
    let check = |input: &[u8], which: &str| {
        if catch_unwind(AssertUnwindSafe(|| targets::run(name, input))).is_err() {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
            std::fs::write(&path, input).expect("the failing input is written");
            panic!("{name}, {which} of FUZZ_SEED={seed}, in {}: {}", path.display(), input.escape_ascii());
        }
    };
    let corpus = corpus(name);
    for (index, input) in corpus.iter().enumerate() {
        check(input, &format!("file {index}"));
    }
    let dictionary = dictionary(name);
    for case in 0..number("FUZZ_CASES").unwrap_or(CASES) {
        // Each case has a seed of its own, so that one replays without those before it.
        let mut random = StdRng::seed_from_u64(seed ^ case.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut input = corpus.choose(&mut random).expect("a corpus").clone();
        for _ in 0..random.random_range(1..6) {
            mutate(&mut input, &mut random, &corpus, &dictionary);
        }
        check(&input, &format!("case {case}"));
    }
}

macro_rules! each {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        $(#[test]
        fn $name() {
            fuzz(stringify!($name));
        })*
    };
}

each!(requests connection chunks peer replies session bodies settings access_log streams proxied);

#[test]
fn every_target_is_run_here_and_by_cargo_fuzz() {
    assert_eq!(TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), NAMES);
    let manifest = std::fs::read_to_string(directory().join("Cargo.toml")).expect("the fuzzers' manifest");
    for name in NAMES {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is no binary");
        let path = directory().join(format!("fuzz_targets/{name}.rs"));
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(text.contains(&format!("run(\"{name}\"")), "{} runs another", path.display());
    }
}

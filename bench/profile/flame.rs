//! Draws what `perf script` prints as flame graphs, one a thread: `bench/profile/flamegraph.py` calls it.
//!
//! Reads standard input as `perf script --no-inline -F comm,tid,ip,sym,dso` writes it. Addresses of the profiled binary
//! are looked up here, with the functions that were inlined there: in a release nearly all of them were. Writes for each
//! thread `NAME.svg`, and for all of them `top.md`: the functions in which the time went.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, BufRead};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use addr2line::Context;
use clap::Parser;
use gimli::{Dwarf, EndianSlice, LittleEndian};
use inferno::flamegraph::color::{MultiPalette, Palette};
use inferno::flamegraph::{self, Options};
use object::{Object, ObjectSection, ObjectSegment};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Rows of each table of `top.md`.
const ROWS: usize = 40;

/// Draw the output of `perf script` as a flame graph for each thread.
#[derive(Parser)]
struct Arguments {
    /// The binary that was profiled, with its debug information
    #[arg(long)]
    binary: PathBuf,
    /// What was measured, for the titles
    #[arg(long)]
    title: String,
    /// Folder to write to
    #[arg(long)]
    out: PathBuf,
}

/// The stacks of one thread, each with how often it was met: functions outermost first, apart by semicolons.
type Stacks = BTreeMap<String, u64>;

type Functions = Context<EndianSlice<'static, LittleEndian>>;

/// Names of functions by address.
struct Names {
    binary: PathBuf,
    /// Of each segment: the bytes of the file, and the address of the first one.
    segments: Vec<(Range<u64>, u64)>,
    functions: Functions,
    known: HashMap<u64, Vec<String>>,
}

impl Names {
    fn open(binary: &Path) -> Outcome<Names> {
        let bytes = std::fs::read(binary).map_err(|error| format!("{}: {error}", binary.display()))?;
        // Names point into them for as long as this runs.
        let bytes: &'static [u8] = bytes.leak();
        let file = object::File::parse(bytes)?;
        let section = |id: gimli::SectionId| -> Outcome<_> {
            let data = file.section_by_name(id.name()).map(|section| section.data()).transpose()?;
            Ok(EndianSlice::new(data.unwrap_or_default(), LittleEndian))
        };
        let functions = Context::from_dwarf(Dwarf::load(section)?)?;
        let segment = |segment: object::Segment<'_, '_>| {
            let (start, length) = segment.file_range();
            (start..start + length, segment.address())
        };
        let segments = file.segments().map(segment).collect();
        Ok(Names { binary: binary.canonicalize()?, segments, functions, known: HashMap::new() })
    }

    /// The functions at one frame of a stack, outermost first: one, and those that were inlined into it.
    /// perf tells of user space where in the file, not in memory, an instruction is.
    fn of(&mut self, place: u64, is_innermost: bool, symbol: &str, object: &str) -> Vec<String> {
        if object.starts_with('[') {
            // `_[k]` behind a name is how flame graphs mark the kernel.
            return vec![format!("{}_[k]", clean(symbol))];
        }
        if Path::new(object) != self.binary {
            let file = Path::new(object).file_name().map_or(object.into(), |name| name.to_string_lossy());
            return vec![match symbol {
                "[unknown]" => format!("[{file}]"),
                symbol => clean(symbol),
            }];
        }
        // A caller's place is the one it returns to, which may be of the next function.
        let place = place.saturating_sub(u64::from(!is_innermost));
        let Names { segments, functions, known, .. } = self;
        let name = || match segments.iter().find(|(bytes, _)| bytes.contains(&place)) {
            Some((bytes, address)) => inlined(functions, place - bytes.start + address, symbol),
            None => vec![clean(symbol)],
        };
        known.entry(place).or_insert_with(name).clone()
    }
}

fn inlined(functions: &Functions, address: u64, symbol: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(mut frames) = functions.find_frames(address).skip_all_loads() {
        while let Ok(Some(frame)) = frames.next() {
            let function = frame.function.as_ref().map(|function| function.demangle());
            let name = function.transpose().ok().flatten();
            names.push(clean(name.as_deref().unwrap_or(symbol)));
        }
    }
    names.reverse();
    if names.is_empty() { vec![clean(symbol)] } else { names }
}

/// A name with semicolons, which types may have (`[u8; 32]`), would be two.
fn clean(name: &str) -> String {
    name.replace(';', ",")
}

/// Reads all samples; gives the stacks of each thread by its name and number.
fn read(input: impl BufRead, names: &mut Names) -> Outcome<BTreeMap<(String, u32), Stacks>> {
    let mut threads: BTreeMap<(String, u32), Stacks> = BTreeMap::new();
    let mut thread = None;
    let mut frames: Vec<(u64, String, String)> = Vec::new();
    for line in input.lines().chain([Ok(String::new())]) {
        let line = line?;
        if line.trim().is_empty() {
            if let Some(thread) = thread.take() {
                let stack: Vec<_> = std::mem::take(&mut frames)
                    .iter()
                    .enumerate()
                    .rev()
                    .flat_map(|(depth, (address, symbol, object))| {
                        names.of(*address, depth == 0, symbol, object)
                    })
                    .collect();
                *threads.entry(thread).or_default().entry(stack.join(";")).or_default() += 1;
            }
        } else if line.starts_with(char::is_whitespace) && thread.is_some() {
            frames.push(read_frame(&line).ok_or_else(|| format!("not a frame: {line:?}"))?);
        } else {
            thread = Some(read_thread(&line).ok_or_else(|| format!("not the head of a sample: {line:?}"))?);
        }
    }
    Ok(threads)
}

/// `loop-0  1234`
fn read_thread(line: &str) -> Option<(String, u32)> {
    let (name, number) = line.trim().trim_end_matches(':').rsplit_once(char::is_whitespace)?;
    Some((name.trim().to_owned(), number.parse().ok()?))
}

/// `55d0c0ffee function (/path/to/object)`
fn read_frame(line: &str) -> Option<(u64, String, String)> {
    let (address, rest) = line.trim().split_once(' ')?;
    let (symbol, object) = rest.rsplit_once(" (")?;
    let address = u64::from_str_radix(address, 16).ok()?;
    Some((address, symbol.to_owned(), object.strip_suffix(')')?.to_owned()))
}

fn draw(title: &str, stacks: &Stacks) -> Outcome<Vec<u8>> {
    let lines: Vec<String> = stacks.iter().map(|(stack, count)| format!("{stack} {count}")).collect();
    let mut options = Options::default();
    options.title = title.to_owned();
    options.colors = Palette::Multi(MultiPalette::Rust);
    options.deterministic = true;
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
    Ok(svg)
}

/// Where a thread's time went: the shares of its samples in which a function was innermost, apart for user space and the
/// kernel; and those in which one of ours, or a call into the kernel, was anywhere in the stack.
fn top(name: &str, stacks: &Stacks) -> String {
    let all: u64 = stacks.values().sum();
    let is_kernel = |name: &str| name.ends_with("_[k]");
    let (mut innermost, mut anywhere): (HashMap<&str, u64>, HashMap<&str, u64>) = Default::default();
    for (stack, count) in stacks {
        let frames: HashSet<&str> = stack.split(';').collect();
        frames.into_iter().for_each(|frame| *anywhere.entry(frame).or_default() += count);
        *innermost.entry(stack.rsplit(';').next().unwrap_or(stack)).or_default() += count;
    }
    anywhere.retain(|name, _| name.starts_with("boxoffice::") || name.starts_with("__x64_sys_"));
    let (kernel, user): (HashMap<_, _>, HashMap<_, _>) =
        innermost.into_iter().partition(|(name, _)| is_kernel(name));
    let share = |count: u64| count as f64 / all as f64 * 100.0;
    let mut text =
        format!("\n## {name}: {all} samples, {:.1} % in the kernel\n", share(kernel.values().sum()));
    for (heading, functions) in [
        ("innermost function, user space", user),
        ("innermost function, kernel", kernel),
        ("function with all that it calls", anywhere),
    ] {
        let mut rows: Vec<_> = functions.into_iter().collect();
        rows.sort_by_key(|&(name, count)| (Reverse(count), name));
        write!(text, "\n| % | {heading} |\n| ---: | --- |\n").expect("a String takes all");
        for (name, count) in rows.into_iter().take(ROWS) {
            writeln!(text, "| {:.2} | `{name}` |", share(count)).expect("a String takes all");
        }
    }
    text
}

fn run(arguments: &Arguments) -> Outcome<()> {
    let mut names = Names::open(&arguments.binary)?;
    let threads = read(io::stdin().lock(), &mut names)?;
    if threads.is_empty() {
        return Err("perf took no sample: was there any load?".into());
    }
    std::fs::create_dir_all(&arguments.out)?;
    let mut tops = format!("# {}\n", arguments.title);
    for ((name, number), stacks) in &threads {
        let same_name = threads.keys().filter(|(other, _)| other == name).count();
        let file = if same_name > 1 { format!("{name}-{number}") } else { name.clone() };
        let svg = draw(&format!("{name}: {}", arguments.title), stacks)?;
        std::fs::write(arguments.out.join(format!("{file}.svg")), svg)?;
        tops.push_str(&top(&file, stacks));
    }
    std::fs::write(arguments.out.join("top.md"), tops)?;
    Ok(())
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flame: {error}");
            ExitCode::FAILURE
        }
    }
}

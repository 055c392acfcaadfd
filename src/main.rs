//! The `boxoffice` command: reads the command line, opens what it names, runs it, and turns the end into an exit status.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use boxoffice::audit::Sources;
use boxoffice::booking::SaleName;
use boxoffice::cli::{
    self, AuditFlags, AuditReport, Cli, Command, CommandError, ConfigFlags, Console, HostFlag, HostOffice,
    LedgerFlag, LedgerOffice, Office, RehearseFlags, Rehearsing, Screen, ServeFlags, Style, TopFlags, TopKey,
    Verdict,
};
use boxoffice::client::{AskHost, HostClient, HostError, HostRequest};
use boxoffice::host::{PassedSockets, Server, signals};
use boxoffice::ledger::{self, Ledger};
use boxoffice::limits::SYNC_INTERVAL_MS;
use boxoffice::rehearsal::{self, CrowdError, Plan, Tally};
use clap::Parser;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use signal_hook::consts::SIGINT;
use tracing_subscriber::EnvFilter;

/// It failed.
const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
const USAGE: u8 = 2;

/// How often `sale log --follow` looks for more.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// How long an audit waits for a host's metrics.
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of them: 100,000 sales, three gauges each, and far more room than that.
const METRICS_BYTES_MAX: u64 = 64 * 1024 * 1024;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("BOXOFFICE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .with_target(false)
        .init();
    match Cli::parse().command {
        Command::Serve(flags) => serve(&flags),
        Command::Sale(flags) => {
            with_office(&flags.ledger, &flags.host, !flags.command.changes(), |office, screen| {
                flags.run(office, screen, &mut Terminal)
            })
        }
        Command::Booking(flags) => {
            with_office(&flags.ledger, &flags.host, !flags.command.changes(), |office, screen| {
                flags.run(office, screen, &mut Terminal)
            })
        }
        Command::Audit(flags) => audit(&flags),
        Command::Hosts(flags) => {
            with_office(&flags.ledger, &flags.host, true, |office, screen| flags.run(office, screen))
        }
        Command::Nginx(flags) if flags.hosts.is_empty() => with_ledger(&flags.ledger, true, |ledger| {
            flags.run_on(ledger, &mut io::stdout().lock()).map(|()| 0)
        }),
        Command::Nginx(flags) => ended(flags.run(&mut io::stdout().lock()).map(|()| 0)),
        Command::Top(flags) => top(&flags),
        Command::Rehearse(flags) => rehearse(&flags),
        Command::Config(flags) => config(&flags),
        Command::Man { folder } => write_manual_pages(&folder),
        Command::Completions { shell } => {
            ended(cli::completions(shell, &mut io::stdout().lock()).map(|()| 0))
        }
    }
}

fn fail(status: u8, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("boxoffice: {}", cli::plain(&error.to_string()));
    ExitCode::from(status)
}

fn ended(outcome: Result<u8, CommandError>) -> ExitCode {
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(error) => match error.exit_status() {
            0 => ExitCode::SUCCESS,
            status => fail(status, &error),
        },
    }
}

fn with_ledger(
    flag: &LedgerFlag,
    reads_only: bool,
    run: impl FnOnce(&mut dyn Ledger) -> Result<u8, CommandError>,
) -> ExitCode {
    match ledger::open(&flag.ledger, &flag.files(), reads_only) {
        Ok(mut ledger) => ended(run(ledger.as_mut())),
        Err(error) if error.is_of_configuration() => fail(USAGE, &error),
        Err(error) => fail(FAILED, &error),
    }
}

/// Runs a command on the ledger, or by the host that was named in its place.
fn with_office(
    ledger: &LedgerFlag,
    host: &HostFlag,
    reads_only: bool,
    run: impl FnOnce(&mut dyn Office, &mut Screen<'_>) -> Result<(), CommandError>,
) -> ExitCode {
    let mut out = io::stdout().lock();
    let mut screen = Screen::new(&mut out, style());
    match &host.admin {
        None => with_ledger(ledger, reads_only, |ledger| {
            run(&mut LedgerOffice::new(ledger), &mut screen).map(|()| 0)
        }),
        Some(address) => match host_client(address, host.admin_token_file.as_deref()) {
            Ok(mut client) => ended(run(&mut HostOffice::new(&mut client), &mut screen).map(|()| 0)),
            Err(status) => status,
        },
    }
}

/// A host, with the token that its file has.
fn host_client(address: &str, token_file: Option<&Path>) -> Result<HostClient, ExitCode> {
    let token = match token_file {
        None => None,
        Some(path) => match std::fs::read_to_string(path) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(error) => {
                return Err(fail(USAGE, &format!("--admin-token-file: {}: {error}", path.display())));
            }
        },
    };
    Ok(HostClient::new(address, token))
}

/// How standard output looks.
fn style() -> Style {
    let is_terminal = io::stdout().is_terminal();
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|kind| kind == "dumb");
    let size = rustix::termios::tcgetwinsize(io::stdout());
    let columns = size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
    Style {
        columns: columns.filter(|_| is_terminal),
        // https://no-color.org
        colours: is_terminal && !is_dumb && !is_set("NO_COLOR"),
    }
}

fn audit(flags: &AuditFlags) -> ExitCode {
    let mut bar = Bar::default();
    let mut told = |progress| bar.audited(progress);
    let mut out = io::stdout().lock();
    let status = |report: AuditReport| if report.differences > 0 { FAILED } else { 0 };
    let Some(address) = &flags.host.admin else {
        return with_ledger(&flags.ledger, !flags.repair, |ledger| {
            flags.run(ledger, &mut out, &FilesAndHosts, &mut told).map(status)
        });
    };
    match host_client(address, flags.host.admin_token_file.as_deref()) {
        Ok(mut client) => {
            let report = flags.run_by_host(&mut client, &mut Screen::new(&mut out, style()), &mut told);
            ended(report.map(status))
        }
        Err(status) => status,
    }
}

fn rehearse(flags: &RehearseFlags) -> ExitCode {
    let client = match host_client(&flags.host.admin, flags.host.admin_token_file.as_deref()) {
        Ok(client) => client,
        Err(status) => return status,
    };
    if let Err(error) = room_for(flags.connections()) {
        return fail(USAGE, &error);
    }
    // A first Ctrl-C lets nobody else in and ends with the report, a second one ends at once.
    let stop = Arc::new(AtomicBool::new(false));
    let is_watched =
        signal_hook::flag::register_conditional_shutdown(SIGINT, FAILED.into(), Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(SIGINT, Arc::clone(&stop)));
    if let Err(error) = is_watched {
        return fail(FAILED, &format!("cannot watch for signals: {error}"));
    }
    let mut world = Stage { flags, client: client.clone(), stop, bar: Bar::default() };
    let threads = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() / 2);
    let (mut out, mut host) = (io::stdout().lock(), client);
    let mut screen = Screen::new(&mut out, style());
    let outcome =
        flags.run(&mut HostOffice::new(&mut host), &mut world, &mut screen, threads.min(CROWD_THREADS_MAX));
    world.bar.end();
    ended(outcome.map(|verdict| if verdict == Verdict::Passed { 0 } else { FAILED }))
}

fn top(flags: &TopFlags) -> ExitCode {
    if !io::stdout().is_terminal() {
        return fail(USAGE, &"this is shown on a terminal; for a program there are /metrics and /v1/events");
    }
    let client = match host_client(&flags.host.admin, flags.host.admin_token_file.as_deref()) {
        Ok(client) => client,
        Err(status) => return status,
    };
    let mut terminal = match ratatui::try_init() {
        Ok(terminal) => terminal,
        Err(error) => return fail(FAILED, &format!("cannot take over the terminal: {error}")),
    };
    let shown = cli::show(&flags.host.admin, &cli::follow(client), &mut terminal, &mut next_key);
    // Before anything is said, which would be lost with the screen.
    ratatui::restore();
    ended(shown.map(|()| 0))
}

/// Rows that Page Up and Page Down go by.
const PAGE_ROWS: i32 = 10;

/// A key that means something to `boxoffice top`, if one comes within so long.
fn next_key(wait: Duration) -> io::Result<Option<TopKey>> {
    if !event::poll(wait)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Some(TopKey::End),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(TopKey::End),
            KeyCode::Up => Some(TopKey::Scroll(-1)),
            KeyCode::Down => Some(TopKey::Scroll(1)),
            KeyCode::PageUp => Some(TopKey::Scroll(-PAGE_ROWS)),
            KeyCode::PageDown => Some(TopKey::Scroll(PAGE_ROWS)),
            _ => None,
        },
        Event::Resize(..) => Some(TopKey::Redraw),
        _ => None,
    })
}

/// Open files beside the crowd's connections: the terminal, a poll and a timer a thread, connections to the admin listener.
const OTHER_DESCRIPTORS: u64 = 64;

/// Makes room for that many connections; else what to do.
fn room_for(connections: usize) -> Result<(), String> {
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).map_err(|error| error.to_string())?;
    match descriptors.saturating_sub(OTHER_DESCRIPTORS) {
        room if room >= connections as u64 => Ok(()),
        room => Err(format!(
            "--connections: {connections} is more than the limit of open files allows, which is {room}; raise it (ulimit -n)"
        )),
    }
}

/// One thread asks some 100,000 times a second: with more than these it is no crowd any more but an attack.
const CROWD_THREADS_MAX: usize = 8;

/// Where a rehearsal takes place.
struct Stage<'a> {
    flags: &'a RehearseFlags,
    client: HostClient,
    stop: Arc<AtomicBool>,
    bar: Bar,
}

/// How long a host may take to hear of a sale that another one opened: many syncs.
const SALE_PATIENCE: Duration = Duration::from_secs(5);

impl Rehearsing for Stage<'_> {
    fn wait_for_sale(&mut self, plan: &Plan) -> Result<(), CommandError> {
        for host in &plan.hosts {
            let mut client = HostClient::new(host.to_string(), None);
            let until = Instant::now() + SALE_PATIENCE;
            let target = format!("/v1/sales/{}", plan.sale);
            let mut ask = || match client.ask(&HostRequest::new("GET", target.as_str())) {
                // It is not by --admin that buyers are sent there.
                Err(HostError::Unreachable { error, .. }) => {
                    Err(CommandError::from(CrowdError::Unreachable(*host, error)))
                }
                answer => Ok(answer?.status),
            };
            while ask()? != 200 {
                if Instant::now() > until {
                    return Err(CommandError::NotThere(*host, self.flags.name));
                }
                std::thread::sleep(FOLLOW_INTERVAL);
            }
        }
        Ok(())
    }

    fn crowd(&mut self, plan: &Plan) -> Result<Tally, CrowdError> {
        let tally = rehearsal::run(plan, &self.stop, &mut |shown| {
            let (done, whole, said) = self.flags.progress(shown);
            self.bar.draw(done, whole, &said);
        });
        self.bar.end();
        tally
    }

    fn give_back(&mut self, plan: &Plan, buyers: &[u64]) -> Result<Tally, CrowdError> {
        rehearsal::give_back(plan, buyers)
    }

    fn audit(&mut self, sale: SaleName) -> Result<serde_json::Value, CommandError> {
        let bar = &mut self.bar;
        cli::audit_by_host(&mut self.client, sale, &mut |progress| bar.audited(progress))
    }
}

/// A bar on standard error, if that is a terminal.
#[derive(Default)]
struct Bar {
    is_drawn: bool,
}

/// Columns of a terminal that does not say how many it has.
const COLUMNS_DEFAULT: usize = 80;

impl Bar {
    fn draw(&mut self, done: u64, whole: u64, said: &str) {
        if io::stderr().is_terminal() {
            let size = rustix::termios::tcgetwinsize(io::stderr());
            let columns = size.map_or(COLUMNS_DEFAULT, |size| usize::from(size.ws_col).max(1));
            eprint!("\r\x1b[K{}", cli::progress_bar(done, whole, said, columns));
            self.is_drawn = true;
        }
    }

    /// How far an audit is; `None` once it is over.
    fn audited(&mut self, progress: Option<(u64, u64)>) {
        match progress {
            Some((rows, whole)) => self.draw(rows, whole, "audited"),
            None => self.end(),
        }
    }

    /// Leaves the line as if nothing had been there.
    fn end(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            eprint!("\r\x1b[K");
        }
    }
}

/// The person who sits at it.
struct Terminal;

impl Console for Terminal {
    fn confirms(&mut self, question: &str) -> bool {
        if !io::stdin().is_terminal() {
            return false;
        }
        eprint!("{} [y/N] ", cli::plain(question));
        let mut line = String::new();
        // An answer that cannot be read is not a yes.
        io::stdin().read_line(&mut line).is_ok() && matches!(line.trim(), "y" | "Y" | "yes")
    }

    fn waits(&mut self) -> bool {
        std::thread::sleep(FOLLOW_INTERVAL);
        true
    }
}

/// What an audit compares with the ledger.
struct FilesAndHosts;

impl Sources for FilesAndHosts {
    fn access_log(&self, path: &Path) -> io::Result<Box<dyn BufRead>> {
        Ok(Box::new(BufReader::new(File::open(path)?)))
    }

    fn metrics(&self, source: &str, again: bool) -> io::Result<String> {
        match source.strip_prefix("http://") {
            Some(rest) => {
                if again {
                    std::thread::sleep(2 * Duration::from_millis(SYNC_INTERVAL_MS));
                }
                get(rest)
            }
            None => std::fs::read_to_string(source),
        }
    }
}

/// The body of what is at `http://ADDRESS/PATH`; HTTP/1.0, so that it ends with the connection.
fn get(address_and_path: &str) -> io::Result<String> {
    let (address, path) = address_and_path.split_once('/').unwrap_or((address_and_path, "metrics"));
    let addresses = address.to_socket_addrs()?.collect::<Vec<_>>();
    let address_tried = addresses.first().ok_or(io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(address_tried, HTTP_TIMEOUT)?;
    stream.set_read_timeout(Some(HTTP_TIMEOUT))?;
    // By its address: a host that is called by a name wants its token.
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {address_tried}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(METRICS_BYTES_MAX).read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        _ => {
            let line: String = answer.lines().next().unwrap_or("nothing").chars().take(80).collect();
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("it answers {line:?}")))
        }
    }
}

fn exit_at_once() -> ! {
    std::process::exit(FAILED.into())
}

fn write_manual_pages(folder: &Path) -> ExitCode {
    let pages = match cli::manual_pages() {
        Ok(pages) => pages,
        Err(error) => return ended(Err(error)),
    };
    for (name, page) in &pages {
        let path = folder.join(name);
        if let Err(error) = std::fs::write(&path, page) {
            return fail(FAILED, &format!("{}: {error}", path.display()));
        }
    }
    println!("wrote {} pages to {}", pages.len(), folder.display());
    ExitCode::SUCCESS
}

/// The CPUs that this process may use.
fn machine() -> Result<Vec<usize>, ExitCode> {
    match core_affinity::get_core_ids() {
        Some(cores) => Ok(cores.into_iter().map(|core| core.id).collect()),
        None => Err(fail(FAILED, &"cannot find out which CPUs this process may use")),
    }
}

fn config(flags: &ConfigFlags) -> ExitCode {
    let machine = match machine() {
        Ok(machine) => machine,
        Err(status) => return status,
    };
    let variable = |name: &str| std::env::var(name).ok();
    match flags.settings(&variable, &|path| std::fs::read_to_string(path), &machine) {
        Ok(settings) => {
            ended(flags.run(&settings, &mut Screen::new(&mut io::stdout().lock(), style())).map(|()| 0))
        }
        Err(error) => fail(USAGE, &error),
    }
}

fn serve(flags: &ServeFlags) -> ExitCode {
    let machine = match machine() {
        Ok(machine) => machine,
        Err(status) => return status,
    };
    let variable = |name: &str| std::env::var(name).ok();
    let config = match flags.config(&variable, &|path| std::fs::read_to_string(path), &machine) {
        Ok(config) => config,
        Err(error) => return fail(USAGE, &error),
    };
    // Before anything is started, so that no signal finds the default and ends the process with work in hand.
    let signals = match signals::SignalWatch::start() {
        Ok(signals) => signals,
        Err(error) => return fail(FAILED, &format!("cannot watch for signals: {error}")),
    };
    let passed = match PassedSockets::take() {
        Ok(passed) => passed,
        Err(error) => return fail(USAGE, &error),
    };
    let server = match Server::start(&config, &machine, passed) {
        Ok(server) => server,
        Err(error) => return fail(error.exit_status(), &error),
    };
    println!("{}", server.banner());
    if let Err(error) = signals.act(server.drain(), server.reload(), exit_at_once) {
        return fail(FAILED, &format!("cannot watch for signals: {error}"));
    }
    server.tell_ready();
    match server.join() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &error),
    }
}

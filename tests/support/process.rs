//! A child process whose output is kept, and which never outlives its test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{PATIENCE, eventually};

/// A running (or ended) program. Dropping it kills it, by its own id.
pub struct Process {
    name: String,
    child: Child,
    lines: Receiver<String>,
    transcript: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command` without an input; panics where the program is missing.
    pub fn start(name: &str, command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error} (`make setup` installs servers)"));
        let transcript = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let readers = vec![
            keep_lines(stdout, Arc::clone(&transcript), move |line| drop(sender.send(line))),
            keep_lines(stderr, Arc::clone(&transcript), drop),
        ];
        Process { name: name.to_owned(), child, lines, transcript, readers }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its standard output; `None` once there is no more of it. Panics after `limit`, or [`PATIENCE`] where
    /// that is longer.
    pub fn next_line(&self, limit: Duration) -> Option<String> {
        let limit = limit.max(PATIENCE);
        match self.lines.recv_timeout(limit) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{} says nothing for {limit:?}:\n{}", self.name, self.said())
            }
        }
    }

    /// All that it said so far, on both outputs.
    pub fn said(&self) -> String {
        self.transcript.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lines that have all of these words, so far.
    pub fn lines_with(&self, words: &[&str]) -> usize {
        self.said().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }

    /// Waits until that many lines have all of these words: what it does is seen before what it says of it has come through
    /// the pipe.
    #[track_caller]
    pub fn expect_lines_with(&self, words: &[&str], count: usize) {
        eventually(&format!("{count} lines with {words:?}"), PATIENCE, || {
            let found = self.lines_with(words);
            assert!(found <= count, "{found} lines with {words:?}, not {count}:\n{}", self.said());
            (found == count).then_some(())
        });
    }

    /// Sends a signal, unless it has ended already.
    pub fn signal(&mut self, signal: i32) {
        if self.status().is_none() {
            let pid = i32::try_from(self.child.id()).expect("process ids are positive i32");
            // SAFETY: kill takes two integers and touches no memory of ours. The child was not waited for yet, so
            // the id is still its own.
            let sent = unsafe { libc::kill(pid, signal) };
            assert_eq!(sent, 0, "signal {signal} to {}", self.name);
        }
        if signal == libc::SIGSTOP {
            // A thread that is at work on another core stops a moment later.
            eventually(&format!("{} stands still", self.name), PATIENCE, || {
                (self.status().is_some() || self.stands_still()).then_some(())
            });
        }
    }

    /// Whether each of its threads is stopped by a signal.
    fn stands_still(&self) -> bool {
        let tasks =
            std::fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let mut states = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
        // proc(5): the state is behind the name, which may have brackets in it.
        states.all(|stat| stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('T'))
    }

    /// How many file descriptors it has open.
    pub fn descriptors(&self) -> u64 {
        let folder = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(folder).expect("a running child has a folder in /proc").count() as u64
    }

    /// Lets it open descriptors below this number only. Those that it has stay as they are.
    pub fn limit_descriptors(&self, most: u64) {
        let pid = i32::try_from(self.child.id()).expect("process ids are positive i32");
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: prlimit reads `new` where it is no null pointer and writes `old` where that is none; both live here.
        let read = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut limit) };
        limit.rlim_cur = most;
        // SAFETY: as above.
        let set = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) };
        assert_eq!((read, set), (0, 0), "{}", std::io::Error::last_os_error());
    }

    /// How much processor time all its threads have used.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        // Fields 14 and 15 in all (proc(5)): user and system time; the second field ends with the last bracket.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
        // SAFETY: sysconf takes an integer and touches no memory of ours.
        let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64)
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        self.wait(Duration::from_secs(10));
    }

    /// How it ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits until it ends, and until all that it said is in [`Process::said`]; panics after `limit`, or [`PATIENCE`] where
    /// that is longer.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let (started, limit) = (Instant::now(), limit.max(PATIENCE));
        let status = loop {
            if let Some(status) = self.status() {
                break status;
            }
            assert!(started.elapsed() < limit, "{} still runs after {limit:?}:\n{}", self.name, self.said());
            std::thread::sleep(Duration::from_millis(2));
        };
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader does not panic");
        }
        status
    }
}

/// Bytes of that process's memory that are resident. By its id, so that any thread can ask.
pub fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, self.said());
        }
    }
}

fn keep_lines(
    output: impl Read + Send + 'static,
    transcript: Arc<Mutex<String>>,
    mut each: impl FnMut(String) + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            let mut transcript = transcript.lock().unwrap_or_else(PoisonError::into_inner);
            transcript.push_str(&line);
            transcript.push('\n');
            drop(transcript);
            each(line);
        }
    })
}

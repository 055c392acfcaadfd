//! A terminal for tests: `tmux` with a server and a socket of its own, which end with the test.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{PATIENCE, eventually};

/// A terminal in which `boxoffice` runs.
pub struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// Of that many columns and 30 lines, in that folder, running `boxoffice` with these words; it stays once that has ended, and
    /// has its exit status as the last line.
    pub fn start(folder: &Path, columns: u16, variables: &[(&str, &str)], words: &[&str]) -> Terminal {
        // The path of a socket has a hundred bytes at most.
        let terminal = Terminal { socket: folder.join("tmux") };
        // Ctrl-C is for the program alone.
        const SCRIPT: &str = "trap : INT; \"$0\" \"$@\"; echo \"ended with $?\"; exec sleep 600";
        let size = columns.to_string();
        let mut command =
            terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &size, "-y", "30", "-c"]);
        command.arg(folder);
        for (name, value) in variables {
            command.args(["-e", &format!("{name}={value}")]);
        }
        command.args(["sh", "-c", SCRIPT, env!("CARGO_BIN_EXE_boxoffice")]).args(words);
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("tmux does not start: {error} (`make setup` installs it)"));
        assert!(output.status.success(), "tmux: {}", String::from_utf8_lossy(&output.stderr));
        terminal
    }

    fn tmux(&self, words: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).args(words).env_remove("TMUX").env("TERM", "xterm");
        // Without it tmux takes nothing for a letter that is none of ASCII.
        command.env("LC_ALL", "C.UTF-8");
        command
    }

    fn said(&self, words: &[&str]) -> String {
        let output = self.tmux(words).output().expect("tmux is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What is on the screen now, colours included if they are asked for.
    pub fn screen(&self, with_colours: bool) -> String {
        self.said(if with_colours { &["capture-pane", "-p", "-e"] } else { &["capture-pane", "-p"] })
    }

    /// Waits until all of these words are on the screen; the screen.
    #[track_caller]
    pub fn expect(&self, words: &[&str]) -> String {
        eventually(&format!("{words:?} on the screen"), PATIENCE, || {
            let screen = self.screen(false);
            words.iter().all(|word| screen.contains(word)).then_some(screen)
        })
    }

    /// Presses keys, as tmux names them.
    pub fn press(&self, keys: &[&str]) {
        assert!(self.tmux(&["send-keys"]).args(keys).status().expect("tmux is there").success());
    }

    /// Makes it another size.
    pub fn resize(&self, columns: u16, lines: u16) {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.said(&["resize-window", "-x", &columns, "-y", &lines]);
    }

    /// Waits until the program has ended; its exit status.
    #[track_caller]
    pub fn wait(&self) -> i32 {
        eventually("the program ends", PATIENCE, || {
            let screen = self.screen(false);
            let (_, status) = screen.rsplit_once("ended with ")?;
            status.split_whitespace().next()?.parse().ok()
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]).output();
    }
}

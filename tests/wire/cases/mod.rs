//! Raw bytes, and what must come of them, as data. The unit tests of the connection read it too, since they see each
//! request as it was understood; this suite sends it to a real boxoffice and a real nginx.
//!
//! Fragmentation: each case is sent whole, byte by byte, and in two fragments at every offset, and the same comes of it;
//! but one that waits for an answer in its middle is sent in these two fragments. RFC numbers name sections: of RFC 9112
//! where no other is given.

/// Lines of the table: `"name" "section": bytes => "answers";`, with `nginx "answers": why` before the semicolon where
/// nginx answers otherwise.
macro_rules! cases {
    ($($name:literal $section:literal: $bytes:expr => $answers:literal $(, nginx $nginx:literal: $why:expr)?;)*) => {
        vec![$(Case {
            name: $name,
            section: $section,
            bytes: AsRef::<[u8]>::as_ref(&$bytes).to_vec(),
            waits_at: None,
            answers: $answers,
            nginx: [$(Nginx::Differs($nginx, $why),)? Nginx::Same][0],
        }),*]
    };
}

mod framing;
mod lines;
mod proxied;
mod sizes;
mod targets;
mod well_formed;
mod why;

/// One line of the table.
pub struct Case {
    /// What is special about it; no other case has the same.
    pub name: &'static str,
    /// The section that says what is right.
    pub section: &'static str,
    /// What the client sends.
    pub bytes: Vec<u8>,
    /// Where the client waits for an answer before it goes on.
    pub waits_at: Option<usize>,
    /// What boxoffice answers, and whether it would take more: `200 GET /buy/a | 400 bare-line-feed | closed`. Behind
    /// a status stands the request that was understood, body included, or the reason of the refusal. `...` says that a
    /// request is still incomplete.
    pub answers: &'static str,
    /// What nginx answers.
    pub nginx: Nginx,
}

/// What nginx answers, in statuses, and whether it would take more.
#[derive(Clone, Copy)]
pub enum Nginx {
    /// The same.
    Same,
    /// This, and why boxoffice answers otherwise.
    Differs(&'static str, &'static str),
    /// It is a matter of boxoffice's resources, which nginx does not have.
    DoesNotApply,
}

/// The table of connections that are to begin with a PROXY header.
pub fn proxied() -> Vec<Case> {
    proxied::cases()
}

/// The whole table of others.
pub fn all() -> Vec<Case> {
    let groups = [
        well_formed::requests(),
        well_formed::resources(),
        well_formed::waiting(),
        lines::cases(),
        targets::cases(),
        framing::lengths(),
        framing::chunks(),
        sizes::cases(),
    ];
    groups.into_iter().flatten().collect()
}

impl Case {
    /// The answers without what was understood: `200 | 400 bare-line-feed | closed`.
    pub fn on_the_wire(&self) -> String {
        let entries = self.answers.split(" | ").map(|entry| match entry.split_once(' ') {
            // Methods are upper case, reasons are not.
            Some((status, what)) if what.starts_with(char::is_uppercase) => status,
            _ => entry,
        });
        entries.collect::<Vec<_>>().join(" | ")
    }

    /// The statuses alone, and whether it would take more: `200 | 400 | closed`.
    pub fn statuses(&self) -> String {
        let entries = self.answers.split(" | ").map(|entry| entry.split(' ').next().unwrap_or_default());
        entries.collect::<Vec<_>>().join(" | ")
    }

    /// Whether a request is still incomplete when all is sent.
    pub fn is_incomplete(&self) -> bool {
        self.answers.contains("...")
    }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// GET with these lines after the request line.
fn get_with(lines: &str) -> String {
    format!("GET /buy/a HTTP/1.1\r\n{lines}\r\n")
}

/// POST with these lines and this body after the request line and Host.
fn post(lines_and_body: &str) -> String {
    format!("POST /buy/p HTTP/1.1\r\nHost: h\r\n{lines_and_body}")
}

fn chunked(body: &str) -> String {
    post(&format!("Transfer-Encoding: chunked\r\n\r\n{body}"))
}

//! `boxoffice top`: a host as it is, in the terminal. It follows the events of the admin listener (`GET /v1/events`), as the
//! dashboard does; what is shown is made in [`view`], and drawn in [`draw`].

mod draw;
mod view;

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::Terminal;
use ratatui::backend::Backend;

use super::{CommandError, OneHostFlag};
use crate::client::{AskHost, HostClient, HostRequest};
use view::HostView;

/// How long a key may wait, and what is new at most is late.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// How long before a host that was lost is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// `boxoffice top`.
#[derive(Debug, Args)]
#[command(after_help = "Keys: q or Esc ends, the arrows and Page Up and Page Down go through the sales.")]
pub struct TopFlags {
    /// Which host.
    #[command(flatten)]
    pub host: OneHostFlag,
}

/// What is heard of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostNews {
    /// The data of an event `host`.
    Event(String),
    /// It cannot be asked, and why.
    Lost(String),
}

/// A key that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopKey {
    /// Show no more.
    End,
    /// Go through the sales by so many, up if that is negative.
    Scroll(i32),
    /// The terminal has another size: draw anew.
    Redraw,
}

/// Follows the host on a thread of its own, for as long as somebody listens; a host that was lost is asked again.
pub fn follow(mut host: HostClient) -> Receiver<HostNews> {
    let (tell, news) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        loop {
            let mut is_heard = true;
            let answer = host.events(&HostRequest::new("GET", "/v1/events"), &mut |name, data| {
                is_heard = name != "host" || tell.send(HostNews::Event(data.to_owned())).is_ok();
                is_heard
            });
            let why = match answer {
                Ok(answer) if answer.status == 200 => "the host has ended its events".to_owned(),
                Ok(answer) => super::office::refusal(host.address(), None, &answer).to_string(),
                Err(error) => error.to_string(),
            };
            if !is_heard || tell.send(HostNews::Lost(why)).is_err() {
                return;
            }
            std::thread::sleep(ASK_AGAIN_AFTER);
        }
    });
    news
}

/// Shows what is heard until a key ends it. `key` waits so long for one.
///
/// # Errors
/// If the terminal cannot be written or read, or the host was never there.
pub fn show<B: Backend>(
    address: &str,
    news: &Receiver<HostNews>,
    terminal: &mut Terminal<B>,
    key: &mut dyn FnMut(Duration) -> std::io::Result<Option<TopKey>>,
) -> Result<(), CommandError> {
    let mut view = HostView::new(address);
    loop {
        loop {
            match news.try_recv() {
                // One that was never there is more likely a wrong address than a host that will come.
                Ok(HostNews::Lost(why)) if view.is_empty() => return Err(CommandError::NotShown(why)),
                Ok(HostNews::Lost(why)) => view.lose(&why),
                Ok(HostNews::Event(data)) => view.hear(&data, Instant::now()),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
        let drawn = terminal.draw(|frame| draw::draw(frame, &mut view, Instant::now()));
        drawn.map_err(|error| std::io::Error::other(error.to_string()))?;
        match key(KEY_WAIT)? {
            Some(TopKey::End) => return Ok(()),
            Some(TopKey::Scroll(by)) => view.scroll(by),
            Some(TopKey::Redraw) | None => {}
        }
    }
}

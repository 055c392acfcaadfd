//! A view on a terminal.

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style as Look};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, Table, Wrap};

use super::view::{CoreLine, HostView, SaleLine};

/// Lines of faults at most: the rest is in the log, and sales are to be seen as well.
const FAULT_LINES_MAX: u16 = 6;

/// Loops that are shown; of more the first ones.
const CORE_LINES_MAX: u16 = 8;

/// Columns of the bar of a sale.
const BAR_COLUMNS: usize = 20;

const GOOD: Look = Look::new().fg(Color::Green);
const WAITING: Look = Look::new().fg(Color::Yellow);
const BAD: Look = Look::new().fg(Color::Red);
const QUIET: Look = Look::new().add_modifier(Modifier::DIM);
const HEAD: Look = Look::new().add_modifier(Modifier::BOLD);

pub(super) fn draw(frame: &mut Frame<'_>, view: &mut HostView, now: Instant) {
    let (faults, cores) = (view.faults(), view.cores());
    let fault_lines = (faults.len().max(1) as u16).min(FAULT_LINES_MAX);
    let core_lines = (cores.len() as u16).min(CORE_LINES_MAX) + 1;
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Length(fault_lines + 1),
        Constraint::Min(3),
        Constraint::Length(core_lines + 1),
        Constraint::Length(1),
    ]);
    let [title, rates, faults_area, sales, cores_area, foot] = areas.areas(frame.area());
    let (text, is_live) = view.title(now);
    let mark = if is_live { Span::styled("live ", GOOD) } else { Span::styled("old  ", BAD) };
    frame.render_widget(Line::from(vec![Span::styled("boxoffice ", HEAD), mark, Span::raw(text)]), title);
    frame.render_widget(Paragraph::new(rate_lines(view)), rates);
    let lines: Vec<Line<'_>> = match faults {
        [] => vec![Line::styled("nothing is wrong", GOOD)],
        faults => faults.iter().map(|fault| Line::styled(fault.as_str(), BAD)).collect(),
    };
    let block = Block::new().title(Line::styled("Faults", HEAD));
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }).block(block), faults_area);
    draw_sales(frame, view, sales);
    draw_cores(frame, &cores, cores_area);
    frame.render_widget(Line::styled("q ends, arrows go through the sales", QUIET), foot);
}

fn rate_lines(view: &HostView) -> Vec<Line<'static>> {
    let rates = view.rates();
    let wait = |wait: Option<(f64, f64)>| match wait {
        Some((half, most)) => format!("p50 {half:.2} ms, p99 {most:.2} ms"),
        None => "none".to_owned(),
    };
    let [booking, trip] = view.waits();
    let unable = if rates.unable > 0.0 { BAD } else { Look::new() };
    vec![
        Line::from(vec![
            Span::raw(format!("bookings {:.0}/s   refusals {:.0}/s   ", rates.bookings, rates.refusals)),
            Span::styled(format!("not served (503) {:.0}/s", rates.unable), unable),
        ]),
        Line::raw(format!("wait for the ledger: {}   round trip: {}", wait(booking), wait(trip))),
    ]
}

fn draw_sales(frame: &mut Frame<'_>, view: &HostView, area: Rect) {
    let sales = view.sales();
    let hidden = view.more_sales();
    let more = if hidden > 0 { format!(" (and {hidden} more)") } else { String::new() };
    let rows = sales.iter().skip(view.first()).map(|sale| {
        let tint = match sale.status.as_str() {
            "open" => GOOD,
            "paused" | "scheduled" => WAITING,
            "frozen" | "missing" | "unreadable" => BAD,
            _ => QUIET,
        };
        let number = |number: u64| Line::raw(number.to_string()).right_aligned();
        Row::new(vec![
            Line::raw(sale.name.clone()),
            Line::styled(sale.status.clone(), tint),
            number(sale.total),
            number(sale.sold),
            number(sale.held),
            number(sale.available),
            Line::raw(format!("{:.1}", sale.taken_a_second)).right_aligned(),
            Line::raw(bar(sale)),
        ])
    });
    let widths = [
        Constraint::Min(8),
        Constraint::Length(10),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(BAR_COLUMNS as u16),
    ];
    let title = |title: &'static str| Line::raw(title).right_aligned();
    let head = Row::new(vec![
        Line::raw("SALE"),
        Line::raw("STATUS"),
        title("TOTAL"),
        title("SOLD"),
        title("HELD"),
        title("AVAILABLE"),
        title("TAKEN/S"),
        Line::raw("sold # held +"),
    ]);
    let block = Block::new().title(Line::styled(format!("Sales{more}"), HEAD));
    frame.render_widget(Table::new(rows, widths).header(head.style(QUIET)).block(block), area);
}

/// Sold, held and what is left.
fn bar(sale: &SaleLine) -> String {
    let part = |tickets: u64| match sale.total {
        0 => 0,
        total => ((tickets as f64 / total as f64 * BAR_COLUMNS as f64).round() as usize).min(BAR_COLUMNS),
    };
    let sold = part(sale.sold);
    let held = part(sale.sold + sale.held).max(sold) - sold;
    format!("{}{}{}", "#".repeat(sold), "+".repeat(held), "-".repeat(BAR_COLUMNS - sold - held))
}

fn draw_cores(frame: &mut Frame<'_>, cores: &[CoreLine], area: Rect) {
    let rows = cores.iter().take(CORE_LINES_MAX.into()).enumerate().map(|(index, core)| {
        let right = |text: String| Line::raw(text).right_aligned();
        let entries = core.entries_a_call.map_or_else(|| "-".to_owned(), |entries| format!("{entries:.1}"));
        Row::new(vec![
            Line::raw(format!("loop {index}")),
            if core.is_up { Line::styled("ledger up", GOOD) } else { Line::styled("ledger down", BAD) },
            right(core.connections.to_string()),
            right(core.waiting.to_string()),
            right(format!("{:.0}", core.calls_a_second)),
            right(entries),
            right(core.permits.to_string()),
            right(format!("{:.0}", core.steals_a_second)),
        ])
    });
    let title = |title: &'static str| Line::raw(title).right_aligned();
    let head = Row::new(vec![
        Line::styled("Loops", HEAD),
        Line::raw(""),
        title("CONNECTIONS"),
        title("WAITING"),
        title("CALLS/S"),
        title("PER CALL"),
        title("PERMITS"),
        title("STEALS/S"),
    ]);
    let widths = [8, 12, 11, 8, 8, 8, 9, 8].map(Constraint::Length);
    frame.render_widget(Table::new(rows, widths).header(head.style(QUIET)), area);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::view::tests::event;
    use super::super::{HostNews, TopKey, show};
    use super::*;

    fn text(terminal: &Terminal<TestBackend>) -> String {
        let buffer = terminal.backend().buffer();
        let lines = buffer.content().chunks(buffer.area.width.into());
        lines.map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>() + "\n").collect()
    }

    /// What is on the terminal after these events.
    fn drawn(columns: u16, lines: u16, events: &[String]) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
        let (mut view, now) = (HostView::new("127.0.0.1:9305"), Instant::now());
        events.iter().for_each(|event| view.hear(event, now));
        terminal.draw(|frame| draw(frame, &mut view, now)).unwrap();
        text(&terminal)
    }

    #[test]
    fn all_of_a_host_is_on_one_screen() {
        let shown = drawn(110, 24, &[event(1_000, 100, 50), event(3_000, 300, 150)]);
        for words in [
            "boxoffice live 127.0.0.1:9305  version 1.2.3  up 0:00:03",
            "bookings 100/s   refusals 50/s   not served (503) 5/s",
            "round trip: p50 5.50 ms, p99 9.91 ms",
            "nothing is wrong",
            "Sales (and 3 more)",
            "######--------------",
            "loop 0   ledger up",
            "loop 1   ledger down",
        ] {
            assert!(shown.contains(words), "no {words:?} in\n{shown}");
        }
        let ticket = shown.lines().find(|line| line.starts_with("ticket")).unwrap();
        let words: Vec<&str> = ticket.split_whitespace().collect();
        assert_eq!(words[..7], ["ticket", "open", "1000", "300", "0", "700", "100.0"]);
        assert!(shown.contains("gone\\u{1b}[2J"), "{shown}");
        let faulty =
            event(4_000, 300, 150).replace("\"faults\":[]", "\"faults\":[\"the ledger has not answered\"]");
        assert!(drawn(110, 24, &[faulty]).contains("the ledger has not answered"));
    }

    #[test]
    fn a_terminal_of_any_size_is_drawn_on() {
        for (columns, lines) in [(1, 1), (20, 5), (80, 24), (300, 100)] {
            drawn(columns, lines, &[event(1_000, 0, 0)]);
        }
        drawn(80, 24, &[]);
    }

    #[test]
    fn it_goes_on_until_a_key_ends_it_and_a_host_that_was_never_there_is_an_error() {
        let (tell, news) = mpsc::channel();
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        tell.send(HostNews::Event(event(1_000, 1, 1))).unwrap();
        let mut keys = vec![TopKey::End, TopKey::Scroll(1), TopKey::Redraw].into_iter();
        let mut asked = 0;
        show("h:1", &news, &mut terminal, &mut |_| {
            asked += 1;
            if asked == 2 {
                tell.send(HostNews::Lost("it is gone".to_owned())).unwrap();
            }
            Ok(keys.next_back())
        })
        .map_err(|error| error.to_string())
        .unwrap();
        assert_eq!(asked, 3);
        assert!(text(&terminal).contains("it is gone"));
        let (tell, news) = mpsc::channel();
        tell.send(HostNews::Lost("cannot reach it".to_owned())).unwrap();
        let error = show("h:1", &news, &mut terminal, &mut |_| Ok(None)).unwrap_err();
        assert_eq!(error.to_string(), "cannot reach it");
    }
}

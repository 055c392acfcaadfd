//! What only a terminal shows, in tmux: the live view, colours, tables that fit, a question and its answer, a bar.

use serde_json::json;

use crate::support::host::Host;
use crate::support::tmux::Terminal;
use crate::support::{PATIENCE, eventually, turn};

#[test]
fn a_host_is_watched_while_it_sells_and_its_end_is_told() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::start(folder.path(), &["--sale", "ticket=100", "--sale", "matinee=7"]);
    let admin = host.admin.to_string();
    let terminal = Terminal::start(folder.path(), 120, &[], &["top", "--admin", &admin]);
    terminal.expect(&[
        "live",
        &admin,
        "nothing is wrong",
        "matinee",
        "ticket",
        "--------------------",
        "ledger up",
    ]);
    for n in 0..50 {
        host.client().put(&format!("/v1/sales/ticket/bookings/b-{n}"), "{}").expect(201);
    }
    terminal.expect(&["##########----------"]);
    host.operator().ask("POST", "/v1/sales/matinee/pause", None).expect(200);
    terminal.expect(&["paused"]);
    terminal.press(&["Down"]);
    eventually("the first sale is out of sight", PATIENCE, || {
        (!terminal.screen(false).contains("matinee")).then_some(())
    });
    terminal.press(&["Up"]);
    terminal.expect(&["matinee"]);
    terminal.resize(60, 20);
    terminal.expect(&["boxoffice live", "q ends"]);
    terminal.resize(120, 30);
    host.stop();
    terminal.expect(&["old", "LOST"]);
    terminal.press(&["q"]);
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn a_host_that_is_not_there_is_not_watched() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let terminal = Terminal::start(folder.path(), 200, &[], &["top", "--admin", "127.0.0.1:1"]);
    assert_eq!(terminal.wait(), 1);
    terminal.expect(&["cannot reach a host at 127.0.0.1:1", "is it running?"]);
}

#[test]
fn tables_fit_the_terminal_and_have_colours_unless_they_are_unwanted() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let long = "a-sale-with-a-name-that-is-much-too-long-for-it";
    let host = Host::start(folder.path(), &["--sale", &format!("{long}=5")]);
    let admin = host.admin.to_string();
    let list = ["sale", "list", "--admin", &admin];
    for (number, (variables, is_coloured)) in
        [(&[][..], true), (&[("NO_COLOR", "1")][..], false)].into_iter().enumerate()
    {
        let folder = folder.path().join(number.to_string());
        std::fs::create_dir(&folder).unwrap();
        let terminal = Terminal::start(&folder, 60, variables, &list);
        assert_eq!(terminal.wait(), 0);
        let screen = terminal.expect(&["AVAILABLE", "open"]);
        let lines: Vec<&str> = screen.lines().filter(|line| line.contains("a-sale-with")).collect();
        assert!(lines.len() == 1 && lines[0].contains("…  open"), "{screen}");
        assert_eq!(terminal.screen(true).contains("\u{1b}[32m"), is_coloured, "{}", terminal.screen(true));
    }
}

#[test]
fn what_cannot_be_undone_is_asked_and_done_if_the_answer_is_yes() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &["--sale", "ticket=5"]);
    host.client().put("/v1/sales/ticket/bookings/b-1", "{\"buyer\":\"u-1\"}").expect(201);
    let admin = host.admin.to_string();
    let status = || host.operator().get("/v1/sales/ticket/bookings/b-1").expect(200).json()["status"].clone();
    for (answer, exit, becomes) in [("n", 1, json!("confirmed")), ("y", 0, json!("cancelled"))] {
        let folder = folder.path().join(answer);
        std::fs::create_dir(&folder).unwrap();
        let terminal =
            Terminal::start(&folder, 120, &[], &["booking", "cancel", "ticket", "b-1", "--admin", &admin]);
        terminal.expect(&["Cancel booking b-1 of u-1 in ticket (1 ticket, confirmed) for good? [y/N]"]);
        terminal.press(&[answer, "Enter"]);
        assert_eq!((terminal.wait(), status()), (exit, becomes));
    }
}

#[test]
fn a_rehearsal_has_a_bar_while_its_crowd_is_in_and_ends_with_a_report_if_it_is_interrupted() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &[]);
    let (admin, to) = (host.admin.to_string(), host.address.to_string());
    // Far more come than anybody waits for.
    let line = ["rehearse", "rehearsal-1", "--buyers", "10000000", "--rate", "200", "--think", "10ms"];
    let words = [&line[..], &["--admin", &admin, "--to", &to]].concat();
    let terminal = Terminal::start(folder.path(), 100, &[], &words);
    terminal.expect(&["[-----", "booked"]);
    terminal.press(&["C-c"]);
    assert_eq!(terminal.wait(), 0);
    let screen = terminal.expect(&["P99.9", "verdict    right"]);
    assert!(!screen.contains("[-----"), "{screen}");
    host.operator().get("/v1/sales/rehearsal-1").expect(404);
}

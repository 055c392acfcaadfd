//! What keeps the tree tidy: the documentation says what the code does, and both keep to a few rules of form.
//!
//! Each check is a function over the [tree](tree::Tree), and beside it stand tests that plant what it must find. Nothing
//! here starts a server or takes longer than a second.

mod arrows;
mod circles;
mod code;
mod commands;
mod markdown;
mod names;
mod text;
mod tree;
mod types;

use tree::Tree;

#[track_caller]
fn assert_tidy(check: impl Fn(&Tree) -> Vec<String>) {
    let found = check(&Tree::read());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn modules_import_what_the_architecture_says() {
    assert_tidy(arrows::differences);
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    assert_tidy(circles::circles);
}

#[test]
fn no_name_is_of_two_types() {
    assert_tidy(types::names_of_two_types);
}

#[test]
fn every_name_is_documented_and_no_other() {
    assert_tidy(names::differences);
}

#[test]
fn examples_parse_and_print_what_the_pages_say() {
    assert_tidy(commands::differences);
}

#[test]
fn lines_are_not_too_long() {
    assert_tidy(text::long_lines);
}

#[test]
fn no_paragraph_stands_twice() {
    assert_tidy(text::repeated);
}

#[test]
fn links_lead_somewhere() {
    assert_tidy(text::dead_links);
}

#[test]
fn files_that_pages_name_are_there() {
    assert_tidy(text::missing_files);
}

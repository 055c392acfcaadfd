//! The `boxoffice` command.

fn main() {}

//! What a Redis says to a set-up, for tests that play one.

use super::codec;

/// Nothing is denied and nothing refused.
pub(crate) const ALL_RIGHT: &str = "$0\r\n\r\n";

/// The commands in what a session has written.
pub(crate) fn commands_in(mut written: &[u8]) -> Vec<String> {
    let mut commands = Vec::new();
    while !written.is_empty() {
        let length = codec::frames_length(1, written).unwrap().expect("whole commands");
        commands.push(String::from_utf8_lossy(&written[..length]).into_owned());
        written = &written[length..];
    }
    commands
}

/// What a fit Redis says to these commands of a set-up, but to those about its fitness.
pub(crate) fn set_up_replies(commands: &[String]) -> String {
    let kinds = [
        "\r\nbx:sales\r\n",
        "\r\n$2\r\nID\r\n$",
        "\r\n$2\r\nID\r\n",
        "\r\nCONFIG\r\n",
        "\r\nINFO\r\n",
        "\r\nKILL\r\n",
        "\r\nROLE\r\n",
        // The question about rights where no key is in it.
        "\r\nXREVRANGE\r\n",
    ];
    let reply = |command: &String| match kinds.iter().position(|words| command.contains(words)) {
        None => "+OK\r\n",
        Some(0 | 7) => ALL_RIGHT,
        Some(1) => "$0\r\n\r\n",
        Some(2) => ":7\r\n",
        Some(5) => ":0\r\n",
        Some(6) => "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n",
        Some(_) => "",
    };
    commands.iter().map(reply).collect()
}

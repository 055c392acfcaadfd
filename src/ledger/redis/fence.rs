//! Fencing: Redis ends a connection that was given up before its calls are sent again on the next one.
//!
//! What was written to a lost connection may still be on its way. Carried out after the same call was answered on the next
//! connection, it would book for a client that was refused. So each connection asks Redis for its own number, and has Redis
//! end the connections before it: Redis carries out nothing more from a connection that it has ended. The numbers are each
//! server's own and start over when it starts, so a connection is ended only if it also has the name of this session. The last
//! few are remembered: a primary may move to another server and back.

use std::collections::VecDeque;

use super::bulk::bulk_string;
use super::codec;
use super::reply::number;

/// A number that no connection ever has.
const NOBODY: u64 = i64::MAX as u64;

/// How many connections are remembered.
const KEPT: usize = 8;

/// The connections of one session.
#[derive(Debug)]
pub(super) struct Fence {
    name: String,
    /// The numbers of the last connections that may have taken calls, on whichever server.
    before: VecDeque<u64>,
}

impl Fence {
    /// How many replies [`ask`](Fence::ask) gets.
    pub(super) const REPLIES: usize = 2;

    /// For a session; no other has its `nonce`.
    pub(super) fn new(nonce: u64) -> Fence {
        Fence { name: format!("boxoffice-{nonce:016x}"), before: VecDeque::new() }
    }

    /// The name for each connection of the session.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Appends the questions: the number of this connection, and which of those before it are still there.
    pub(super) fn ask(&self, out: &mut Vec<u8>) {
        redis::cmd("CLIENT").arg("ID").write_packed_command(out);
        let mut list = redis::cmd("CLIENT");
        list.arg("LIST").arg("ID");
        match self.before.is_empty() {
            true => list.arg(NOBODY),
            false => list.arg(self.before.iter().copied().collect::<Vec<_>>()),
        };
        list.write_packed_command(out);
    }

    /// Reads the answers: the number of this connection. Appends the commands that end those before it, each of which gets one
    /// reply, and says how many; if none is there any more, one that ends no connection: whether Redis allows the command must
    /// be known before it is needed.
    ///
    /// # Errors
    /// Why Redis does not answer, and what to do.
    pub(super) fn read(&self, replies: &[u8], out: &mut Vec<u8>) -> Result<(u64, usize), String> {
        judge(replies)?;
        let not_understood = || "the replies to CLIENT ID and CLIENT LIST were not understood".to_owned();
        let length = codec::frame_length(replies).ok().flatten().ok_or_else(not_understood)?;
        let (id, list) = replies.split_at(length);
        let id = std::str::from_utf8(id).ok().and_then(|id| number(id.strip_prefix(':')?.trim_ascii_end()));
        let list = bulk_string(list);
        let (Some(id), Some(list)) = (id, list) else { return Err(not_understood()) };
        let list = String::from_utf8_lossy(list);
        let ours = list.lines().filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let number = number(words.next()?.strip_prefix("id=")?)?;
            // On another server this one may have the number of one of before.
            let is_before = number != id && self.before.contains(&number);
            (is_before && words.any(|word| word.strip_prefix("name=") == Some(&self.name))).then_some(number)
        });
        let mut ended: Vec<u64> = ours.collect();
        if ended.is_empty() {
            ended.push(NOBODY);
        }
        for number in &ended {
            redis::cmd("CLIENT").arg("KILL").arg("ID").arg(*number).write_packed_command(out);
        }
        Ok((id, ended.len()))
    }

    /// Reads the reply to such a command: from the last one on the connection of that number may take calls.
    ///
    /// # Errors
    /// Why the previous connection was not ended, and what to do.
    pub(super) fn read_end(&mut self, id: u64, reply: &[u8]) -> Result<(), String> {
        judge(reply)?;
        self.before.retain(|&before| before != id);
        self.before.push_back(id);
        if self.before.len() > KEPT {
            self.before.pop_front();
        }
        Ok(())
    }
}

fn judge(replies: &[u8]) -> Result<(), String> {
    match codec::first_error(replies) {
        None => Ok(()),
        Some(error) => Err(format!(
            "boxoffice must be able to end connections that it gave up, which Redis denies ({error}); allow it to \
                this user (ACL SETUSER NAME '+client|id' '+client|list' '+client|kill'), and use Redis 6.2 or newer"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(bytes: Vec<u8>) -> String {
        let text = String::from_utf8(bytes).unwrap();
        text.split("\r\n").filter(|word| !word.starts_with(['*', '$'])).collect::<Vec<_>>().join(" ")
    }

    fn asked(fence: &Fence) -> String {
        let mut out = Vec::new();
        fence.ask(&mut out);
        words(out)
    }

    /// What follows on those replies.
    fn told(fence: &Fence, id: u64, list: &str) -> Result<String, String> {
        let mut out = Vec::new();
        let (read, commands) =
            fence.read(format!(":{id}\r\n${}\r\n{list}\r\n", list.len()).as_bytes(), &mut out)?;
        let told = words(out);
        assert_eq!((read, commands), (id, told.matches("KILL").count()));
        Ok(told)
    }

    fn line(id: u64, name: &str) -> String {
        format!("id={id} addr=127.0.0.1:50411 laddr=127.0.0.1:6379 fd=9 name={name} age=0 user=default\n")
    }

    const OWN: &str = "boxoffice-00000000000000ab";
    const NONE: &str = "CLIENT KILL ID 9223372036854775807 ";

    #[test]
    fn the_connection_of_before_is_ended_where_it_is_of_this_session() {
        let mut fence = Fence::new(0xab);
        assert_eq!(fence.name(), OWN);
        assert_eq!(asked(&fence), "CLIENT ID CLIENT LIST ID 9223372036854775807 ");
        assert_eq!(told(&fence, 31, "").unwrap(), NONE);
        fence.read_end(31, b":0\r\n").unwrap();
        assert_eq!(asked(&fence), "CLIENT ID CLIENT LIST ID 31 ");
        assert_eq!(told(&fence, 40, &line(31, OWN)).unwrap(), "CLIENT KILL ID 31 ");
        // Until it has surely ended, the next one asks for it again.
        assert_eq!(asked(&fence), "CLIENT ID CLIENT LIST ID 31 ");
        assert_eq!(told(&fence, 41, &line(31, OWN)).unwrap(), "CLIENT KILL ID 31 ");
        fence.read_end(41, b":1\r\n").unwrap();
        assert_eq!(asked(&fence), "CLIENT ID CLIENT LIST ID 31 41 ");
        // Another's, since Redis was started anew.
        for name in ["", "boxoffice", "boxoffice-00000000000000a", "boxoffice-00000000000000abc"] {
            let told = told(&fence, 50, &(line(31, name) + &line(41, name))).unwrap();
            assert_eq!(told, NONE, "{name:?}");
        }
    }

    /// The primary moves to another server, and back while a command of before is still on its way there.
    #[test]
    fn connections_of_before_are_ended_wherever_the_primary_went_meanwhile() {
        let mut fence = Fence::new(0xab);
        fence.read_end(31, b":0\r\n").unwrap();
        // On the other server it has the number that it had on the first: it does not end itself.
        assert_eq!(told(&fence, 31, &line(31, OWN)).unwrap(), NONE);
        fence.read_end(31, b":0\r\n").unwrap();
        fence.read_end(5, b":0\r\n").unwrap();
        assert_eq!(asked(&fence), "CLIENT ID CLIENT LIST ID 31 5 ");
        let both = line(31, OWN) + &line(5, OWN) + &line(7, OWN);
        assert_eq!(told(&fence, 44, &both).unwrap(), "CLIENT KILL ID 31 CLIENT KILL ID 5 ");
        for id in 100..200 {
            fence.read_end(id, b":0\r\n").unwrap();
        }
        assert_eq!(asked(&fence), "CLIENT ID CLIENT LIST ID 192 193 194 195 196 197 198 199 ");
    }

    #[test]
    fn what_redis_denies_is_an_error_that_says_what_to_do() {
        for denied in ["-NOPERM no\r\n$0\r\n\r\n", ":7\r\n-NOPERM no\r\n"] {
            let error = Fence::new(1).read(denied.as_bytes(), &mut Vec::new()).unwrap_err();
            assert!(error.contains("(NOPERM no)") && error.contains("+client|list"), "{error}");
        }
        for replies in
            ["", ":7\r\n", ":7\r\n:7\r\n", ":-7\r\n$0\r\n\r\n", "+7\r\n$0\r\n\r\n", ":7\r\n$-1\r\n"]
        {
            let error = Fence::new(1).read(replies.as_bytes(), &mut Vec::new()).unwrap_err();
            assert!(error.contains("not understood"), "{replies:?}");
        }
        let error = Fence::new(1).read_end(7, b"-NOPERM no\r\n").unwrap_err();
        assert!(error.contains("+client|kill"), "{error}");
    }
}

//! Fencing: Redis ends a connection that was given up before its calls are sent again on the next one.
//!
//! What was written to a lost connection may still be on its way. Carried out after the same call was answered on the next
//! connection, it would book for a client that was refused. So each connection asks Redis for its own number, and has Redis
//! end the previous connection: Redis carries out nothing more from a connection that it has ended. The numbers start over
//! when Redis starts, so the previous connection is ended only if it also has the name of this session.

use super::bulk::bulk_string;
use super::codec;
use super::reply::number;

/// A number that no connection ever has.
const NOBODY: u64 = i64::MAX as u64;

/// The connections of one session.
#[derive(Debug)]
pub(super) struct Fence {
    name: String,
    /// The number of the last connection that may have taken calls.
    before: Option<u64>,
}

impl Fence {
    /// How many replies [`ask`](Fence::ask) gets.
    pub(super) const REPLIES: usize = 2;

    /// For a session; no other has its `nonce`.
    pub(super) fn new(nonce: u64) -> Fence {
        Fence { name: format!("boxoffice-{nonce:016x}"), before: None }
    }

    /// The name for each connection of the session.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Appends the questions: the number of this connection, and whether the previous one is still there.
    pub(super) fn ask(&self, out: &mut Vec<u8>) {
        redis::cmd("CLIENT").arg("ID").write_packed_command(out);
        let before = self.before.unwrap_or(NOBODY);
        redis::cmd("CLIENT").arg("LIST").arg("ID").arg(before).write_packed_command(out);
    }

    /// Reads the answers: the number of this connection. Appends the command that ends the previous one, which gets one
    /// reply; if that is gone already, it ends no connection: whether Redis allows the command must be known before it is
    /// needed.
    ///
    /// # Errors
    /// Why Redis does not answer, and what to do.
    pub(super) fn read(&self, replies: &[u8], out: &mut Vec<u8>) -> Result<u64, String> {
        judge(replies)?;
        let not_understood = || "the replies to CLIENT ID and CLIENT LIST were not understood".to_owned();
        let length = codec::frame_length(replies).ok().flatten().ok_or_else(not_understood)?;
        let (id, list) = replies.split_at(length);
        let id = std::str::from_utf8(id).ok().and_then(|id| number(id.strip_prefix(':')?.trim_ascii_end()));
        let list = bulk_string(list);
        let (Some(id), Some(list)) = (id, list) else { return Err(not_understood()) };
        let list = String::from_utf8_lossy(list);
        let is_there =
            list.split_ascii_whitespace().any(|word| word.strip_prefix("name=") == Some(&self.name));
        let before = self.before.filter(|_| is_there);
        redis::cmd("CLIENT").arg("KILL").arg("ID").arg(before.unwrap_or(NOBODY)).write_packed_command(out);
        Ok(id)
    }

    /// Reads the reply to that command: from now on the connection of that number may take calls.
    ///
    /// # Errors
    /// Why the previous connection was not ended, and what to do.
    pub(super) fn read_end(&mut self, id: u64, reply: &[u8]) -> Result<(), String> {
        judge(reply)?;
        self.before = Some(id);
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
        let read = fence.read(format!(":{id}\r\n${}\r\n{list}\r\n", list.len()).as_bytes(), &mut out)?;
        assert_eq!(read, id);
        Ok(words(out))
    }

    #[test]
    fn the_connection_of_before_is_ended_where_it_is_of_this_session() {
        let line = |id: u64, name: &str| {
            format!("id={id} addr=127.0.0.1:50411 laddr=127.0.0.1:6379 fd=9 name={name} age=0 user=default\n")
        };
        let mut fence = Fence::new(0xab);
        assert_eq!(fence.name(), "boxoffice-00000000000000ab");
        assert_eq!(asked(&fence), "CLIENT ID CLIENT LIST ID 9223372036854775807 ");
        assert_eq!(told(&fence, 31, "").unwrap(), "CLIENT KILL ID 9223372036854775807 ");
        fence.read_end(31, b":0\r\n").unwrap();
        assert_eq!(asked(&fence), "CLIENT ID CLIENT LIST ID 31 ");
        let own = line(31, "boxoffice-00000000000000ab");
        assert_eq!(told(&fence, 40, &own).unwrap(), "CLIENT KILL ID 31 ");
        // Until it has surely ended, the next one asks for it again.
        assert_eq!(asked(&fence), "CLIENT ID CLIENT LIST ID 31 ");
        assert_eq!(told(&fence, 41, &own).unwrap(), "CLIENT KILL ID 31 ");
        fence.read_end(41, b":1\r\n").unwrap();
        assert_eq!(asked(&fence), "CLIENT ID CLIENT LIST ID 41 ");
        // Another's, since Redis was started anew.
        for name in ["", "boxoffice", "boxoffice-00000000000000a", "boxoffice-00000000000000abc"] {
            let told = told(&fence, 50, &line(41, name)).unwrap();
            assert_eq!(told, "CLIENT KILL ID 9223372036854775807 ", "{name:?}");
        }
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

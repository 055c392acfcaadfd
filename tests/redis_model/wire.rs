//! RESP2: commands out of a client's bytes, replies into bytes.

/// A command and its arguments.
pub type Words = Vec<Vec<u8>>;

/// A reply, as a command gives it to a client and to a script alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Status(&'static str),
    /// The words of the error, its code first, without the leading `-`.
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Nil,
    NilArray,
    Array(Vec<Reply>),
}

impl Reply {
    pub fn error(words: &str) -> Reply {
        Reply::Error(words.to_owned())
    }

    pub fn bulk(bytes: impl Into<Vec<u8>>) -> Reply {
        Reply::Bulk(bytes.into())
    }

    /// Appends its bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Reply::Status(word) => line(b'+', word.as_bytes(), out),
            // Redis keeps an error on one line.
            Reply::Error(words) => line(b'-', words.replace(['\r', '\n'], " ").as_bytes(), out),
            Reply::Integer(number) => line(b':', number.to_string().as_bytes(), out),
            Reply::Nil => out.extend_from_slice(b"$-1\r\n"),
            Reply::NilArray => out.extend_from_slice(b"*-1\r\n"),
            Reply::Bulk(bytes) => {
                line(b'$', bytes.len().to_string().as_bytes(), out);
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Reply::Array(items) => {
                line(b'*', items.len().to_string().as_bytes(), out);
                for item in items {
                    item.write(out);
                }
            }
        }
    }
}

fn line(kind: u8, text: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

/// The first whole command of `input` and its length; `None` where more bytes are needed.
///
/// Panics on what no client of ours sends: an inline command, or a length that is none.
pub fn read_command(input: &[u8]) -> Option<(Words, usize)> {
    let (count, mut at) = length_after(b'*', input, 0)?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, start) = length_after(b'$', input, at)?;
        let end = start + length;
        let closing = input.get(end..end + 2)?;
        assert_eq!(closing, b"\r\n", "an argument longer than it said");
        words.push(input[start..end].to_vec());
        at = end + 2;
    }
    Some((words, at))
}

/// The number on the line at `at`, and where the next line starts.
fn length_after(kind: u8, input: &[u8], at: usize) -> Option<(usize, usize)> {
    let rest = input.get(at..)?;
    let end = memchr::memchr(b'\n', rest)?;
    assert_eq!(rest[0], kind, "not a command: {:?}", rest.escape_ascii().to_string());
    let text = std::str::from_utf8(&rest[1..end - 1]).expect("a length in digits");
    Some((text.parse().expect("a length in digits"), at + end + 1))
}

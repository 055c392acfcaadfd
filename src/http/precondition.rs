//! What `If-Match` and `If-None-Match` ask of the state of a resource (RFC 9110 sections 13.1.1, 13.1.2 and 13.2.2).
//!
//! `If-Modified-Since` and `If-Unmodified-Since` are to be ignored by a server that tells no `Last-Modified`, as this one.

use super::Request;

/// The preconditions of one request; most have none.
#[derive(Debug, PartialEq, Eq)]
pub struct Preconditions<'a> {
    matching: Option<Tags<'a>>,
    not_matching: Option<Tags<'a>>,
}

/// The state of a resource, as conditions see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Current<'a> {
    /// There is none.
    Absent,
    /// There is one, which has no entity tag.
    Untagged,
    /// There is one with this strong entity tag, without its quotes.
    Tagged(&'a str),
}

#[derive(Debug, PartialEq, Eq)]
enum Tags<'a> {
    /// `*`.
    Any,
    Listed(Vec<Tag<'a>>),
}

/// An entity tag without its quotes (RFC 9110 section 8.8.3).
#[derive(Debug, PartialEq, Eq)]
struct Tag<'a> {
    is_weak: bool,
    opaque: &'a [u8],
}

impl<'a> Preconditions<'a> {
    /// Reads those of `request`.
    ///
    /// # Errors
    /// A sentence for people, if a field is neither `*` nor a list of entity tags: which condition it was meant to be nobody
    /// knows, so that the request must not be carried out.
    pub fn read(request: &Request<'a>) -> Result<Preconditions<'a>, String> {
        let field = |name: &str| {
            let mut values = request.field_values(name).peekable();
            values.peek()?;
            let read = tags(values);
            Some(read.ok_or_else(|| format!("{name}: takes * or a list of entity tags, each in quotes")))
        };
        Ok(Preconditions {
            matching: field("If-Match").transpose()?,
            not_matching: field("If-None-Match").transpose()?,
        })
    }

    /// Whether all of them are true of that state.
    pub fn hold(&self, current: Current<'_>) -> bool {
        let matches = |tags: &Tags<'_>, weakly: bool| match (tags, current) {
            (_, Current::Absent) => false,
            (Tags::Any, _) => true,
            (Tags::Listed(_), Current::Untagged) => false,
            (Tags::Listed(tags), Current::Tagged(tag)) => {
                tags.iter().any(|listed| (weakly || !listed.is_weak) && listed.opaque == tag.as_bytes())
            }
        };
        self.matching.as_ref().is_none_or(|tags| matches(tags, false))
            && self.not_matching.as_ref().is_none_or(|tags| !matches(tags, true))
    }
}

/// All fields of one name are one list (RFC 9110 section 5.3).
fn tags<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<Tags<'a>> {
    let mut listed = Vec::new();
    let mut any = false;
    for value in values {
        let mut rest = value;
        loop {
            // An empty element of a list does not count (section 5.6.1.2).
            while let [b' ' | b'\t' | b',', behind @ ..] = rest {
                rest = behind;
            }
            let (is_weak, tag) = match rest {
                [] => break,
                [b'*', behind @ ..] => {
                    any = true;
                    rest = behind;
                    rest.is_empty().then_some(())?;
                    break;
                }
                [b'W', b'/', b'"', behind @ ..] => (true, behind),
                [b'"', behind @ ..] => (false, behind),
                _ => return None,
            };
            let end = memchr::memchr(b'"', tag)?;
            let opaque = &tag[..end];
            // `etagc`: no white space in it, and no control byte.
            opaque.iter().all(|byte| *byte > b' ' && *byte != 0x7f).then_some(())?;
            listed.push(Tag { is_weak, opaque });
            rest = tag[end + 1..].trim_ascii_start();
            matches!(rest, [] | [b',', ..]).then_some(())?;
        }
    }
    match (any, listed.is_empty()) {
        (true, true) => Some(Tags::Any),
        (false, false) => Some(Tags::Listed(listed)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<'a>(values: &[&'a str]) -> Option<Tags<'a>> {
        tags(values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn reads_lists_of_entity_tags_and_nothing_else() {
        assert_eq!(all(&["*"]), Some(Tags::Any));
        let two = || {
            Some(Tags::Listed(vec![
                Tag { is_weak: false, opaque: b"1" },
                Tag { is_weak: true, opaque: b"a,b" },
            ]))
        };
        assert_eq!(all(&["\"1\", W/\"a,b\""]), two());
        assert_eq!(all(&["\"1\"", "W/\"a,b\""]), two());
        assert_eq!(all(&[", ,\"1\" ,,\tW/\"a,b\" ,"]), two());
        assert_eq!(all(&["\"\""]), Some(Tags::Listed(vec![Tag { is_weak: false, opaque: b"" }])));
        for wrong in [
            "",
            ",",
            "1",
            "\"1",
            "1\"",
            "w/\"1\"",
            "W/1",
            "\"1\" \"2\"",
            "\"1\"2",
            "\"a b\"",
            "* , \"1\"",
            "**",
            "\"1\", *",
        ] {
            assert_eq!(all(&[wrong]), None, "{wrong}");
        }
        assert_eq!(all(&["*", "\"1\""]), None);
    }

    #[test]
    fn conditions_hold_as_their_sections_say() {
        use Current::{Absent, Tagged, Untagged};
        let is = |matching: &'static str, not_matching: &'static str, current| {
            let read = |value: &'static str| (!value.is_empty()).then(|| all(&[value]).unwrap());
            Preconditions { matching: read(matching), not_matching: read(not_matching) }.hold(current)
        };
        let each = |matching, not_matching| {
            [Absent, Untagged, Tagged("7"), Tagged("8")].map(|current| is(matching, not_matching, current))
        };
        assert_eq!(each("", ""), [true; 4]);
        assert_eq!(each("*", ""), [false, true, true, true]);
        assert_eq!(each("\"7\", \"9\"", ""), [false, false, true, false]);
        assert_eq!(each("W/\"7\"", ""), [false; 4], "If-Match compares strongly");
        assert_eq!(each("", "*"), [true, false, false, false]);
        assert_eq!(each("", "\"7\""), [true, true, false, true]);
        assert_eq!(each("", "W/\"7\""), [true, true, false, true], "If-None-Match compares weakly");
        assert_eq!(each("\"7\"", "\"7\""), [false; 4]);
        assert_eq!(each("*", "\"7\""), [false, true, false, true]);
    }
}

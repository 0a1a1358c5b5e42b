//! What is wrong with a JSON request: where it is, what was expected there, and what was found.

use std::fmt::Write as _;

use prism_model::{Classify, Kind};

/// Characters of the body that an error shows.
const SHOWN_MAX: usize = 40;

/// A body that is not the request in OTLP/JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, or not the message that the path asks for.
    #[error("expected an OTLP {message} in JSON: at {place} expected {expected}, found {found}")]
    Malformed {
        /// The message that the path asks for.
        message: &'static str,
        /// The field in which the fault lies, as `resourceSpans[0].resource`, and the byte, counted from the start of the
        /// decompressed body.
        place: Place,
        /// What may stand there.
        expected: &'static str,
        /// What stands there, shortened.
        found: String,
    },
    /// Arrays and maps inside each other beyond the limit.
    #[error("at {place} a value is nested more than {max} levels deep (value_depth_max)")]
    TooDeep {
        /// Where.
        place: Place,
        /// The limit.
        max: usize,
    },
    /// In protobuf the request would be too large.
    #[error("expected a request of at most {max} bytes in protobuf, found more (body_bytes_max)")]
    TooLarge {
        /// The limit.
        max: usize,
    },
}

impl Classify for JsonError {
    fn kind(&self) -> Kind {
        match self {
            JsonError::Malformed { .. } | JsonError::TooDeep { .. } => Kind::Fix,
            JsonError::TooLarge { .. } => Kind::TooLarge,
        }
    }
}

/// A place in a JSON body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The innermost known field around it; empty for the request itself.
    pub path: String,
    /// The byte, counted from the start of the decompressed body.
    pub at: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "byte {}", self.at),
            path => write!(f, "`{path}` (byte {})", self.at),
        }
    }
}

/// A fault while it travels outward and learns its path. Boxed, so that the way of a good request stays short.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) what: What,
    pub(super) at: usize,
    /// The innermost first.
    path: Vec<Segment>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum What {
    Expected(&'static str),
    TooDeep,
    TooLarge,
}

#[derive(Debug)]
enum Segment {
    Field(&'static str),
    Index(usize),
}

pub(super) type Result<T> = std::result::Result<T, Box<Fault>>;

impl Fault {
    #[cold]
    pub(super) fn new(what: What, at: usize) -> Box<Fault> {
        Box::new(Fault { what, at, path: Vec::new() })
    }

    #[cold]
    pub(super) fn expected(what: &'static str, at: usize) -> Box<Fault> {
        Fault::new(What::Expected(what), at)
    }

    #[cold]
    pub(super) fn in_field(mut self: Box<Fault>, name: &'static str) -> Box<Fault> {
        self.path.push(Segment::Field(name));
        self
    }

    #[cold]
    pub(super) fn in_element(mut self: Box<Fault>, index: usize) -> Box<Fault> {
        self.path.push(Segment::Index(index));
        self
    }

    /// The error for the sender of `body`. `bytes_max` and `depth_max` are the limits that held.
    pub(super) fn into_error(
        self,
        message: &'static str,
        body: &[u8],
        bytes_max: usize,
        depth_max: usize,
    ) -> JsonError {
        let mut path = String::new();
        for segment in self.path.iter().rev() {
            let _infallible = match segment {
                Segment::Field(name) if path.is_empty() => write!(path, "{name}"),
                Segment::Field(name) => write!(path, ".{name}"),
                Segment::Index(index) => write!(path, "[{index}]"),
            };
        }
        let place = Place { path, at: self.at };
        match self.what {
            What::Expected(expected) => {
                JsonError::Malformed { message, place, expected, found: found(&body[self.at.min(body.len())..]) }
            }
            What::TooDeep => JsonError::TooDeep { place, max: depth_max },
            What::TooLarge => JsonError::TooLarge { max: bytes_max },
        }
    }
}

/// What the rest of a body begins with, in words.
fn found(rest: &[u8]) -> String {
    let Some(first) = rest.first() else { return "the end of the body".into() };
    if rest.starts_with(b"\xef\xbb\xbf") {
        return "a byte order mark".into();
    }
    // At most 4 bytes a character, and one more to see whether there is more.
    let window = String::from_utf8_lossy(&rest[..rest.len().min(4 * (SHOWN_MAX + 1))]);
    let token: String = match first {
        b'{' => return "an object".into(),
        b'[' => return "an array".into(),
        0xf8.. | 0x80..0xc0 => return format!("the byte 0x{first:02x}"),
        b'"' => {
            let end = window[1..].find('"').map_or(window.len(), |end| end + 2);
            window[..end].chars().take(SHOWN_MAX + 1).collect()
        }
        _ => {
            let end = |c: char| c.is_whitespace() || matches!(c, ',' | ':' | ']' | '}');
            window
                .split(end)
                .next()
                .filter(|t| !t.is_empty())
                .map_or_else(|| window.chars().take(1).collect(), |token| token.chars().take(SHOWN_MAX + 1).collect())
        }
    };
    let shortened = token.chars().count() > SHOWN_MAX;
    let shown: String = token.chars().take(SHOWN_MAX).flat_map(char::escape_debug_unquoted).collect();
    format!("`{shown}{}`", if shortened { "…" } else { "" })
}

trait EscapeUnquoted {
    fn escape_debug_unquoted(self) -> Box<dyn Iterator<Item = char>>;
}

impl EscapeUnquoted for char {
    /// Control characters as escapes, quotes as they are.
    fn escape_debug_unquoted(self) -> Box<dyn Iterator<Item = char>> {
        if self.is_control() { Box::new(self.escape_debug()) } else { Box::new(std::iter::once(self)) }
    }
}

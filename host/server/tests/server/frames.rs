//! HTTP/2 by hand: frames that no client library would send.
//!
//! Source: RFC 9113, section 4 and 6; RFC 7541, section 6.2.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::harness::Server;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error of a RST_STREAM or GOAWAY.
    pub(crate) fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }
}

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A block of headers, each a literal that is not indexed.
pub(crate) fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    fn text(text: &str, out: &mut Vec<u8>) {
        let mut left = text.len();
        if left < 127 {
            out.push(left as u8);
        } else {
            out.push(127);
            left -= 127;
            while left >= 128 {
                out.push((left % 128 + 128) as u8);
                left /= 128;
            }
            out.push(left as u8);
        }
        out.extend(text.as_bytes());
    }
    let mut out = Vec::new();
    for (name, value) in headers {
        out.push(0);
        text(name, &mut out);
        text(value, &mut out);
    }
    out
}

/// The headers of a request.
pub(crate) fn head(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")];
    block(&[&pseudo[..], more].concat())
}

/// A connection.
pub(crate) struct Connection(TcpStream);

impl Connection {
    /// Begins one on the HTTP listener with these settings.
    pub(crate) fn new(server: &Server, settings: &[(u16, u32)]) -> Connection {
        let mut stream = TcpStream::connect(server.address()).expect("connects");
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("writes");
        let mut connection = Connection(stream);
        let settings: Vec<u8> =
            settings.iter().flat_map(|(id, n)| [&id.to_be_bytes()[..], &n.to_be_bytes()].concat()).collect();
        connection.write(&frame(SETTINGS, 0, 0, &settings));
        connection
    }

    /// Writes bytes; the other end may have ended the connection meanwhile.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// The next frame; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let [a, b, c, kind, _flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some(Frame { kind, stream: u32::from_be_bytes(stream) & 0x7fff_ffff, payload })
    }

    /// The next frame of a kind; `None` where the end comes before.
    pub(crate) fn find(&mut self, kind: u8) -> Option<Frame> {
        std::iter::from_fn(|| self.next()).find(|frame| frame.kind == kind)
    }

    /// Every frame to the end.
    pub(crate) fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

//! A request body as it came to the bytes that it stands for: `Content-Encoding` none, gzip or zstd, within a bound.
//!
//! Not here: how a body is read from the network (`prism-server`).

use std::io::Read;

use bytes::Bytes;
use prism_model::{Classify, Kind};

/// Largest window of a zstd stream without a known size, as a power of two: 8 MiB is what RFC 8878 asks decoders to support,
/// and what a hostile stream may make us allocate.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How many times its size a body is believed to grow before it has done so: sizes in headers may lie.
const GROWTH_BELIEVED: usize = 32;

/// A body that does not stand for any bytes, or for too many.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// An encoding that is not served.
    #[error("expected `Content-Encoding` `gzip`, `zstd` or none, found `{found}`")]
    Encoding {
        /// What came, shortened.
        found: String,
    },
    /// The body is longer than allowed, or would be when decompressed.
    #[error("the body holds more than {max} bytes{} (body_bytes_max)", if *.compressed { " when decompressed" } else { "" })]
    TooLarge {
        /// The limit.
        max: usize,
        /// Whether the limit was passed while decompressing.
        compressed: bool,
    },
    /// The compressed stream is damaged, ends early, or is followed by something else.
    #[error("expected a {encoding} stream, found one that is damaged: {reason}")]
    Damaged {
        /// `gzip` or `zstd`.
        encoding: &'static str,
        /// What the decoder says.
        reason: String,
    },
}

impl Classify for BodyError {
    fn kind(&self) -> Kind {
        match self {
            BodyError::TooLarge { .. } => Kind::TooLarge,
            BodyError::Encoding { .. } | BodyError::Damaged { .. } => Kind::Fix,
        }
    }
}

/// The bytes that a body stands for. One that is not compressed is handed on without a copy.
///
/// # Errors
/// [`BodyError`]; the limit holds before and after decompression.
pub fn decompress(content_encoding: Option<&str>, body: &Bytes, max: usize) -> Result<Bytes, BodyError> {
    if body.len() > max {
        return Err(BodyError::TooLarge { max, compressed: false });
    }
    let encoding = content_encoding.unwrap_or_default();
    match Packing::of(encoding) {
        Some(Packing::None) => Ok(body.clone()),
        Some(Packing::Gzip) => gunzip(body, max),
        Some(Packing::Zstd) => unzstd(body, max),
        None => Err(BodyError::Encoding { found: encoding.trim().chars().take(80).collect() }),
    }
}

/// Whether a `Content-Encoding` is one that [`decompress`] takes, which can be told before a body is read.
pub fn is_served(content_encoding: &str) -> bool {
    Packing::of(content_encoding).is_some()
}

/// How a body is compressed.
enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    fn of(content_encoding: &str) -> Option<Packing> {
        let name = content_encoding.trim();
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if name.is_empty() || is("identity") {
            Some(Packing::None)
        } else if is("gzip") || is("x-gzip") {
            Some(Packing::Gzip)
        } else {
            is("zstd").then_some(Packing::Zstd)
        }
    }
}

fn gunzip(body: &[u8], max: usize) -> Result<Bytes, BodyError> {
    // The last four bytes tell the size of the last member, nearly always the only one.
    let told = body.last_chunk().map_or(0, |size| u32::from_le_bytes(*size) as usize);
    read_all(flate2::bufread::MultiGzDecoder::new(body), "gzip", body.len(), told, max)
}

fn unzstd(body: &[u8], max: usize) -> Result<Bytes, BodyError> {
    let damaged = |e: std::io::Error| BodyError::Damaged { encoding: "zstd", reason: e.to_string() };
    if body.is_empty() {
        return Err(BodyError::Damaged { encoding: "zstd", reason: "it is empty".into() });
    }
    let told = zstd::zstd_safe::get_frame_content_size(body).ok().flatten();
    if told.is_some_and(|told| told > max as u64) {
        return Err(BodyError::TooLarge { max, compressed: true });
    }
    let frame = zstd::zstd_safe::find_frame_compressed_size(body).ok();
    if let (Some(told), Some(frame)) = (told, frame)
        && frame == body.len()
    {
        // One frame of a known size: straight to where it belongs, without a window beside it.
        let mut out = Vec::with_capacity(told as usize);
        let mut decoder = zstd::bulk::Decompressor::new().map_err(damaged)?;
        decoder.decompress_to_buffer(body, &mut out).map_err(damaged)?;
        return Ok(out.into());
    }
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(damaged)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(damaged)?;
    read_all(decoder, "zstd", body.len(), told.unwrap_or(0) as usize, max)
}

fn read_all(
    decoder: impl Read,
    encoding: &'static str,
    compressed: usize,
    told: usize,
    max: usize,
) -> Result<Bytes, BodyError> {
    // One byte more than told, so that the end is seen without growing.
    let believed = told.min(compressed.saturating_mul(GROWTH_BELIEVED)).min(max) + 1;
    let mut out = Vec::with_capacity(believed);
    let read = decoder.take(max as u64 + 1).read_to_end(&mut out);
    if out.len() > max {
        return Err(BodyError::TooLarge { max, compressed: true });
    }
    read.map_err(|e| BodyError::Damaged { encoding, reason: e.to_string() })?;
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// zstd as one call writes it, with the size in front.
    fn zstd_sized(bytes: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(bytes, 1).unwrap()
    }

    /// zstd as a stream writes it, without a size.
    fn zstd_stream(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(bytes, 1).unwrap()
    }

    type Case = (&'static str, fn(&[u8]) -> Vec<u8>);
    const CASES: [Case; 3] = [("gzip", gzip), ("zstd", zstd_sized), ("zstd", zstd_stream)];

    fn run(encoding: &str, body: Vec<u8>, max: usize) -> Result<Bytes, BodyError> {
        decompress(Some(encoding), &Bytes::from(body), max)
    }

    #[test]
    fn bodies_come_back() {
        let plain: Vec<u8> = (0..100_000u32).flat_map(|i| (i % 1_000).to_le_bytes()).collect();
        for (encoding, pack) in CASES {
            assert_eq!(run(encoding, pack(&plain), plain.len()).unwrap(), plain);
            assert_eq!(run(encoding, pack(b""), 0x100).unwrap(), b"".as_slice());
            // Several members or frames are one stream.
            let twice = [pack(&plain), pack(b"tail")].concat();
            assert_eq!(run(encoding, twice, 1 << 20).unwrap(), [&plain[..], b"tail"].concat());
        }
        let body = Bytes::from_static(b"as it is");
        for none in [None, Some(""), Some("identity"), Some(" Identity ")] {
            assert_eq!(decompress(none, &body, 8).unwrap().as_ptr(), body.as_ptr());
        }
        assert_eq!(run("GZIP", gzip(b"x"), 1_000).unwrap(), b"x".as_slice());
    }

    #[test]
    fn the_limit_holds_before_and_after_decompression() {
        let plain = vec![0; 10 << 20];
        for (encoding, pack) in CASES {
            let body = pack(&plain);
            assert!(body.len() < 1 << 20);
            let error = run(encoding, body.clone(), 1 << 20).unwrap_err();
            assert!(matches!(error, BodyError::TooLarge { compressed: true, .. }), "{error}");
            assert_eq!(error.kind(), Kind::TooLarge);
            assert_eq!(error.to_string(), "the body holds more than 1048576 bytes when decompressed (body_bytes_max)");
            assert!(matches!(run(encoding, body, 100), Err(BodyError::TooLarge { compressed: false, .. })));
            assert!(run(encoding, pack(&plain), plain.len()).is_ok());
            assert!(run(encoding, pack(&plain), plain.len() - 1).is_err());
        }
    }

    #[test]
    fn damaged_streams_are_refused() {
        let plain: Vec<u8> = (0..50_000u32).flat_map(|i| i.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
        for (encoding, pack) in CASES {
            let body = pack(&plain);
            let refused = |body: Vec<u8>| matches!(run(encoding, body, 1 << 20), Err(BodyError::Damaged { .. }));
            assert!(refused(body[..body.len() - 3].to_vec()), "{encoding}: cut off");
            assert!(refused(body[..body.len() / 2].to_vec()), "{encoding}: cut in half");
            assert!(refused([&body[..], b"garbage"].concat()), "{encoding}: garbage behind");
            assert!(refused(b"not compressed at all".to_vec()), "{encoding}: plain");
            assert!(refused(Vec::new()), "{encoding}: empty");
        }
        let mut wrong_sum = gzip(&plain);
        let at = wrong_sum.len() - 6;
        wrong_sum[at] ^= 1;
        assert!(run("gzip", wrong_sum, 1 << 20).is_err());
    }

    #[test]
    fn other_encodings_are_refused() {
        for other in ["gzip, zstd", "deflate", "br", "snappy"] {
            let error = run(other, Vec::new(), 10).unwrap_err();
            assert_eq!(error.kind(), Kind::Fix);
            assert_eq!(
                error.to_string(),
                format!("expected `Content-Encoding` `gzip`, `zstd` or none, found `{other}`")
            );
        }
    }
}

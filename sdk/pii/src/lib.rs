//! Finds personal data in text: e-mail addresses, payment cards, IP addresses, bearer tokens.
//!
//! `lanes`, `trigger` (a pass over all bytes that says which blocks could hold something) -> `email`,
//! `card`, `ip`, `token` (look closely, only there) -> findings, left to right. Nothing is compiled at run time, and clean
//! text costs the first pass alone: a fraction of a nanosecond a byte.
//!
//! The rules lean towards finding: what is masked needlessly is a nuisance, what is missed is a leak. Each module says where
//! it draws the line. This crate changes nothing: what to do about a finding is the caller's.
//!
//! ```
//! use prism_pii::{Detectors, Kind, scan};
//!
//! let text = "joe@example.com paid with 4111 1111 1111 1111 from 192.0.2.7";
//! let found: Vec<_> = scan(text, Detectors::ALL).map(|f| (f.kind, &text[f.start..f.end])).collect();
//! assert_eq!(found, [
//!     (Kind::Email, "joe@example.com"),
//!     (Kind::Card, "4111 1111 1111 1111"),
//!     (Kind::Ipv4, "192.0.2.7"),
//! ]);
//! ```

mod lanes;
mod trigger;
mod edge;
mod email;
mod card;
mod ip;
mod token;
mod scan;

pub use card::is_card_number;
pub use scan::{Detectors, Finding, Kind, scan, scan_entries, scan_into};

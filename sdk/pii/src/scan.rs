//! From triggers to findings: which detectors look where, and what comes of findings that overlap.

use crate::trigger::{self, BLOCK, triggers};
use crate::{card, email, ip, token};

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// An e-mail address.
    Email,
    /// A payment card number.
    Card,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address, with its zone.
    Ipv6,
    /// A bearer token or JSON web token; the word `Bearer` is not part of it.
    Bearer,
}

impl Kind {
    /// Every kind, in the order of the enum.
    pub const ALL: [Kind; 5] = [Kind::Email, Kind::Card, Kind::Ipv4, Kind::Ipv6, Kind::Bearer];

    /// The name in configurations and masks.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Email => "email",
            Kind::Card => "card",
            Kind::Ipv4 => "ipv4",
            Kind::Ipv6 => "ipv6",
            Kind::Bearer => "bearer",
        }
    }
}

/// Which kinds to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detectors(u8);

impl Detectors {
    /// None.
    pub const NONE: Detectors = Detectors(0);
    /// Every kind.
    pub const ALL: Detectors =
        Detectors(trigger::EMAIL | trigger::CARD | trigger::IPV4 | trigger::IPV6 | trigger::TOKEN);

    /// These, and one more.
    #[must_use]
    pub const fn with(self, kind: Kind) -> Detectors {
        Detectors(self.0 | trigger_of(kind))
    }

    /// Whether the kind is looked for.
    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & trigger_of(kind) != 0
    }
}

impl FromIterator<Kind> for Detectors {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Detectors {
        kinds.into_iter().fold(Detectors::NONE, Detectors::with)
    }
}

const fn trigger_of(kind: Kind) -> u8 {
    match kind {
        Kind::Email => trigger::EMAIL,
        Kind::Card => trigger::CARD,
        Kind::Ipv4 => trigger::IPV4,
        Kind::Ipv6 => trigger::IPV6,
        Kind::Bearer => trigger::TOKEN,
    }
}

/// Something found: the bytes `start..end`, which begin and end at characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
}

/// Finds everything in a text, left to right.
///
/// Findings do not overlap: where two do (an address as the local part of another), they are one finding that covers
/// both, of the kind of the one that begins first, or else of the longer one. Bytes that are no UTF-8 belong to nothing.
/// Allocates only where there is something to find.
pub fn scan<T: AsRef<[u8]> + ?Sized>(text: &T, detectors: Detectors) -> std::vec::IntoIter<Finding> {
    let mut found = Vec::new();
    scan_into(text.as_ref(), detectors, &mut found);
    found.into_iter()
}

/// [`scan`] into a list that the caller uses again; it is cleared first.
pub fn scan_into(text: &[u8], detectors: Detectors, found: &mut Vec<Finding>) {
    found.clear();
    let looks: [(u8, Kind, Look); 4] = [
        (trigger::EMAIL, Kind::Email, email::look),
        (trigger::CARD, Kind::Card, card::look),
        (trigger::IPV4, Kind::Ipv4, ip::look_v4),
        (trigger::IPV6, Kind::Ipv6, ip::look_v6),
    ];
    // How far each detector has looked: a finding may reach beyond its block.
    let mut done = [0; 5];
    for at in (0..text.len()).step_by(BLOCK) {
        let triggers = triggers(text, at) & detectors.0;
        if triggers == 0 {
            continue;
        }
        let end = text.len().min(at + BLOCK);
        for (i, (trigger, kind, look)) in looks.iter().enumerate() {
            if triggers & trigger != 0 {
                done[i] =
                    look(text, at.max(done[i]), end, &mut |start, end| found.push(Finding { kind: *kind, start, end }));
            }
        }
        if triggers & trigger::TOKEN != 0 {
            let push = &mut |start, end| found.push(Finding { kind: Kind::Bearer, start, end });
            done[4] = token::look(text, at.max(done[4]), end, push);
        }
    }
    if found.len() > 1 {
        join(found);
    }
}

/// Looks closely at `from..to`, tells what it finds, and returns how far it looked.
type Look = fn(&[u8], usize, usize, &mut dyn FnMut(usize, usize)) -> usize;

/// Sorts, and makes one of findings that overlap.
fn join(found: &mut Vec<Finding>) {
    // They are nearly in order: each block adds to the end. Insertion is quick then, and small.
    for i in 1..found.len() {
        let mut at = i;
        let before = |a: &Finding, b: &Finding| (a.start, b.end) < (b.start, a.end);
        while at > 0 && before(&found[at], &found[at - 1]) {
            found.swap(at, at - 1);
            at -= 1;
        }
    }
    let mut last = 0;
    for i in 1..found.len() {
        if found[i].start < found[last].end {
            found[last].end = found[last].end.max(found[i].end);
        } else {
            last += 1;
            found[last] = found[i];
        }
    }
    found.truncate(last + 1);
}

/// Finds everything in many texts that stand one behind the other in one buffer, as columns hold them: entry `i` is
/// `data[offsets[i]..offsets[i + 1]]`. Calls `each` with the position of every entry that holds something, in order, and
/// its findings, whose positions count from the beginning of the entry.
///
/// For short texts much faster than a [`scan`] for each: the pass over all bytes does not stop between entries.
pub fn scan_entries(data: &[u8], offsets: &[u32], detectors: Detectors, mut each: impl FnMut(usize, &[Finding])) {
    let mut found = Vec::new();
    let entries = offsets.len().saturating_sub(1);
    let (mut entry, mut at) = (0, 0);
    while at < data.len() {
        let end = at + BLOCK;
        if triggers(data, at) & detectors.0 == 0 {
            at = end;
            continue;
        }
        // Entries that end before this block are done, or hold nothing.
        entry += offsets[entry + 1..].partition_point(|&to| to as usize <= at);
        while entry < entries && (offsets[entry] as usize) < end {
            let text = data.get(offsets[entry] as usize..offsets[entry + 1] as usize).unwrap_or_default();
            scan_into(text, detectors, &mut found);
            if !found.is_empty() {
                each(entry, &found);
            }
            entry += 1;
        }
        if entry >= entries {
            return;
        }
        // The last entry may have ended far behind this block.
        at = end.max(offsets[entry] as usize);
    }
}

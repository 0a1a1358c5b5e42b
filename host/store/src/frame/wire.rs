//! Little-endian numbers in byte strings. Reading checks every length: what was read from disk is treated like what came
//! over the network.

use crate::error::Damage;

/// Appends numbers.
pub(crate) trait Put {
    fn u8(&mut self, n: u8);
    fn u16(&mut self, n: u16);
    fn u32(&mut self, n: u32);
    fn u64(&mut self, n: u64);
    fn i64(&mut self, n: i64);
    /// LEB128.
    fn var(&mut self, n: u64);
    /// Length, then bytes.
    fn text(&mut self, bytes: &[u8]);
}

impl Put for Vec<u8> {
    fn u8(&mut self, n: u8) {
        self.push(n);
    }

    fn u16(&mut self, n: u16) {
        self.extend_from_slice(&n.to_le_bytes());
    }

    fn u32(&mut self, n: u32) {
        self.extend_from_slice(&n.to_le_bytes());
    }

    fn u64(&mut self, n: u64) {
        self.extend_from_slice(&n.to_le_bytes());
    }

    fn i64(&mut self, n: i64) {
        self.extend_from_slice(&n.to_le_bytes());
    }

    fn var(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.push(n as u8);
    }

    fn text(&mut self, bytes: &[u8]) {
        self.var(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }
}

/// Takes numbers from the front of a byte string; `what` names it in errors.
pub(crate) struct Take<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Take<'a> {
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Take<'a> {
        Take { rest: bytes, what }
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Result<&'a [u8], Damage> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(Damage::Short(self.what))?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Damage::Short(self.what))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Damage> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Damage> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Damage> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Damage> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub(crate) fn var(&mut self) -> Result<u64, Damage> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            n |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(Damage::Bounds(self.what))
    }

    /// A number that may not pass `max`.
    pub(crate) fn var_max(&mut self, max: usize) -> Result<usize, Damage> {
        let n = self.var()?;
        usize::try_from(n).ok().filter(|n| *n <= max).ok_or(Damage::Bounds(self.what))
    }

    pub(crate) fn text(&mut self) -> Result<&'a [u8], Damage> {
        let n = self.var_max(self.rest.len())?;
        self.bytes(n)
    }

    pub(crate) fn string(&mut self) -> Result<&'a str, Damage> {
        std::str::from_utf8(self.text()?).map_err(|_| Damage::Bounds(self.what))
    }

    /// What is not taken yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Nothing may be left over.
    pub(crate) fn end(self) -> Result<(), Damage> {
        if self.rest.is_empty() { Ok(()) } else { Err(Damage::Bounds(self.what)) }
    }
}

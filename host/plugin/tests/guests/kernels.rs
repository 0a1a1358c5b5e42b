// What the benchmark runs in the sandbox and, compiled for this machine, beside it: the same lines.

/// Bit per value: whether it is at most `max`.
pub fn at_most(values: &[i64], max: i64) -> Vec<u8> {
    let mut keep = vec![0; values.len().div_ceil(8)];
    for (byte, eight) in keep.iter_mut().zip(values.chunks(8)) {
        for (bit, value) in eight.iter().enumerate() {
            *byte |= u8::from(*value <= max) << bit;
        }
    }
    keep
}

/// Bit per text: whether it does not hold the needle.
pub fn without(finder: &memchr::memmem::Finder<'_>, offsets: &[u32], data: &[u8]) -> Vec<u8> {
    let mut keep = vec![0; (offsets.len() - 1).div_ceil(8)];
    for (i, o) in offsets.windows(2).enumerate() {
        let absent = finder.find(&data[o[0] as usize..o[1] as usize]).is_none();
        keep[i / 8] |= u8::from(absent) << (i % 8);
    }
    keep
}

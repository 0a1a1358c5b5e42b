// What the benchmark runs in the sandbox and, compiled for this machine, beside it: the same lines.

/// Bit per value: whether it is at most `max`. Eight at a time, without a loop inside: each turn of a loop in the sandbox
/// looks at the clock of its deadline.
pub fn at_most(values: &[i64], max: i64) -> Vec<u8> {
    let (whole, rest) = values.as_chunks::<8>();
    let bit = |value: i64, n: u8| u8::from(value <= max) << n;
    let mut keep = Vec::with_capacity(values.len().div_ceil(8));
    keep.extend(whole.iter().map(|&[a, b, c, d, e, f, g, h]| {
        bit(a, 0) | bit(b, 1) | bit(c, 2) | bit(d, 3) | bit(e, 4) | bit(f, 5) | bit(g, 6) | bit(h, 7)
    }));
    if !rest.is_empty() {
        keep.push(rest.iter().zip(0..).fold(0, |byte, (value, n)| byte | bit(*value, n)));
    }
    keep
}

/// Nanoseconds as milliseconds, to the nearest half.
pub fn millis(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| (value / 1e6 * 2.0).round() / 2.0).collect()
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

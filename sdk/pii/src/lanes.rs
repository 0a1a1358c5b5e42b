//! Sixteen bytes at a time: the few vector operations that the first pass is made of.
//!
//! In guests the instructions of simd128, on x86-64 those of SSE2; elsewhere arrays, of which the compiler makes vectors where
//! it can. With arrays alone the pass is ten times slower on x86-64: the compiler does not see through it.

pub(crate) use target::Lanes;

/// How many bytes.
pub(crate) const LANES: usize = 16;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod target {
    use std::arch::wasm32::*;

    #[derive(Clone, Copy)]
    pub(crate) struct Lanes(v128);

    impl Lanes {
        #[inline(always)]
        pub(crate) fn load(bytes: &[u8; 16]) -> Lanes {
            let n = u128::from_le_bytes(*bytes);
            Lanes(u64x2(n as u64, (n >> 64) as u64))
        }

        /// 255 where the byte is `b`, else 0.
        #[inline(always)]
        pub(crate) fn eq(self, b: u8) -> Lanes {
            Lanes(u8x16_eq(self.0, u8x16_splat(b)))
        }

        /// 255 where the byte is one of the `n` from `b` on, else 0.
        #[inline(always)]
        pub(crate) fn from(self, b: u8, n: u8) -> Lanes {
            Lanes(u8x16_lt(u8x16_sub(self.0, u8x16_splat(b)), u8x16_splat(n)))
        }

        /// Letters in lower case; other bytes change too, none of them into a letter that it was not.
        #[inline(always)]
        pub(crate) fn lower(self) -> Lanes {
            Lanes(v128_or(self.0, u8x16_splat(0x20)))
        }

        #[inline(always)]
        pub(crate) fn or(self, other: Lanes) -> Lanes {
            Lanes(v128_or(self.0, other.0))
        }

        #[inline(always)]
        pub(crate) fn and(self, other: Lanes) -> Lanes {
            Lanes(v128_and(self.0, other.0))
        }

        /// The highest bit of each byte, the first byte's lowest.
        #[inline(always)]
        pub(crate) fn bits(self) -> u16 {
            u8x16_bitmask(self.0)
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(
    unsafe_code,
    reason = "SSE2 belongs to every x86-64, so that its functions may be called; none of them sees a pointer"
)]
mod target {
    // SAFETY (of every block here): these functions need SSE2 alone, which is part of x86-64, and touch no memory.
    use std::arch::x86_64::*;

    #[derive(Clone, Copy)]
    pub(crate) struct Lanes(__m128i);

    impl Lanes {
        #[inline(always)]
        pub(crate) fn load(bytes: &[u8; 16]) -> Lanes {
            let n = u128::from_le_bytes(*bytes);
            Lanes(unsafe { _mm_set_epi64x((n >> 64) as i64, n as i64) })
        }

        #[inline(always)]
        pub(crate) fn eq(self, b: u8) -> Lanes {
            Lanes(unsafe { _mm_cmpeq_epi8(self.0, _mm_set1_epi8(b as i8)) })
        }

        #[inline(always)]
        pub(crate) fn from(self, b: u8, n: u8) -> Lanes {
            let shifted = unsafe { _mm_sub_epi8(self.0, _mm_set1_epi8(b as i8)) };
            Lanes(unsafe { _mm_cmpeq_epi8(_mm_min_epu8(shifted, _mm_set1_epi8(n as i8 - 1)), shifted) })
        }

        #[inline(always)]
        pub(crate) fn lower(self) -> Lanes {
            Lanes(unsafe { _mm_or_si128(self.0, _mm_set1_epi8(0x20)) })
        }

        #[inline(always)]
        pub(crate) fn or(self, other: Lanes) -> Lanes {
            Lanes(unsafe { _mm_or_si128(self.0, other.0) })
        }

        #[inline(always)]
        pub(crate) fn and(self, other: Lanes) -> Lanes {
            Lanes(unsafe { _mm_and_si128(self.0, other.0) })
        }

        #[inline(always)]
        pub(crate) fn bits(self) -> u16 {
            unsafe { _mm_movemask_epi8(self.0) as u16 }
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128"))))]
mod target {
    #[derive(Clone, Copy)]
    pub(crate) struct Lanes([u8; 16]);

    impl Lanes {
        #[inline(always)]
        pub(crate) fn load(bytes: &[u8; 16]) -> Lanes {
            Lanes(*bytes)
        }

        #[inline(always)]
        pub(crate) fn eq(self, b: u8) -> Lanes {
            Lanes(self.0.map(|x| if x == b { 255 } else { 0 }))
        }

        #[inline(always)]
        pub(crate) fn from(self, b: u8, n: u8) -> Lanes {
            Lanes(self.0.map(|x| if x.wrapping_sub(b) < n { 255 } else { 0 }))
        }

        #[inline(always)]
        pub(crate) fn lower(self) -> Lanes {
            Lanes(self.0.map(|x| x | 0x20))
        }

        #[inline(always)]
        pub(crate) fn or(self, other: Lanes) -> Lanes {
            Lanes(std::array::from_fn(|i| self.0[i] | other.0[i]))
        }

        #[inline(always)]
        pub(crate) fn and(self, other: Lanes) -> Lanes {
            Lanes(std::array::from_fn(|i| self.0[i] & other.0[i]))
        }

        #[inline(always)]
        pub(crate) fn bits(self) -> u16 {
            self.0.iter().rev().fold(0, |bits, x| bits << 1 | u16::from(x >> 7))
        }
    }
}

//! Generated requests, their bytes changed in many ways.

use prism_model::Limits;
use proptest::prelude::*;
use prost::Message;

use crate::agree;
use crate::generate;
use crate::scramble::{self, Dice, scramble};

fn tight() -> Limits {
    Limits { attribute_columns_max: 3, ..Limits::default() }
}

/// Changes a few bytes, or cuts the end off.
fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    if bytes.is_empty() {
        return;
    }
    if dice.roll(4) == 0 {
        bytes.truncate(dice.roll(bytes.len()));
        return;
    }
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(bytes.len());
        match dice.roll(3) {
            0 => bytes[at] ^= 1 << dice.roll(8),
            1 => bytes[at] = dice.roll(256) as u8,
            _ => bytes.insert(at, dice.roll(256) as u8),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn spans_are_walked_as_prost_decodes_them(request in generate::traces()) {
        let bytes = request.encode_to_vec();
        for limits in [Limits::default(), tight()] {
            let decoded = agree::traces(&bytes, &limits);
            prop_assert!(matches!(decoded, Ok(Some(_))), "{:?}", decoded);
        }
    }

    #[test]
    fn logs_are_walked_as_prost_decodes_them(request in generate::logs()) {
        let bytes = request.encode_to_vec();
        for limits in [Limits::default(), tight()] {
            let decoded = agree::logs(&bytes, &limits);
            prop_assert!(matches!(decoded, Ok(Some(_))), "{:?}", decoded);
        }
    }

    #[test]
    fn points_are_walked_as_prost_decodes_them(request in generate::metrics()) {
        let bytes = request.encode_to_vec();
        for limits in [Limits::default(), tight()] {
            let decoded = agree::metrics(&bytes, &limits);
            prop_assert!(matches!(decoded, Ok(Some(_))), "{:?}", decoded);
        }
    }

    #[test]
    fn points_written_in_another_way_are_walked_alike(request in generate::metrics(), seed: u64) {
        let bytes = scramble(&request.encode_to_vec(), scramble::METRICS, &mut Dice(seed));
        let decoded = agree::metrics(&bytes, &Limits::default());
        prop_assert!(matches!(decoded, Ok(Some(_))), "{:?}", decoded);
    }

    #[test]
    fn spans_written_in_another_way_are_walked_alike(request in generate::traces(), seed: u64) {
        let bytes = scramble(&request.encode_to_vec(), scramble::TRACES, &mut Dice(seed));
        let decoded = agree::traces(&bytes, &Limits::default());
        prop_assert!(matches!(decoded, Ok(Some(_))), "{:?}", decoded);
    }

    #[test]
    fn logs_written_in_another_way_are_walked_alike(request in generate::logs(), seed: u64) {
        let bytes = scramble(&request.encode_to_vec(), scramble::LOGS, &mut Dice(seed));
        let decoded = agree::logs(&bytes, &Limits::default());
        prop_assert!(matches!(decoded, Ok(Some(_))), "{:?}", decoded);
    }

    #[test]
    fn damaged_requests_are_refused_as_prost_refuses_them(
        traces in generate::traces(),
        logs in generate::logs(),
        metrics in generate::metrics(),
        seed: u64,
    ) {
        let (traces, logs, metrics) = (traces.encode_to_vec(), logs.encode_to_vec(), metrics.encode_to_vec());
        for i in 0..24 {
            let dice = &mut Dice(seed.wrapping_add(i));
            let mut bytes = traces.clone();
            damage(&mut bytes, dice);
            prop_assert!(agree::traces(&bytes, &Limits::default()).is_ok(), "{:?}", agree::traces(&bytes, &Limits::default()));
            let mut bytes = logs.clone();
            damage(&mut bytes, dice);
            prop_assert!(agree::logs(&bytes, &Limits::default()).is_ok(), "{:?}", agree::logs(&bytes, &Limits::default()));
            let mut bytes = metrics.clone();
            damage(&mut bytes, dice);
            prop_assert!(agree::metrics(&bytes, &Limits::default()).is_ok(), "{:?}", agree::metrics(&bytes, &Limits::default()));
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(agree::traces(&bytes, &Limits::default()).is_ok());
        prop_assert!(agree::logs(&bytes, &Limits::default()).is_ok());
        prop_assert!(agree::metrics(&bytes, &Limits::default()).is_ok());
    }
}

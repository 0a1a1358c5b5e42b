//! Findings and edits against batches built by hand.

use prism_sdk::testing::{BatchBuilder, call};

use super::*;

fn plugin(config: &str) -> RedactPii {
    RedactPii::new(serde_json::from_str(config).unwrap()).unwrap()
}

/// The texts of the first column after the edit; `None` where it was cleared.
fn redact(plugin: &mut RedactPii, texts: &[&str]) -> Vec<String> {
    let need = plugin.exclude.len() as u32;
    let values: Vec<_> = texts.iter().map(|t| Some(*t)).collect();
    let batch = BatchBuilder::entries().text(need, "*", &values).build();
    let mut texts: Vec<String> = texts.iter().map(|&t| t.to_owned()).collect();
    for edit in plugin.redact(&batch, &call()).unwrap() {
        let Values::Utf8(new) = &edit.values else { panic!("expected text") };
        assert_eq!(new.data.len(), new.data.capacity(), "the result is sized exactly");
        for (at, range) in edit.at.iter().zip(new.offsets.windows(2)) {
            texts[*at as usize] = String::from_utf8(new.data[range[0] as usize..range[1] as usize].to_vec()).unwrap();
        }
        assert_eq!(edit.labels.len(), edit.at.len() + edit.cleared.len());
    }
    texts
}

#[test]
fn findings_are_masked_by_their_kind_and_the_rest_stays() {
    let texts = [
        "GET /",
        "joe@example.com from 192.0.2.7, twice joe@example.com",
        "",
        "card 4111 1111 1111 1111",
        "::1",
        "Bearer xyz",
    ];
    assert_eq!(
        redact(&mut plugin("{}"), &texts),
        ["GET /", "[email] from [ipv4], twice [email]", "", "card [card]", "[ipv6]", "Bearer [bearer]"]
    );
}

#[test]
fn only_the_chosen_detectors_are_at_work() {
    let mut plugin = plugin(r#"{"detectors": ["ipv4"]}"#);
    assert_eq!(redact(&mut plugin, &["joe@example.com 192.0.2.7"]), ["joe@example.com [ipv4]"]);
}

#[test]
fn hashes_are_stable_and_depend_on_the_salt() {
    let one = || plugin(r#"{"action": "hash", "salt": "0123456789abcdef"}"#);
    let texts = ["joe@example.com", "ann@example.com, joe@example.com"];
    let hashed = redact(&mut one(), &texts);
    assert_eq!(hashed, redact(&mut one(), &texts));
    assert!(hashed[0].starts_with("[email:") && hashed[0].len() == "[email:]".len() + 16, "{hashed:?}");
    assert!(hashed[1].ends_with(&hashed[0]) && !hashed[1].starts_with(&hashed[0]));
    assert_eq!(redact(&mut one(), &[&hashed[0]]), [hashed[0].clone()], "a hash is not found again");
    let mut other = plugin(r#"{"action": "hash", "salt": "0123456789abcdeF"}"#);
    assert_ne!(redact(&mut other, &texts), hashed);
}

#[test]
fn hashing_without_a_salt_is_refused() {
    for config in [r#"{"action": "hash"}"#, r#"{"action": "hash", "salt": "short"}"#] {
        assert!(matches!(RedactPii::new(serde_json::from_str(config).unwrap()), Err(Error::BadConfig(_))), "{config}");
    }
    assert!(serde_json::from_str::<Config>(r#"{"acton": "hash"}"#).is_err());
}

#[test]
fn card_numbers_that_are_numbers_are_cleared_or_hashed() {
    let ints = [Some(4_111_111_111_111_111), Some(1_700_000_000_000_000_000), Some(-4_111_111_111_111_111), Some(200)];
    let floats = [Some(4_111_111_111_111_111.0), Some(0.5), Some(f64::NAN), Some(f64::INFINITY)];
    let batch = BatchBuilder::entries().ints(0, "*", &ints).floats(0, "*", &floats).build();
    let edits = plugin("{}").redact(&batch, &call()).unwrap();
    assert_eq!(edits.len(), 2);
    for edit in &edits {
        assert_eq!((&edit.at, &edit.cleared, &edit.labels), (&vec![], &vec![0], &vec![Kind::Card as u8]));
    }
    let edits = plugin(r#"{"action": "hash", "salt": "0123456789abcdef"}"#).redact(&batch, &call()).unwrap();
    let (Values::S64s(ints), Values::F64s(floats)) = (&edits[0].values, &edits[1].values) else {
        panic!("expected numbers")
    };
    assert!(ints[0] < 0 && floats[0] < 0.0 && floats[0].fract() == 0.0);
    assert_eq!(edits[0].at, [0]);
    assert!(plugin(r#"{"detectors": ["email"]}"#).redact(&batch, &call()).unwrap().is_empty());
}

#[test]
fn binary_values_that_are_text_are_masked_and_others_stay() {
    let values: [&[u8]; 3] = [b"\xff joe@example.com", b"joe@example.com", b"\x00\x01"];
    let batch = BatchBuilder::entries().binary(0, "*", &values).build();
    let edits = plugin("{}").redact(&batch, &call()).unwrap();
    let Values::Binary(new) = &edits[0].values else { panic!("expected binary") };
    assert_eq!((&edits[0].at, new.data.as_slice()), (&vec![1], b"[email]".as_slice()));
}

#[test]
fn excluded_attributes_are_left_alone() {
    let mut plugin = plugin(r#"{"exclude": ["user.email", "net.*"]}"#);
    let needs = plugin.needs();
    assert_eq!((needs[0].name.as_str(), needs[1].name.as_str(), needs[2].name.as_str()), ("user.email", "net.*", "*"));
    let batch =
        BatchBuilder::entries().text(1, "net.*", &[Some("192.0.2.7")]).text(2, "*", &[Some("192.0.2.7")]).build();
    let edits = plugin.redact(&batch, &call()).unwrap();
    assert_eq!(edits.iter().map(|e| e.column).collect::<Vec<_>>(), [1]);
}

#[test]
fn keys_are_asked_for_unless_the_tenant_says_no() {
    let asks = |config: &str| plugin(config).needs().iter().any(|n| n.role == Role::AttributeKey);
    assert!(asks("{}") && !asks(r#"{"keys": false}"#));
}

#[test]
fn every_place_and_text_field_is_asked_for() {
    for need in plugin("{}").needs() {
        assert!(need.place.is_none() && need.leaves, "{need:?}");
    }
    let metadata = RedactPii::describe();
    assert_eq!(metadata.metadata().labels, ["email", "card", "ipv4", "ipv6", "bearer"]);
    assert!(metadata.metadata().deterministic);
}

#[test]
fn schema_and_example_are_json_and_agree() {
    let schema: serde_json::Value = serde_json::from_str(include_str!("../config.schema.json")).unwrap();
    let example: serde_json::Value = serde_json::from_str(include_str!("../config.example.json")).unwrap();
    for key in example.as_object().unwrap().keys() {
        assert!(schema["properties"].get(key).is_some(), "{key}");
    }
    let config: Config = serde_json::from_value(example).unwrap();
    assert_eq!(config.detectors.as_ref().map(Vec::len), Some(3));
    assert!(RedactPii::new(config).is_ok());
}

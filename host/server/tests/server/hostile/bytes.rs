//! Bytes that are no message: cut, damaged, compressed by what they are not, too large before or after.

use super::{ALL, Item, SIGNALS, Told, WAYS, Way, count, gzip, send, text};
use crate::harness::Server;

#[test]
fn bytes_that_are_no_message_are_refused_and_leave_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::configured(dir.path(), "[limits]\nbody_bytes_max = 100_000\n");
    for signal in SIGNALS {
        for way in WAYS {
            let good = signal.request(way, &[Item::new(vec![text("a", "b")])]);
            let check = |encoding: Option<&str>, message: &[u8], told: Told, what: &str| {
                assert_eq!(send(&server, signal, way, encoding, message), told, "{signal:?} {way:?}: {what}");
            };
            for end in [1, good.len() / 3, good.len() / 2, good.len() - 1] {
                check(None, &good[..end], Told::Invalid, "cut off");
                check(Some("gzip"), &gzip(&good[..end]), Told::Invalid, "cut off before it was compressed");
            }
            check(None, b"\xff\xff\xff\xff what", Told::Invalid, "garbage");
            check(None, &[&good[..], b"\xff\xff garbage"].concat(), Told::Invalid, "garbage behind");
            check(None, &gzip(&good), Told::Invalid, "compressed without a word");
            check(Some("gzip"), &good, Told::Invalid, "no gzip");
            check(Some("zstd"), &good, Told::Invalid, "no zstd");
            check(Some("gzip"), b"", Told::Invalid, "no gzip at all");
            check(Some("zstd"), &gzip(&good), Told::Invalid, "gzip by the name of zstd");
            check(Some("gzip"), &gzip(&gzip(&good)), Told::Invalid, "compressed twice");
            let packed = gzip(&good);
            check(Some("gzip"), &packed[..packed.len() - 4], Told::Invalid, "gzip cut off");
            check(Some("gzip"), &[&packed[..], b"garbage"].concat(), Told::Invalid, "garbage behind gzip");
            for unknown in ["br", "deflate", "snappy", "gzip, gzip"] {
                check(Some(unknown), b"x", Told::Encoding, unknown);
            }

            let large = vec![0; 3_000_000];
            let zeros = zstd::encode_all(large.as_slice(), 19).expect("compresses");
            let sized = zstd::bulk::compress(&large, 19).expect("compresses");
            // A stream that tells a size of 2^40 and holds a few bytes.
            let lies = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &(1u64 << 40).to_le_bytes(), &[1, 0, 0]].concat();
            check(None, &large, Told::TooLarge, "larger than the limit");
            check(None, &large[..100_001], Told::TooLarge, "a byte larger than the limit");
            check(Some("gzip"), &gzip(&large), Told::TooLarge, "a gzip bomb");
            check(Some("gzip"), &gzip(&[0; 60_000]).repeat(2), Told::TooLarge, "a gzip bomb in two members");
            check(Some("zstd"), &zeros, Told::TooLarge, "a zstd bomb");
            check(Some("zstd"), &sized, Told::TooLarge, "a zstd bomb that tells its size");
            check(Some("zstd"), &lies, Told::TooLarge, "a zstd bomb by its own word");

            assert_eq!(count(&server, signal, ""), 0, "{signal:?} {way:?}: nothing of it is stored");
        }
    }
    for signal in SIGNALS {
        for (i, way) in WAYS.into_iter().enumerate() {
            let items = [1, 2].map(|n| Item::new(vec![text("way", &format!("{way:?} {n}"))]));
            // Several members are one stream.
            let whole = signal.request(way, &items);
            let (one, other) = whole.split_at(whole.len() / 2);
            let members = [gzip(one), gzip(other)].concat();
            assert_eq!(
                send(&server, signal, way, Some("gzip"), &members),
                ALL,
                "{signal:?} {way:?}: the server goes on"
            );
            let empty: &[u8] = if way == Way::Json { b"{}" } else { b"" };
            assert_eq!(send(&server, signal, way, None, empty), ALL, "an empty request is a success");
            assert_eq!(count(&server, signal, ""), 2 * (i as i64 + 1));
        }
    }
}

#[test]
fn media_types_that_are_none_of_otlp_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::dev(dir.path());
    for signal in SIGNALS {
        let path = signal.path(Way::Http);
        let body = signal.request(Way::Http, &[Item::new(Vec::new())]);
        for kind in
            ["text/plain", "application/protobuf", "application/x-protobuf2", "multipart/form-data", "\u{e9}", ""]
        {
            let answer = server.send("POST", path, &[("content-type", kind)], body.clone());
            assert_eq!((answer.status, answer.header("content-type")), (415, "text/plain; charset=utf-8"), "{kind}");
        }
        for kind in ["application/x-protobuf", "APPLICATION/X-PROTOBUF ; charset=utf-8"] {
            let json = server.send("POST", path, &[("content-type", kind)], b"{}".to_vec());
            assert_eq!(json.status, 400, "JSON by the name of protobuf");
        }
        let json = server.send("POST", path, &[("content-type", "Application/JSON;charset=UTF-8")], body.clone());
        assert_eq!(
            (json.status, json.header("content-type")),
            (400, "application/json"),
            "protobuf by the name of JSON"
        );
        assert!(json.json()["code"] == 3 && json.json()["message"].is_string(), "{}", json.text());
        assert_eq!(count(&server, signal, ""), 0);
    }
}

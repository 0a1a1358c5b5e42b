//! What every store of objects must do.

use std::io;

use bytes::Bytes;
use prism_store::control::Create;
use prism_store::objects::Objects;

/// Puts objects below `a`, and looks at them in every way.
pub fn behave(objects: &(dyn Objects + Sync)) {
    assert!(objects.list("a/b", "").unwrap().is_empty() && objects.folders("a").unwrap().is_empty());
    for n in [3, 1, 2] {
        assert_eq!(objects.create(&format!("a/b/{n}"), vec![n; 10].into()).unwrap(), Create::Created);
    }
    assert_eq!(objects.create("a/b/1", Bytes::from_static(b"other")).unwrap(), Create::Lost);
    assert_eq!(objects.get("a/b/1").unwrap(), vec![1; 10]);
    assert_eq!(objects.len("a/b/1").unwrap(), 10);
    assert_eq!(objects.read("a/b/2", 3..7).unwrap(), vec![2; 4]);
    assert_eq!(objects.read("a/b/2", 10..10).unwrap(), Bytes::new());
    assert_eq!(objects.read_end("a/b/2", 4).unwrap(), (Bytes::from(vec![2; 4]), 10));
    assert_eq!(objects.read_end("a/b/2", 4_000).unwrap(), (Bytes::from(vec![2; 10]), 10));
    for range in [5..11, 10..12, 11..11, 50..60] {
        assert_eq!(objects.read("a/b/2", range.clone()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{range:?}");
    }
    let several = objects.read_ranges("a/b/2", &[0..3, 8..10, 3..3]).unwrap();
    assert_eq!(several, [Bytes::from(vec![2; 3]), Bytes::from(vec![2; 2]), Bytes::new()]);
    assert!(objects.read_ranges("a/b/2", &[]).unwrap().is_empty());
    let far = objects.read_ranges("a/b/2", &[0..3, 8..11]).unwrap_err();
    assert_eq!(far.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(objects.read_ranges("a/none", &[0..1, 2..3]).unwrap_err().kind(), io::ErrorKind::NotFound);
    // Empty ones are objects too.
    assert_eq!(objects.create("a/empty", Bytes::new()).unwrap(), Create::Created);
    assert_eq!((objects.get("a/empty").unwrap(), objects.len("a/empty").unwrap()), (Bytes::new(), 0));
    assert_eq!(objects.read_end("a/empty", 4).unwrap(), (Bytes::new(), 0));
    // Names that Delta tables have.
    objects.create("a/c/date=2026-11-21/part-0001.parquet", Bytes::from_static(b"p")).unwrap();
    objects.create("a/c/_delta_log/00000000000000000000.json", Bytes::from_static(b"{}")).unwrap();
    let listed = |folder: &str, after: &str| -> Vec<(String, u64)> {
        objects.list(folder, after).unwrap().into_iter().map(|l| (l.name, l.bytes)).collect()
    };
    let named = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), 10)).collect::<Vec<_>>();
    assert_eq!(listed("a/b", ""), named(&["a/b/1", "a/b/2", "a/b/3"]));
    assert_eq!(listed("a/b", "a/b/2"), named(&["a/b/3"]));
    assert_eq!(listed("a/b", "a/b/25"), named(&["a/b/3"]));
    assert_eq!(listed("a", ""), [("a/empty".to_owned(), 0)]);
    assert!(listed("a/b", "a/b/3").is_empty() && listed("a/c", "").is_empty());
    assert_eq!(objects.folders("a").unwrap(), ["b", "c"]);
    assert_eq!(objects.folders("a/c").unwrap(), ["_delta_log", "date=2026-11-21"]);
    assert!(objects.folders("").unwrap().contains(&"a".to_owned()));
    // An upload that is dropped never was; one that is finished is whole.
    let mut dropped = objects.upload("a/b/9").unwrap();
    dropped.write(b"part").unwrap();
    drop(dropped);
    let mut upload = objects.upload("a/b/8").unwrap();
    upload.write(b"one ").unwrap();
    upload.write(b"two").unwrap();
    assert_eq!(objects.len("a/b/8").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(upload.finish().unwrap(), Create::Created);
    assert_eq!(objects.get("a/b/8").unwrap(), b"one two"[..]);
    assert_eq!(objects.upload("a/b/8").unwrap().finish().unwrap(), Create::Lost);
    for name in ["a/b/9", "a/none", "none/none"] {
        assert_eq!(objects.get(name).unwrap_err().kind(), io::ErrorKind::NotFound, "{name}");
        assert_eq!(objects.read_end(name, 9).unwrap_err().kind(), io::ErrorKind::NotFound, "{name}");
    }
    objects.delete("a/b/1").unwrap();
    objects.delete("a/b/1").unwrap();
    assert_eq!(objects.read("a/b/1", 0..1).unwrap_err().kind(), io::ErrorKind::NotFound);
    for bad in ["", "/", "../a", "a//b", ".temp/x", "a/.hidden"] {
        assert!(objects.get(bad).is_err() && objects.create(bad, Bytes::new()).is_err(), "{bad}");
    }
    // ST-5: of many that create a name, one does.
    let created: Vec<Create> = std::thread::scope(|scope| {
        let one = |i: u8| scope.spawn(move || objects.create("a/b/5", vec![i; 7].into()).unwrap());
        (0..6).map(one).collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(created.iter().filter(|c| **c == Create::Created).count(), 1);
    let winner = created.iter().position(|c| *c == Create::Created).unwrap();
    assert_eq!(objects.get("a/b/5").unwrap(), vec![winner as u8; 7]);
}

//! A block gives back what went in by one read of its end, and refuses every other object.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use prism_model::samples::{Random, batch, spans, texts};
use prism_model::window::{TimeRange, WINDOW_NANOS, Window};
use prism_model::{Batch, Classify as _, Kind, Signal};

use super::name::{BLOCK_HEADER, BlockName};
use super::write::BlockWriter;
use super::{Block, BlockSource, Blocks};
use crate::control::Create;
use crate::disk::RealDisk;
use crate::error::{Damage, StoreError};
use crate::frame::encode::encode;
use crate::keys::{Keyring, Scheme};
use crate::objects::{LocalObjects, Objects};
use crate::place::SegmentName;
use crate::unit::Tier;

const NOW: i64 = 6_000_000 * WINDOW_NANOS;

struct Folder {
    root: tempfile::TempDir,
    objects: Arc<dyn Objects>,
    keys: Keyring,
}

impl Folder {
    fn new() -> Folder {
        let root = tempfile::tempdir().unwrap();
        let objects = Arc::new(LocalObjects::new(Arc::new(RealDisk), root.path(), 1));
        Folder { root, objects, keys: Keyring::default() }
    }

    fn encrypted() -> Folder {
        let folder = Folder::new();
        let keys = Keyring::open(folder.root.path(), &folder.root.path().join("keys"), Scheme::Local, None);
        Folder { keys, ..folder }
    }

    fn name(seq: u64) -> BlockName {
        BlockName { tenant: "acme".parse().unwrap(), signal: Signal::Spans, shard: 0, seq }
    }

    fn path(&self, seq: u64) -> PathBuf {
        self.root.path().join(Folder::name(seq).object())
    }

    /// A block of these batches, a frame each, in windows that follow each other.
    fn write(&self, seq: u64, batches: &[Batch], cube: Option<Vec<u8>>) -> Create {
        let mut writer = BlockWriter::begin(&*self.objects, &self.keys, Folder::name(seq), NOW, 0).unwrap();
        let mut sources = Vec::new();
        for (i, batch) in batches.iter().enumerate() {
            let window = Window::from_number(6_000_000 + i as i64);
            writer.frame(&encode(batch, 1).unwrap(), window).unwrap();
            let name = SegmentName { shard: 0, window, late: i == 1, writer: 7, epoch: 1, file: i as u32 };
            let rows = batch.rows() as u64;
            sources.push(BlockSource { name, bytes: 4096, rows, frames: 1, hash: i as u128, lost: i == 0 });
        }
        let written = writer.finish(&sources, cube).unwrap();
        assert!(written.bytes > 0 && written.frames as usize == batches.len());
        written.created
    }

    fn list(&self) -> Result<Vec<Arc<Block>>, StoreError> {
        // Opened anew: nothing is remembered of an object that a test changed.
        Blocks::open(self.objects.clone(), self.keys.clone()).list(&"acme".parse().unwrap(), Signal::Spans, 0, 0)
    }
}

fn rows(block: &Block) -> Result<Vec<String>, StoreError> {
    let mut out = Vec::new();
    for frame in block.frames(TimeRange::ALL) {
        out.extend(texts(&frame.read(&|_, _| true)?.0));
    }
    Ok(out)
}

#[test]
fn a_block_is_listed_by_its_end_and_reads_back() {
    [Folder::new(), Folder::encrypted()].iter().for_each(lists_and_reads_back);
}

fn lists_and_reads_back(folder: &Folder) {
    let batches: Vec<Batch> = (0..3)
        .map(|i| spans(2_500, NOW + i * WINDOW_NANOS, i as u64))
        .chain([batch(Signal::Spans, 30, NOW, 9)])
        .collect();
    assert_eq!(folder.write(1, &batches[..2], Some(b"a cube".to_vec())), Create::Created);
    assert_eq!(folder.write(2, &batches[2..], None), Create::Created);
    assert_eq!(folder.write(2, &batches[..1], None), Create::Lost);
    fs::write(folder.path(2).with_file_name("readme.txt"), "of somebody else").unwrap();
    let blocks = Blocks::open(folder.objects.clone(), folder.keys.clone());
    let tenant = "acme".parse().unwrap();
    assert_eq!(blocks.shards(&tenant, Signal::Spans).unwrap(), [0]);
    assert!(blocks.shards(&tenant, Signal::Logs).unwrap().is_empty());
    let listed = blocks.list(&tenant, Signal::Spans, 0, 0).unwrap();
    assert_eq!(listed.iter().map(|b| (b.seq, b.rows, b.frames)).collect::<Vec<_>>(), [(1, 5_000, 2), (2, 2_530, 2)]);
    let expected = |batches: &[Batch]| batches.iter().flat_map(texts).collect::<Vec<_>>();
    assert!(rows(&listed[0]).unwrap() == expected(&batches[..2]));
    assert!(rows(&listed[1]).unwrap() == expected(&batches[2..]));
    assert_eq!(listed[0].cube_bytes().unwrap().as_deref(), Some(&b"a cube"[..]));
    assert_eq!(listed[1].cube_bytes().unwrap(), None);
    assert_eq!((listed[0].sources.len(), listed[0].sources[0].lost, listed[0].sources[1].lost), (2, true, false));
    assert_eq!(listed[0].sources[1].window(), (Window::from_number(6_000_001), true));
    listed.iter().for_each(|b| b.verify().unwrap());
    let frames = listed[0].frames(TimeRange { from: NOW + WINDOW_NANOS, to: NOW + 2 * WINDOW_NANOS });
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0].tier(), frames[0].window()), (Tier::Warm, Window::from_number(6_000_001)));
    let id: [u8; 16] = {
        let ids = batches[1].items().intrinsic(prism_model::Intrinsic::TraceId).unwrap();
        arrow::array::AsArray::as_fixed_size_binary(ids).value(5).try_into().unwrap()
    };
    assert!(frames[0].may_contain_trace(&id));
    let origins: Vec<_> = batches[1].origins.clone();
    assert_eq!(frames[0].origins().unwrap(), origins);
    assert_eq!(blocks.list(&tenant, Signal::Spans, 0, 1).unwrap().len(), 1);
    assert!(Arc::ptr_eq(&blocks.list(&tenant, Signal::Spans, 0, 1).unwrap()[0], &listed[1]));
}

#[test]
fn a_footer_longer_than_the_first_read_is_read_by_a_second() {
    let folder = Folder::new();
    let one = batch(Signal::Spans, 12, NOW, 1);
    let mut writer = BlockWriter::begin(&*folder.objects, &folder.keys, Folder::name(1), NOW, 0).unwrap();
    writer.frame(&encode(&one, 1).unwrap(), Window::of(NOW)).unwrap();
    let mut random = Random(5);
    let source = |rows: usize, random: &mut Random| {
        let (writer, hash) = (random.number(), u128::from(random.number()) << 64 | u128::from(random.number()));
        let name = SegmentName { shard: 0, window: Window::of(NOW), late: false, writer, epoch: 1, file: 1 };
        BlockSource { name, bytes: 4096, rows: rows as u64, frames: 1, hash, lost: false }
    };
    let mut sources = vec![source(one.rows(), &mut random)];
    sources.extend((0..16_000).map(|_| source(0, &mut random)));
    writer.finish(&sources, None).unwrap();
    let listed = folder.list().unwrap();
    let footer = fs::metadata(folder.path(1)).unwrap().len() - listed[0].places_end();
    assert!(footer > 256 << 10, "{footer}");
    assert!(listed[0].sources == sources && rows(&listed[0]).unwrap() == texts(&one));
    listed[0].verify().unwrap();
}

/// Every flipped bit and every truncation of a small block is found, or changes nothing that is read.
#[test]
fn damaged_blocks_are_refused_and_never_panic() {
    let folder = Folder::new();
    let batches = [batch(Signal::Spans, 2, NOW, 3), batch(Signal::Spans, 1, NOW, 4)];
    folder.write(1, &batches, Some(b"a cube".to_vec()));
    let expected = rows(&folder.list().unwrap()[0]).unwrap();
    let path = folder.path(1);
    // Bytes are changed in place: a file that is written anew is flushed each time.
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let (mut refused, mut harmless) = (0, 0);
    for i in 0..bytes.len() {
        file.write_all_at(&[bytes[i] ^ 1 << (i % 8)], i as u64).unwrap();
        match folder.list() {
            Err(e) => {
                assert_eq!(e.kind(), Kind::Bug, "{e} at {i}");
                refused += 1;
            }
            Ok(listed) => {
                assert!(listed[0].verify().is_err(), "flip at {i} of {}", bytes.len());
                assert!(listed[0].cube_bytes().is_err() || listed[0].cube_bytes().unwrap().unwrap() == b"a cube");
                match rows(&listed[0]) {
                    Ok(found) => assert!(found == expected, "flip at {i} changed rows"),
                    Err(e) => assert_eq!(e.kind(), Kind::Bug, "{e} at {i}"),
                }
                harmless += 1;
            }
        }
        file.write_all_at(&[bytes[i]], i as u64).unwrap();
    }
    assert!(refused > 300 && harmless > 300, "{refused} {harmless}");
    for len in (0..bytes.len()).rev() {
        file.set_len(len as u64).unwrap();
        let error = folder.list().unwrap_err();
        assert_eq!(error.kind(), Kind::Bug, "{error} at {len}");
        if len >= BLOCK_HEADER {
            assert!(matches!(error, StoreError::Damaged(Damage::Short("block"))), "{error} at {len}");
        }
    }
}

/// No value, key or statistic stands in the clear, and a block does not open without its key or under another name.
#[test]
fn an_encrypted_block_tells_nothing_without_its_key() {
    let folder = Folder::encrypted();
    let batches = [batch(Signal::Spans, 40, NOW, 3), spans(2_500, NOW, 4)];
    folder.write(1, &batches, Some(b"cube of NEEDLE".to_vec()));
    let bytes = fs::read(folder.path(1)).unwrap();
    let holds = |needle: &str| bytes.windows(needle.len()).any(|w| w == needle.as_bytes());
    let clear = Folder::new();
    clear.write(1, &batches, Some(b"cube of NEEDLE".to_vec()));
    let open = fs::read(clear.path(1)).unwrap();
    let needles = ["NEEDLE", "service.name", "http.request.method"];
    let in_clear = needles.iter().filter(|n| open.windows(n.len()).any(|w| w == n.as_bytes())).count();
    assert!(in_clear > 0 && !needles.iter().any(|n| holds(n)));
    // Another key ring, and none.
    let other = Folder::encrypted();
    other.write(1, &batches[..1], None);
    let list = |keys: &Keyring| {
        let blocks = Blocks::open(folder.objects.clone(), keys.clone());
        blocks.list(&"acme".parse().unwrap(), Signal::Spans, 0, 0).map(|_| ())
    };
    list(&folder.keys).unwrap();
    for (keys, why) in [(&other.keys, "does not open this"), (&Keyring::default(), "is missing")] {
        let error = list(keys).unwrap_err();
        assert!(error.to_string().contains(why) && error.kind() == Kind::Retry, "{error}");
    }
    // Frames under the header and footer of another block of the same tenant, everything else made right.
    folder.write(2, &batches, Some(b"cube of NEEDLE".to_vec()));
    let twin = fs::read(folder.path(2)).unwrap();
    let begin = BLOCK_HEADER + 160;
    let mut mixed = bytes.clone();
    mixed[begin..begin + 2_000].copy_from_slice(&twin[begin..begin + 2_000]);
    fs::write(folder.path(1), &mixed).unwrap();
    let listed = folder.list().unwrap();
    assert!(listed[0].verify().is_err() && rows(&listed[0]).is_err());
}

#[test]
fn foreign_objects_and_other_versions_are_named() {
    let folder = Folder::new();
    folder.write(1, &[batch(Signal::Spans, 4, NOW, 3)], None);
    let bytes = fs::read(folder.path(1)).unwrap();
    let fault = |seq: u64| {
        let blocks = Blocks::open(folder.objects.clone(), folder.keys.clone());
        let found = blocks.look(&"acme".parse().unwrap(), Signal::Spans, 0, seq - 1).unwrap();
        found.into_iter().find(|f| f.seq == seq).unwrap().block.unwrap_err().to_string()
    };
    // A block under another number.
    fs::write(folder.path(2), &bytes).unwrap();
    assert_eq!(fault(2), "damaged data: block belongs elsewhere");
    // No block at all.
    fs::write(folder.path(3), vec![b'x'; 5_000]).unwrap();
    assert_eq!(fault(3), "damaged data: checksum of block tail does not match");
    // Of a newer version, as far as that says so.
    let mut newer = bytes.clone();
    let tail = newer.len() - 64;
    newer[tail + 8] = 9;
    crate::frame::header::seal(&mut newer[tail..]);
    fs::write(folder.path(4), &newer).unwrap();
    assert_eq!(
        fault(4),
        "damaged data: block has version 9, this reads up to 1: a newer prism wrote it, run that version here too"
    );
    // The others are still there for who does not need these.
    let blocks = Blocks::open(folder.objects.clone(), folder.keys.clone());
    let found = blocks.look(&"acme".parse().unwrap(), Signal::Spans, 0, 0).unwrap();
    assert_eq!(
        found.iter().map(|f| (f.seq, f.block.is_ok())).collect::<Vec<_>>(),
        [(1, true), (2, false), (3, false), (4, false)]
    );
}

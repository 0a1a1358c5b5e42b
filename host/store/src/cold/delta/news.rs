//! What commits say of files, as much as plans need: the way from a long tail behind a checkpoint to a plan.
//!
//! Most lines are files of ours, of which path, length and one tag count: their statistics, most of their bytes, are passed over.
//! Large commits are read and parsed by several threads. Not here: whole actions, which checkpoints need (`action`).

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use serde::Deserialize;

use super::action::{self, Known, Line, Remove};
use super::arrays::Entry;
use super::log::{Names, commit_bytes};
use crate::error::StoreError;
use crate::objects::Objects;

/// Bytes of commits that are in memory at once; one that is larger is alone.
const HELD_BYTES_MAX: u64 = 64 << 20;
/// Bytes of commits from which on another thread is worth its while.
const THREAD_BYTES: u64 = 1 << 20;
/// Threads that read at once, at most: on S3 a read of a commit takes some 30 ms and no processor.
const THREADS_MAX: usize = 8;

/// A commit.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// What is not of files.
    pub(crate) front: Vec<Line>,
    /// Files that went.
    pub(crate) removes: Vec<Remove>,
    /// Files that came.
    pub(crate) adds: Vec<Arc<Entry>>,
    lines: usize,
}

/// Reads commits, each with its length, in their order, and hands each to `take`.
pub(crate) fn read(
    objects: &Arc<dyn Objects>,
    names: &Names<'_>,
    commits: &[(u64, u64)],
    take: &mut dyn FnMut(u64, News) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut rest = commits;
    while !rest.is_empty() {
        let mut held = 0;
        let fit = rest.iter().take_while(|(_, bytes)| {
            held += bytes;
            held <= HELD_BYTES_MAX
        });
        let (batch, after) = rest.split_at(fit.count().max(1));
        let bytes: u64 = batch.iter().map(|(_, bytes)| bytes).sum();
        let news = on_threads(threads(bytes).min(batch.len()), batch, |(version, _)| {
            parse(&commit_bytes(objects, names, *version)?)
        });
        for ((version, _), news) in batch.iter().zip(news) {
            take(*version, news?)?;
        }
        rest = after;
    }
    Ok(())
}

fn threads(bytes: u64) -> usize {
    usize::try_from(bytes / THREAD_BYTES).unwrap_or(THREADS_MAX).clamp(1, THREADS_MAX)
}

/// What work makes of each, in their order.
fn on_threads<T: Sync, R: Send>(threads: usize, of: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let done: Mutex<Vec<Option<R>>> = Mutex::new(of.iter().map(|_| None).collect());
    let next = AtomicUsize::new(0);
    let all = || {
        while let Some((at, one)) = {
            let at = next.fetch_add(1, Relaxed);
            of.get(at).map(|one| (at, one))
        } {
            let made = work(one);
            done.lock()[at] = Some(made);
        }
    };
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| {
            scope.spawn(all);
        });
        all();
    });
    done.into_inner().into_iter().flatten().collect()
}

/// A commit out of its bytes.
fn parse(bytes: &[u8]) -> Result<News, StoreError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads(bytes.len() as u64).min(cores);
    let parts = on_threads(threads, &cut(bytes, threads), |part| some(part));
    let mut news = News::default();
    for part in parts {
        let part = part?;
        news.front.extend(part.front);
        news.removes.extend(part.removes);
        news.adds.extend(part.adds);
        news.lines += part.lines;
    }
    action::check_count(news.lines, news.front.iter())?;
    Ok(news)
}

/// Cuts text into so many parts at ends of lines, or fewer.
fn cut(bytes: &[u8], parts: usize) -> Vec<&[u8]> {
    let (mut cut, mut rest) = (Vec::with_capacity(parts), bytes);
    for left in (1..=parts).rev() {
        let about = rest.len() / left;
        let end = rest[about..].iter().position(|b| *b == b'\n').map_or(rest.len(), |at| about + at + 1);
        let (part, after) = rest.split_at(if left == 1 { rest.len() } else { end });
        cut.push(part);
        rest = after;
    }
    cut
}

fn some(bytes: &[u8]) -> Result<News, StoreError> {
    let mut news = News::default();
    for line in bytes.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        news.lines += 1;
        if let Some(entry) = of_ours(line) {
            news.adds.push(Arc::new(entry));
            continue;
        }
        let mut line = action::read_line(line)?;
        news.adds.extend(line.add.take().map(|add| Arc::new(Entry::of(&add))));
        news.removes.extend(line.remove.take());
        if line != Line::default() {
            news.front.push(line);
        }
    }
    Ok(news)
}

/// A file of ours that came; `None` where the line is anything else, or that cannot be told so easily.
fn of_ours(line: &[u8]) -> Option<Entry> {
    #[derive(Deserialize)]
    struct Brief<'a> {
        #[serde(borrow)]
        add: Add<'a>,
    }
    #[derive(Deserialize)]
    struct Add<'a> {
        #[serde(borrow)]
        path: Cow<'a, str>,
        size: u64,
        #[serde(borrow)]
        tags: Tags<'a>,
    }
    #[derive(Deserialize)]
    struct Tags<'a> {
        prism: &'a str,
    }
    if !line.starts_with(b"{\"add\":") {
        return None;
    }
    let Brief { add } = serde_json::from_slice(line).ok()?;
    Some(Entry { path: add.path.into(), bytes: add.size, known: Known::from_tag(add.tags.prism)? })
}

#[cfg(test)]
mod tests {
    use prism_model::samples::Random;

    use super::*;

    /// Lines of every kind, ours and others', in one order.
    fn lines(random: &mut Random, n: usize) -> Vec<String> {
        let path = |r: &mut Random| format!("date=2026-11-21/{}-\\u00e9{}.parquet", r.number(), r.number());
        let line = |r: &mut Random| match r.below(6) {
            0 => format!("{{\"remove\":{{\"path\":\"{}\",\"dataChange\":true}}}}", path(r)),
            1 => format!("{{\"txn\":{{\"appId\":\"x{}\",\"version\":1}}}}", r.below(9)),
            2 => format!(
                "{{\"add\":{{\"path\":\"{}\",\"partitionValues\":{{\"date\":\"2026-11-21\"}},\"size\":5,\"modificationTime\":3,\"dataChange\":true,\"stats\":\"{{\\\"numRecords\\\":4}}\"}}}}",
                path(r)
            ),
            3 => "{\"cdc\":{\"path\":\"x\"}}".to_owned(),
            _ => format!(
                "{{\"add\":{{\"path\":\"{}\",\"partitionValues\":{{\"date\":\"2026-11-21\"}},\"size\":{},\"modificationTime\":3,\"dataChange\":true,\"stats\":\"{{\\\"numRecords\\\":4,\\\"a\\\":\\\"\\\\n\\\"}}\",\"tags\":{{\"prism\":\"1 4 {} {}\"}}}}}}",
                path(r),
                r.below(1_000),
                r.below(9),
                10 + r.below(9)
            ),
        };
        (0..n).map(|_| line(random)).collect()
    }

    #[test]
    fn what_plans_need_is_what_whole_actions_say() {
        for seed in 0..30 {
            let r = &mut Random(seed);
            let n = 1 + r.below(40);
            let text = lines(r, n).join("\n");
            let whole = action::read(text.as_bytes()).unwrap();
            for parts in 1..5 {
                assert_eq!(cut(text.as_bytes(), parts).concat(), text.as_bytes());
                let some: Vec<News> = cut(text.as_bytes(), parts).into_iter().map(|part| some(part).unwrap()).collect();
                let adds: Vec<Entry> = some.iter().flat_map(|news| news.adds.iter().map(|e| Entry::clone(e))).collect();
                let expected: Vec<Entry> = whole.iter().filter_map(|l| l.add.as_ref()).map(Entry::of).collect();
                assert_eq!(adds, expected, "seed {seed}");
                let removes: Vec<Remove> = some.iter().flat_map(|news| news.removes.clone()).collect();
                let expected: Vec<Remove> = whole.iter().filter_map(|l| l.remove.clone()).collect();
                assert_eq!(removes, expected, "seed {seed}");
                let front = some.iter().flat_map(|news| &news.front).filter_map(|l| l.txn.as_ref()).count();
                assert_eq!(front, whole.iter().filter(|l| l.txn.is_some()).count());
                assert_eq!(some.iter().map(|news| news.lines).sum::<usize>(), whole.len());
            }
        }
    }

    #[test]
    fn what_is_cut_or_no_action_is_refused() {
        for bad in ["", "{\"add\":{\"path\":3}}", "{\"add\":", "no"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let told = "{\"commitInfo\":{\"operationMetrics\":{\"prismActions\":\"3\"}}}\n{\"cdc\":{}}\n";
        assert!(parse(told.as_bytes()).is_err());
        assert_eq!(parse(format!("{told}{{\"cdc\":{{}}}}").as_bytes()).unwrap().front.len(), 1);
    }
}

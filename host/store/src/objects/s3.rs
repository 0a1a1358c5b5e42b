//! Objects in a bucket that speaks S3: conditional creates, ranges, listings by folder, storage classes.
//!
//! Calls block their thread and run on a small runtime of their own, so that they may come from any thread that may block. Each
//! request has a time and is made again a few times. A small object is one conditional PUT. A large one is uploaded in parts
//! beside its name, and then copied to it within the store, which is conditional as well; what a death leaves behind below
//! `.temp/`, and parts that were never completed, are for a lifecycle rule of the bucket to remove.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut, S3CopyIfNotExists};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientOptions, CopyMode, CopyOptions, GetOptions, GetRange, MultipartUpload,
    ObjectStore, ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, RetryConfig,
};
use tokio::runtime::Runtime;

use super::{Listed, Objects, Upload};
use crate::control::Create;
use crate::error::StoreError;

/// Bytes of a part of an upload, and of an object that is one request: S3 takes parts of 5 MiB to 5 GiB, 10,000 of them.
const PART_BYTES: usize = 16 << 20;
/// Where large objects lie until they are whole. Names of objects never begin with a dot.
const TEMP: &str = ".temp";
/// Connecting takes one round trip, or fails.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Threads of the runtime: they only wait.
const THREADS: usize = 2;
/// Ranges of an object that are asked for at once: each waits some 30 ms, and connections are few.
const RANGES_AT_ONCE: usize = 16;

/// Where the bucket is.
#[derive(Clone, PartialEq, Default)]
pub struct S3Options {
    /// `s3://BUCKET` or `s3://BUCKET/PREFIX`.
    pub url: String,
    /// Its region. Empty: `AWS_REGION` of the environment.
    pub region: String,
    /// Address of a store that is not Amazon's, such as `http://minio:9000`. Empty: Amazon's, or `AWS_ENDPOINT_URL`.
    pub endpoint: String,
    /// Access key id and secret. None: those of the environment, a web identity, the container or the machine.
    pub credentials: Option<(String, String)>,
    /// Milliseconds that one request may take.
    pub timeout_ms: u64,
    /// How often a request that failed for the store's reasons is made again.
    pub retries: usize,
}

impl std::fmt::Debug for S3Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out of logs.
        let own = self.credentials.is_some();
        f.debug_struct("S3Options").field("url", &self.url).field("own_credentials", &own).finish_non_exhaustive()
    }
}

/// An object in a storage class from which it must be fetched back before it can be read.
#[derive(Debug, thiserror::Error)]
#[error("the object is archived: it must be restored before it can be read")]
pub struct Archived;

/// Whether a read failed because the object is archived.
pub fn is_archived(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Archived>())
}

/// Objects in a bucket. Cheap to clone.
#[derive(Clone)]
pub struct S3Objects(Arc<Inner>);

struct Inner {
    store: Arc<AmazonS3>,
    /// Empty, or ends in `/`.
    prefix: String,
    retries: usize,
    /// Tells what this process uploads aside from what others do.
    writer: u64,
    aside: AtomicU64,
    runtime: Option<Runtime>,
}

impl S3Objects {
    /// The objects of a bucket; nothing is asked of it yet. `writer` is of this process alone, and of none before it.
    ///
    /// # Errors
    /// `Fix` where the URL or the credentials' sources make no sense, `Retry` where no thread can be made.
    pub fn open(options: &S3Options, writer: u64) -> Result<S3Objects, StoreError> {
        let expected = "a bucket as `s3://BUCKET` or `s3://BUCKET/PREFIX` (`objects.url`)";
        let bad = |found: &str| StoreError::BadName { expected, found: found.chars().take(200).collect() };
        let rest = options.url.strip_prefix("s3://").ok_or_else(|| bad(&options.url))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        if bucket.is_empty() || !(prefix.is_empty() || is_name(prefix)) {
            return Err(bad(&options.url));
        }
        let timeout = Duration::from_millis(options.timeout_ms.max(1));
        let client = ClientOptions::new().with_timeout(timeout).with_connect_timeout(timeout.min(CONNECT_TIMEOUT));
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: options.retries,
            // Each attempt may take its whole time, and a wait between them.
            retry_timeout: timeout.saturating_mul(u32::try_from(options.retries + 1).unwrap_or(u32::MAX)),
        };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_client_options(client.with_allow_http(options.endpoint.starts_with("http://")))
            .with_retry(retry)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_copy_if_not_exists(S3CopyIfNotExists::Multipart);
        if !options.region.is_empty() {
            builder = builder.with_region(&options.region);
        }
        if !options.endpoint.is_empty() {
            builder = builder.with_endpoint(&options.endpoint);
        }
        if let Some((id, secret)) = &options.credentials {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        let store = builder.build().map_err(|e| bad(&format!("{}: {e}", options.url)))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("prism-objects")
            .enable_all()
            .build()
            .map_err(|e| StoreError::io("began threads", e))?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let (store, aside, runtime) = (Arc::new(store), AtomicU64::new(0), Some(runtime));
        Ok(S3Objects(Arc::new(Inner { store, prefix, retries: options.retries, writer, aside, runtime })))
    }

    /// Writes an object again in another storage class, under its own name and in one step: readers see the one or the other.
    /// Its bytes come here and go back, in parts.
    ///
    /// # Errors
    /// As those of reading it, and of writing.
    pub fn set_class(&self, name: &str, class: &str) -> io::Result<()> {
        let len = self.len(name)?;
        let path = self.0.path(name)?;
        let attributes = Attributes::from_iter([(Attribute::StorageClass, class.to_owned())]);
        if len <= PART_BYTES as u64 {
            let bytes = self.read(name, 0..len)?;
            let options = PutOptions { mode: PutMode::Overwrite, attributes, ..PutOptions::default() };
            return self.0.run(|store| async move { store.put_opts(&path, bytes.into(), options).await.map(drop) });
        }
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let mut parts = Parts::begin(&self.0, path, options)?;
        let mut at = 0;
        while at < len {
            let to = len.min(at + PART_BYTES as u64);
            parts.put(&self.0, self.read(name, at..to)?)?;
            at = to;
        }
        parts.complete(&self.0)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Waiting for it would not be allowed on a thread of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Inner {
    fn path(&self, name: &str) -> io::Result<Path> {
        let bad = || io::Error::new(io::ErrorKind::InvalidInput, "no name of an object");
        if !is_name(name) {
            return Err(bad());
        }
        Path::parse(format!("{}{name}", self.prefix)).map_err(|_| bad())
    }

    /// Runs a request to its end.
    fn run<T: Send + 'static, F>(&self, request: impl FnOnce(Arc<AmazonS3>) -> F) -> io::Result<T>
    where
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let (done, result) = std::sync::mpsc::sync_channel(1);
        let future = request(self.store.clone());
        let ended = || io::Error::other("the threads of the object store ended");
        let runtime = self.runtime.as_ref().ok_or_else(ended)?;
        runtime.spawn(async move { done.send(future.await) });
        result.recv().map_err(|_| ended())?.map_err(sorted)
    }

    /// A conditional create. The library does not repeat one whose fate is open; here a repetition that finds the object there
    /// says `Lost`, which is what it is to whoever asks.
    fn create_at(&self, path: &Path, make: impl Fn() -> io::Result<()>) -> io::Result<Create> {
        let mut tries = 0;
        loop {
            match make() {
                Ok(()) => return Ok(Create::Created),
                // S3 says so too while another create of the name is under way, which may fail.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    let at = path.clone();
                    match self.run(|store| async move { store.head(&at).await }) {
                        Ok(_) => return Ok(Create::Lost),
                        Err(e) if e.kind() == io::ErrorKind::NotFound && tries < self.retries => {}
                        Err(e) => return Err(e),
                    }
                }
                Err(e) if tries < self.retries && goes_away(&e) => {}
                Err(e) => return Err(e),
            }
            tries += 1;
        }
    }

    fn put(&self, path: &Path, bytes: &Bytes) -> io::Result<Create> {
        self.create_at(path, || {
            let (path, bytes) = (path.clone(), bytes.clone());
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            self.run(|store| async move { store.put_opts(&path, bytes.into(), options).await.map(drop) })
        })
    }

    /// All pages of what lies directly in a folder: objects, and names of folders.
    fn pages(&self, folder: &str, after: &str) -> io::Result<(Vec<Listed>, Vec<String>)> {
        let folder = if folder.is_empty() { String::new() } else { format!("{}/", self.path(folder)?) };
        let prefix = if folder.is_empty() { self.prefix.clone() } else { folder };
        let (mut objects, mut folders, mut token) = (Vec::new(), Vec::new(), None);
        loop {
            let options = PaginatedListOptions {
                offset: (!after.is_empty()).then(|| format!("{}{after}", self.prefix)),
                delimiter: Some("/".into()),
                page_token: token.take(),
                ..PaginatedListOptions::default()
            };
            let prefix = prefix.clone();
            let page = self.run(|store| async move {
                let prefix = Some(prefix.as_str()).filter(|p| !p.is_empty());
                store.list_paginated(prefix, options).await
            })?;
            let own = |path: &Path| path.as_ref().strip_prefix(self.prefix.as_str()).map(str::to_owned);
            for object in page.result.objects {
                if let Some(name) = own(&object.location).filter(|name| is_name(name) && name.as_str() > after) {
                    objects.push(Listed { name, bytes: object.size });
                }
            }
            let names = page.result.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned));
            folders.extend(names.filter(|name| is_name(name)));
            match page.page_token {
                Some(next) => token = Some(next),
                None => break,
            }
        }
        objects.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        folders.sort_unstable();
        Ok((objects, folders))
    }

    fn get(&self, path: Path, range: Option<GetRange>) -> io::Result<(Bytes, u64)> {
        self.run(|store| async move {
            let got = store.get_opts(&path, GetOptions { range, ..GetOptions::default() }).await?;
            let len = got.meta.size;
            Ok((got.bytes().await?, len))
        })
    }
}

impl Objects for S3Objects {
    fn create(&self, name: &str, bytes: Bytes) -> io::Result<Create> {
        if bytes.len() <= PART_BYTES {
            return self.0.put(&self.0.path(name)?, &bytes);
        }
        let mut upload = self.upload(name)?;
        upload.write(&bytes)?;
        upload.finish()
    }

    fn upload(&self, name: &str) -> io::Result<Box<dyn Upload>> {
        let target = self.0.path(name)?;
        Ok(Box::new(Writing { objects: self.clone(), target, waits: Vec::new(), aside: None }))
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        let path = self.0.path(name)?;
        self.0.run(|store| async move { store.head(&path).await.map(|meta| meta.size) })
    }

    fn read(&self, name: &str, range: Range<u64>) -> io::Result<Bytes> {
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 {
            let len = self.len(name)?;
            return if range.end > len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(Bytes::new()) };
        }
        let (bytes, _) = self.0.get(self.0.path(name)?, Some(GetRange::Bounded(range)))?;
        // The store gives what there is of a range.
        if bytes.len() as u64 == wanted { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn read_ranges(&self, name: &str, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
        if ranges.iter().any(|range| range.is_empty()) {
            return ranges.iter().map(|range| self.read(name, range.clone())).collect();
        }
        let (path, wanted) = (self.0.path(name)?, ranges.to_vec());
        let read: Vec<Bytes> = self.0.run(|store| async move {
            let read = wanted.into_iter().map(|range| {
                let (store, path) = (store.clone(), path.clone());
                async move { store.get_range(&path, range).await }
            });
            futures::stream::iter(read).buffered(RANGES_AT_ONCE).try_collect().await
        })?;
        let whole = read.iter().zip(ranges).all(|(bytes, range)| bytes.len() as u64 == range.end - range.start);
        if whole { Ok(read) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn read_end(&self, name: &str, bytes: u64) -> io::Result<(Bytes, u64)> {
        let path = self.0.path(name)?;
        match self.0.get(path, Some(GetRange::Suffix(bytes.max(1)))) {
            // An empty object has no last bytes, and not every store gives less than was asked for.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                let len = self.len(name)?;
                Ok((self.read(name, len.saturating_sub(bytes)..len)?, len))
            }
            got => got,
        }
    }

    fn get(&self, name: &str) -> io::Result<Bytes> {
        self.0.get(self.0.path(name)?, None).map(|(bytes, _)| bytes)
    }

    fn list(&self, folder: &str, after: &str) -> io::Result<Vec<Listed>> {
        self.0.pages(folder, after).map(|(objects, _)| objects)
    }

    fn folders(&self, folder: &str) -> io::Result<Vec<String>> {
        self.0.pages(folder, "").map(|(_, folders)| folders)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let path = self.0.path(name)?;
        match self.0.run(|store| async move { store.delete(&path).await }) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

/// An object that is being written: in memory up to a part, then aside.
struct Writing {
    objects: S3Objects,
    target: Path,
    waits: Vec<u8>,
    aside: Option<Parts>,
}

impl Upload for Writing {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while self.waits.len() + bytes.len() > PART_BYTES {
            let (now, later) = bytes.split_at(PART_BYTES - self.waits.len());
            self.waits.extend_from_slice(now);
            bytes = later;
            self.part()?;
        }
        self.waits.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<Create> {
        let inner = self.objects.0.clone();
        if self.aside.is_none() {
            return inner.put(&self.target, &Bytes::from(std::mem::take(&mut self.waits)));
        }
        if !self.waits.is_empty() {
            self.part()?;
        }
        let Some(parts) = self.aside.take() else { return Err(io::Error::other("an upload without parts")) };
        let aside = parts.path.clone();
        parts.complete(&inner)?;
        let created = inner.create_at(&self.target, || {
            let (from, to) = (aside.clone(), self.target.clone());
            let options = CopyOptions { mode: CopyMode::Create, ..CopyOptions::default() };
            inner.run(|store| async move { store.copy_opts(&from, &to, options).await })
        });
        // Only room: what stays is removed by the bucket's rule.
        let _ = inner.run(|store| async move { store.delete(&aside).await });
        created
    }
}

impl Writing {
    /// Sends what waits as a part.
    fn part(&mut self) -> io::Result<()> {
        let inner = &self.objects.0;
        let parts = match &mut self.aside {
            Some(parts) => parts,
            none @ None => {
                let name =
                    format!("{}{TEMP}/{:016x}-{}", inner.prefix, inner.writer, inner.aside.fetch_add(1, Relaxed));
                let path = Path::parse(name).map_err(|e| io::Error::other(e.to_string()))?;
                none.insert(Parts::begin(inner, path, PutMultipartOptions::default())?)
            }
        };
        parts.put(inner, Bytes::from(std::mem::take(&mut self.waits)))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(mut parts) = self.aside.take() {
            let inner = &self.objects.0;
            let _ = inner.run(|_| async move { parts.upload.abort().await });
        }
    }
}

/// An upload in parts.
struct Parts {
    path: Path,
    upload: Box<dyn MultipartUpload>,
}

impl Parts {
    fn begin(inner: &Inner, path: Path, options: PutMultipartOptions) -> io::Result<Parts> {
        let at = path.clone();
        let upload = inner.run(|store| async move { store.put_multipart_opts(&at, options).await })?;
        Ok(Parts { path, upload })
    }

    fn put(&mut self, inner: &Inner, bytes: Bytes) -> io::Result<()> {
        let part = self.upload.put_part(bytes.into());
        inner.run(|_| part)
    }

    fn complete(self, inner: &Inner) -> io::Result<()> {
        let mut upload = self.upload;
        inner.run(|_| async move { upload.complete().await.map(drop) })
    }
}

/// Parts of what names may have, with `/` between them.
fn is_name(name: &str) -> bool {
    name.split('/').all(|p| !p.is_empty() && !p.starts_with('.') && !p.contains(['\\', '\0']))
}

/// An error of the library as the caller must see it. The text, with the address, is for logs.
fn sorted(error: object_store::Error) -> io::Error {
    use object_store::Error as E;
    let text = chain(&error);
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["InvalidObjectState"]) {
        return io::Error::new(io::ErrorKind::ResourceBusy, Archived);
    }
    let kind = match &error {
        E::NotFound { .. } => io::ErrorKind::NotFound,
        E::AlreadyExists { .. } | E::Precondition { .. } => io::ErrorKind::AlreadyExists,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        E::InvalidPath { .. } => io::ErrorKind::InvalidInput,
        E::NotSupported { .. } | E::NotImplemented { .. } => io::ErrorKind::Unsupported,
        _ if has(&["InvalidRange", "416 Range", "Requested range", "non-partial response"]) => {
            io::ErrorKind::UnexpectedEof
        }
        _ if has(&["403 Forbidden", "401 Unauthorized"]) => io::ErrorKind::PermissionDenied,
        _ if has(&["timed out"]) => io::ErrorKind::TimedOut,
        _ if has(&["SlowDown", "503 Service", "429 Too"]) => io::ErrorKind::WouldBlock,
        _ if has(&["Connection refused", "error trying to connect", "dns error"]) => io::ErrorKind::ConnectionRefused,
        _ if has(&["connection closed", "Connection reset", "IncompleteMessage", "unexpected EOF"]) => {
            io::ErrorKind::ConnectionAborted
        }
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, text)
}

/// Whether a request may succeed when it is made again.
fn goes_away(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, Other, TimedOut, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | Other | TimedOut | WouldBlock)
}

/// The texts of an error and what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

impl std::fmt::Debug for S3Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Objects").field("prefix", &self.0.prefix).finish_non_exhaustive()
    }
}

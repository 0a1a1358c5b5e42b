//! A bucket in this process that can stop working: it speaks as much S3 as Prism does.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

/// How the bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Answers 500 to everything.
    Fails,
    /// Takes requests, and says nothing.
    Silent,
    /// Hangs up.
    HangsUp,
}

#[derive(Clone)]
pub(crate) struct Bucket {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

struct State {
    mood: Mood,
    objects: BTreeMap<String, Vec<u8>>,
    /// Connections that wait for ever.
    silent: Vec<TcpStream>,
}

struct Request {
    method: String,
    key: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Bucket {
    pub(crate) fn open() -> Bucket {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = State { mood: Mood::Well, objects: BTreeMap::new(), silent: Vec::new() };
        let bucket = Bucket { port, state: Arc::new(Mutex::new(state)) };
        let serving = bucket.clone();
        // It ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let bucket = serving.clone();
                std::thread::spawn(move || bucket.answer(stream));
            }
        });
        bucket
    }

    /// From now on; whoever waits gets a hang-up.
    pub(crate) fn is(&self, mood: Mood) {
        let mut state = self.state();
        state.mood = mood;
        state.silent.clear();
    }

    /// Names of the objects.
    pub(crate) fn names(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn answer(&self, stream: TcpStream) {
        let Some(request) = read(&stream) else { return };
        let mut state = self.state();
        let answer = match state.mood {
            Mood::Well => state.does(&request),
            Mood::Fails => (500, Vec::new(), b"<Error><Code>InternalError</Code></Error>".to_vec()),
            Mood::Silent => return state.silent.push(stream),
            Mood::HangsUp => return,
        };
        drop(state);
        let (status, headers, body) = answer;
        let mut head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n");
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        if !headers.iter().any(|(name, _)| name == "content-length") {
            head += &format!("content-length: {}\r\n", body.len());
        }
        let mut stream = stream;
        // Who asked may be gone.
        drop(stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(&body)));
    }
}

type Answer = (u16, Vec<(String, String)>, Vec<u8>);

const DATE: &str = "Sat, 21 Nov 2026 00:00:00 GMT";

impl State {
    fn does(&mut self, request: &Request) -> Answer {
        let key = &request.key;
        let headers = |bytes: usize| {
            let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            vec![of("content-length", &bytes.to_string()), of("etag", "\"x\""), of("last-modified", DATE)]
        };
        match (request.method.as_str(), self.objects.get(key)) {
            ("PUT", Some(_)) if request.headers.contains_key("if-none-match") => (412, Vec::new(), Vec::new()),
            ("PUT", _) => {
                self.objects.insert(key.clone(), request.body.clone());
                (200, vec![("etag".to_owned(), "\"x\"".to_owned())], Vec::new())
            }
            ("DELETE", _) => {
                self.objects.remove(key);
                (204, Vec::new(), Vec::new())
            }
            ("GET", _) if request.query.contains_key("list-type") => (200, Vec::new(), self.list(&request.query)),
            ("HEAD", Some(bytes)) => (200, headers(bytes.len()), Vec::new()),
            ("GET", Some(bytes)) => match request.headers.get("range").map(|range| part(range, bytes.len())) {
                None => (200, headers(bytes.len()), bytes.clone()),
                Some(Some((from, to))) => {
                    let mut headers = headers(to - from);
                    headers.push(("content-range".to_owned(), format!("bytes {from}-{}/{}", to - 1, bytes.len())));
                    (206, headers, bytes[from..to].to_vec())
                }
                Some(None) => (416, Vec::new(), Vec::new()),
            },
            _ => (404, Vec::new(), b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
        }
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Vec<u8> {
        let of = |name: &str| query.get(name).map_or("", String::as_str);
        let (prefix, delimiter, after) = (of("prefix"), of("delimiter"), of("start-after"));
        let (mut contents, mut folders) = (String::new(), Vec::new());
        for (key, bytes) in self.objects.iter().filter(|(k, _)| k.starts_with(prefix) && k.as_str() > after) {
            match key[prefix.len()..].split_once('/').filter(|_| !delimiter.is_empty()) {
                Some((folder, _)) => folders.push(format!("{prefix}{folder}/")),
                None => {
                    contents += &format!(
                        "<Contents><Key>{key}</Key><LastModified>2026-11-21T00:00:00.000Z</LastModified>\
                         <ETag>x</ETag><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
                        bytes.len()
                    );
                }
            }
        }
        folders.dedup();
        let folders = folders.iter().map(|f| format!("<CommonPrefixes><Prefix>{f}</Prefix></CommonPrefixes>"));
        let folders: String = folders.collect();
        let whole = "<IsTruncated>false</IsTruncated>";
        format!("<ListBucketResult><Name>prism</Name>{whole}{contents}{folders}</ListBucketResult>").into_bytes()
    }
}

/// The part that a `range` header asks for.
fn part(range: &str, len: usize) -> Option<(usize, usize)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = match (from, to) {
        ("", last) => (len.saturating_sub(last.parse().ok()?), len),
        (from, "") => (from.parse().ok()?, len),
        (from, to) => (from.parse().ok()?, len.min(to.parse::<usize>().ok()? + 1)),
    };
    (from < to && to <= len).then_some((from, to))
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut parts = line.split(' ');
    let (method, target) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let bytes = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let query = pairs.map(|(name, value)| (name.to_owned(), plain(value))).collect();
    let key = plain(path.strip_prefix("/prism")?.trim_start_matches('/'));
    Some(Request { method, key, query, headers, body })
}

/// What stands behind `%xx`.
fn plain(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

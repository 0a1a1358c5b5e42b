//! The prompt as somebody at a terminal uses it: the real binary behind a pseudo terminal of `script` (util-linux).

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::harness::{Server, ended, must, run, spans, until};

/// A terminal with `prism` in it.
struct Terminal {
    child: Child,
    keys: Option<ChildStdin>,
    screen: Arc<Mutex<String>>,
    seen: usize,
}

impl Terminal {
    fn open(home: &Path, server: &Server, command: &str) -> Terminal {
        let line = format!("stty rows 40 cols 120; exec {} {command}", env!("CARGO_BIN_EXE_prism"));
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PRISM_")) {
            script.env_remove(name);
        }
        script.env("PRISM_URL", &server.http).env("HOME", home).env_remove("XDG_STATE_HOME").env("NO_COLOR", "1");
        script.env("TERM", "xterm").env("SHELL", "/bin/sh");
        let child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("`script` of util-linux is installed");
        let mut out = child.stdout.take().expect("piped");
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = screen.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = out.read(&mut bytes) {
                shown.lock().expect("whole").push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        });
        let keys = child.stdin.take();
        let mut terminal = Terminal { child, keys, screen, seen: 0 };
        terminal.shows("prism> ");
        terminal
    }

    fn types(&mut self, keys: &str) {
        let stdin = self.keys.as_mut().expect("open");
        stdin.write_all(keys.as_bytes()).and_then(|()| stdin.flush()).expect("types");
    }

    /// Waits until the terminal shows something that it did not show before; what it showed up to there.
    fn shows(&mut self, what: &str) -> String {
        let (screen, seen) = (self.screen.clone(), self.seen);
        let rest = || screen.lock().expect("whole")[seen..].to_owned();
        let began = std::time::Instant::now();
        loop {
            let rest = rest();
            if let Some(at) = rest.find(what) {
                self.seen += at + what.len();
                return rest[..at + what.len()].to_owned();
            }
            assert!(began.elapsed().as_secs() < 60, "no `{what}` in {rest:?}");
            std::thread::yield_now();
        }
    }

    /// Waits for its end; whether it was a good one.
    fn ended(mut self) -> bool {
        ended(&mut self.child)
    }

    /// Interrupts `prism` as Ctrl-C does, but for that the terminal forgets what was typed before a Ctrl-C.
    fn interrupts(&self) {
        let script = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{script}/task/{script}/children")).expect("lives");
        let prism = children.trim().parse().ok().and_then(rustix::process::Pid::from_raw).expect("one child");
        rustix::process::kill_process(prism, rustix::process::Signal::INT).expect("is told");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn questions_are_asked_completed_and_remembered() {
    let (data, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let server = Server::dev(data.path());
    assert_eq!(server.traces(&spans(1, 3)).status, 200);
    let mut terminal = Terminal::open(home.path(), &server, "query");
    // Over two lines, since the first is not finished.
    terminal.types("from spans where\r");
    terminal.types("name = 'step 1' select name, duration\r");
    let shown = terminal.shows("1 row in");
    assert!(shown.contains("step 1") && shown.contains("1ms"), "{shown:?}");
    // Words, fields and values at the cursor.
    terminal.shows("prism> ");
    terminal.types("from spa\t where http.ro\t = '/or\t by service.name select count() as n\r");
    let shown = terminal.shows("1 row in");
    assert!(shown.contains("where http.route = '/orders' by"), "{shown:?}");
    assert!(shown.contains("shop"), "{shown:?}");
    terminal.shows("prism> ");
    // What is wrong is pointed at.
    terminal.types("from spans where duraton > and\r");
    let shown = terminal.shows("hint:");
    assert!(shown.contains("expected a value, found `and`") && shown.contains("^^^"), "{shown:?}");
    terminal.shows("prism> ");
    terminal.types("\\fields route\r");
    let shown = terminal.shows("1 field");
    assert!(shown.contains("http.route") && shown.contains("attr") && shown.contains("string"), "{shown:?}");
    terminal.types("\\output csv\rfrom spans by name select count() as n order name limit 1\r");
    terminal.shows("name,n");
    terminal.shows("step 0,1");
    terminal.types("\\last 1m\r\\explain from spans\r");
    terminal.shows("ask for the last 1m");
    terminal.shows("bytes");
    terminal.types("\\nothing\r");
    terminal.shows("there is no command `\\nothing`");
    // What stands behind `\\tail` is a query, and none that standard input or a file has.
    terminal.types("\\tail -\r");
    terminal.shows("expected");
    terminal.shows("prism> ");
    // Ctrl-C gives up what is typed, Ctrl-D leaves.
    terminal.types("from lo\u{3}");
    terminal.shows("^C");
    terminal.types("\u{4}");
    assert!(terminal.ended(), "a good end");
    // The next session knows what was asked.
    let history = home.path().join(".local/state/prism/history");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&history).expect("written").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let mut terminal = Terminal::open(home.path(), &server, "shell --output ndjson");
    terminal.types("\u{12}step 1");
    terminal.shows("select name, duration");
    terminal.types("\r");
    terminal.shows("prism> ");
    terminal.types("\r");
    terminal.shows("{\"name\":\"step 1\",\"duration\":1000000}");
    terminal.types("\\q\r");
    assert!(terminal.ended(), "a good end");
}

#[test]
fn ctrl_c_gives_up_what_is_asked_and_the_server_sees_it() {
    let (data, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let server = Server::dev(data.path());
    let open = |server: &Server| {
        let text = server.get("/metrics").text();
        text.lines().any(|line| line == "prism_server_tails 1")
    };
    let mut terminal = Terminal::open(home.path(), &server, "shell");
    terminal.types("\\tail from spans select name\r");
    until("it follows", || open(&server));
    assert_eq!(server.traces(&spans(2, 1)).status, 200);
    terminal.shows("step 0");
    terminal.types("\u{3}");
    terminal.shows("prism> ");
    until("the server has noticed", || !open(&server));
    terminal.types("from spans select name\r");
    terminal.shows("1 row in");
    // What is typed ahead is there for the next question, the end of all questions too.
    terminal.types("\\tail from spans select name\r");
    until("it follows", || open(&server));
    terminal.types("\\nothing\r\u{4}");
    terminal.interrupts();
    terminal.shows("there is no command `\\nothing`");
    assert!(terminal.ended(), "a good end");
}

#[test]
fn fields_and_strictness_are_asked_for_on_the_command_line() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    assert_eq!(server.traces(&spans(1, 3)).status, 200);
    let url = ["--url", server.http.as_str()];
    let fields = must(data.path(), &[&["fields", "route"], &url[..]].concat());
    assert!(fields.contains("http.route") && fields.ends_with("1 field\n"), "{fields}");
    let values = must(data.path(), &[&["fields", "--values", "http.route"], &url[..]].concat());
    assert!(values.contains("/orders") && values.ends_with("1 value\n"), "{values}");
    let json = must(data.path(), &[&["fields", "--output", "json"], &url[..]].concat());
    assert!(serde_json::from_str::<serde_json::Value>(&json).expect("JSON")["fields"].is_array());
    let query = ["query", "from spans where http.ruote = 'x'"];
    let (_, error, well) = run(data.path(), &[&query[..], &["--strict"], &url[..]].concat());
    assert!(!well && error.contains("http.ruote") && error.contains("did you mean `http.route`?"), "{error}");
    assert!(must(data.path(), &[&query[..], &url[..]].concat()).contains("warning: "));
}

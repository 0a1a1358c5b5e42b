//! A trace as spans over time.
//!
//! ```text
//! service   span               0          61ms       123ms      184ms    245ms
//! frontend  GET /checkout      ████████████████████████████████████████████  245ms
//! payment   └─ ✖ charge                 ▐████████████▌ card declined          61ms
//! ```
//!
//! Where it is known, `◆` marks spans on the critical path, and a span's own time stands behind its duration.

use std::collections::HashMap;

use chrono::DateTime;
use serde_json::Value;

use super::screen::{Ink, Screen};
use super::spent::Spent;
use super::table::{fit, width};
use super::tree::{Node, tree};
use super::units::{clean, count, duration, time};

/// Lines of spans that are shown; a person reads no more, and `--json` has them all.
const SPANS_SHOWN_MAX: usize = 1_000;
/// Levels that are drawn; deeper ones stand at the last.
const RAILS_MAX: usize = 16;
/// Width where the output is no terminal.
const WIDTH_DEFAULT: usize = 120;
/// The bars are no narrower, because a bar of fewer cells does not show what overlaps.
const BAR_MIN: usize = 20;
/// A message beside a bar is not cut below this.
const MESSAGE_MIN: usize = 12;

/// The trace as text: a line about the whole, a scale, a line for each span.
pub(crate) fn waterfall(trace_id: &str, trace: &Value, spent: &HashMap<String, Spent>, screen: &Screen) -> String {
    let nodes = tree(trace);
    let Some(first) = nodes.iter().map(|n| n.start).min() else {
        return format!("trace {trace_id} has no spans\n");
    };
    let last = nodes.iter().map(|n| n.end.unwrap_or(n.start).max(n.start)).max().unwrap_or(first);
    let mut services: Vec<&str> = Vec::new();
    for node in &nodes {
        if !services.contains(&node.service.as_str()) {
            services.push(&node.service);
        }
    }
    let shown = &nodes[..nodes.len().min(SPANS_SHOWN_MAX)];
    let layout = Layout::new(shown, spent, screen, first, (last - first).max(1));
    let mut out = summary(trace_id, &nodes, &services, first, last, screen);
    out.push('\n');
    out.push_str(&screen.ink(Ink::Dim, layout.scale().trim_end()));
    out.push('\n');
    for node in shown {
        out.push_str(&layout.span(node, &services, screen));
        out.push('\n');
    }
    if nodes.len() > shown.len() {
        let more = count((nodes.len() - shown.len()) as i64);
        out.push_str(&screen.ink(Ink::Dim, &format!("{more} more spans: --json shows all\n")));
    }
    out
}

fn summary(trace_id: &str, nodes: &[Node], services: &[&str], first: i128, last: i128, screen: &Screen) -> String {
    let many = |n: usize, one: &str, more: &str| format!("{} {}", count(n as i64), if n == 1 { one } else { more });
    let errors = nodes.iter().filter(|n| n.error).count();
    let running = nodes.iter().filter(|n| n.end.is_none()).count();
    let mut parts = vec![
        screen.ink(Ink::Bold, &format!("trace {}", clean(trace_id))),
        duration(short(last - first)),
        many(nodes.len(), "span", "spans"),
        many(services.len(), "service", "services"),
    ];
    if errors > 0 {
        parts.push(screen.ink(Ink::Red, &many(errors, "error", "errors")));
    }
    if running > 0 {
        parts.push(screen.ink(Ink::Yellow, &format!("{} running", count(running as i64))));
    }
    // Milliseconds: the bars show the rest.
    let started = DateTime::from_timestamp_millis(short(first) / 1_000_000).unwrap_or_default();
    parts.push(screen.ink(Ink::Dim, &time(&started, &screen.zone)));
    format!("{}\n", parts.join("  "))
}

/// An i128 difference of times as i64, which the units take; beyond 292 years it no longer matters.
fn short(nanos: i128) -> i64 {
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

struct Layout<'s> {
    spent: &'s HashMap<String, Spent>,
    service: usize,
    name: usize,
    bar: usize,
    duration: usize,
    first: i128,
    length: i128,
}

impl<'s> Layout<'s> {
    fn new(
        nodes: &[Node],
        spent: &'s HashMap<String, Spent>,
        screen: &Screen,
        first: i128,
        length: i128,
    ) -> Layout<'s> {
        let of = |node: &Node| spent.get(&node.id).copied().unwrap_or_default();
        let total = screen.width.unwrap_or(WIDTH_DEFAULT);
        let widest = |of: &dyn Fn(&Node) -> usize| nodes.iter().map(of).max().unwrap_or(0);
        let service = widest(&|n| width(&clean(&n.service))).clamp(7, (total / 6).max(7));
        let duration = widest(&|n| width(&took(n, of(n)))).max(5);
        // A third for names at most: bars are what a waterfall is read for.
        let name = widest(&|n| width(&label(n, of(n)))).clamp(4, (total / 3).max(16));
        let taken = service + name + duration + 6;
        let bar = total.saturating_sub(taken).max(BAR_MIN);
        Layout { spent, service, name, bar, duration, first, length }
    }

    /// Header with four times over the bars.
    fn scale(&self) -> String {
        let mut marks = String::new();
        for quarter in 0..5 {
            let at = duration(short(self.length * quarter / 4));
            let end = self.bar * quarter as usize / 4;
            let start = match quarter {
                0 => 0,
                4 => end.saturating_sub(width(&at)),
                _ => end.saturating_sub(width(&at) / 2),
            };
            let used = width(&marks);
            // A narrow scale shows fewer marks rather than marks that run into each other.
            if start > used || used == 0 {
                marks.push_str(&" ".repeat(start - used.min(start)));
                marks.push_str(&at);
            }
        }
        format!("{}  {}  {marks}", pad("service", self.service), pad("span", self.name))
    }

    fn span(&self, node: &Node, services: &[&str], screen: &Screen) -> String {
        let colour = Ink::Service(services.iter().position(|s| *s == node.service).unwrap_or(0));
        let ink = if node.error { Ink::Red } else { colour };
        let service = screen.ink(colour, &pad(&fit(&clean(&node.service), self.service), self.service));
        let spent = self.spent.get(&node.id).copied().unwrap_or_default();
        let label = pad(&fit(&label(node, spent), self.name), self.name);
        let label = if node.error { screen.ink(Ink::Red, &label) } else { label };
        let (before, bar, after) = self.bar(node);
        let (before, after, below) =
            self.place(node, before, after, if node.error { Ink::Red } else { Ink::Dim }, screen);
        let bar = format!("{before}{}{after}", screen.ink(ink, &bar));
        let took = took(node, spent);
        let gap = " ".repeat(self.duration - width(&took).min(self.duration));
        format!("{service}  {label}  {bar}  {gap}{took}{below}")
    }

    /// The message of the status goes beside the bar, on the side with more room; on a line of its own where neither has.
    fn place(&self, node: &Node, before: usize, after: usize, ink: Ink, screen: &Screen) -> (String, String, String) {
        let (left, right) = (" ".repeat(before), " ".repeat(after));
        let message = clean(&node.message);
        let room = before.max(after).saturating_sub(2);
        if message.is_empty() {
            (left, right, String::new())
        } else if room < width(&message).min(MESSAGE_MIN) {
            let indent = " ".repeat(self.service + 2 + self.name + 2);
            (left, right, format!("\n{indent}{}", screen.ink(ink, &fit(&message, self.bar))))
        } else {
            let message = fit(&message, room);
            let rest = |of: usize| " ".repeat(of - 1 - width(&message));
            let inked = screen.ink(ink, &message);
            if after >= before {
                (left, format!(" {inked}{}", rest(after)), String::new())
            } else {
                (format!("{}{inked} ", rest(before)), right, String::new())
            }
        }
    }

    /// Spaces before, the bar in half cells, spaces after.
    fn bar(&self, node: &Node) -> (usize, String, usize) {
        let halves = self.bar as i128 * 2;
        let at =
            |time: i128| usize::try_from((time - self.first).clamp(0, self.length) * halves / self.length).unwrap_or(0);
        let start = at(node.start).min(self.bar * 2 - 1);
        // A span without end runs on: its bar goes to the right edge.
        let end = node.end.map_or(self.bar * 2, at).max(start + 1);
        let (from, to) = (start / 2, end.div_ceil(2));
        let mut bar = String::new();
        for cell in from..to {
            let (left, right) = (cell * 2 >= start, cell * 2 + 1 < end);
            bar.push(match (left, right, node.end) {
                (true, true, Some(_)) => '█',
                (true, true, None) => '▒',
                (true, false, _) => '▌',
                (false, _, _) => '▐',
            });
        }
        (from, bar, self.bar - to)
    }
}

fn took(node: &Node, spent: Spent) -> String {
    let Some(end) = node.end else { return "running".to_owned() };
    let took = duration(short(end - node.start));
    match spent.own {
        Some(own) => format!("{took}, own {}", duration(own)),
        None => took,
    }
}

/// The name behind its rails, with marks for errors and the critical path.
fn label(node: &Node, spent: Spent) -> String {
    let mut out = String::new();
    let rails = &node.rails[node.rails.len().saturating_sub(RAILS_MAX)..];
    for (level, more) in rails.iter().enumerate() {
        out.push_str(match (level + 1 == rails.len(), more) {
            (true, true) => "├─ ",
            (true, false) => "└─ ",
            (false, true) => "│  ",
            (false, false) => "   ",
        });
    }
    if node.orphan {
        out.push_str("⋯ ");
    }
    if spent.critical {
        out.push_str("◆ ");
    }
    if node.error {
        out.push_str("✖ ");
    }
    out.push_str(&clean(&node.name));
    out
}

fn pad(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn span(id: &str, parent: &str, name: &str, start: u64, end: u64) -> Value {
        let ms = 1_000_000;
        let at = 1_700_000_000_000_000_000u64;
        let end = if end == 0 { "0".to_owned() } else { (at + end * ms).to_string() };
        json!({"spanId": id, "parentSpanId": parent, "name": name, "startTimeUnixNano": (at + start * ms).to_string(), "endTimeUnixNano": end})
    }

    fn of(service: &str, spans: &[Value]) -> Value {
        json!({
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
            "scopeSpans": [{"spans": spans}]
        })
    }

    fn plain(width: usize) -> Screen {
        Screen { width: Some(width), colour: false, zone: chrono::FixedOffset::east_opt(0).unwrap() }
    }

    #[test]
    fn golden() {
        let mut failed = span("d", "c", "charge", 120, 180);
        failed["status"] = json!({"code": 2, "message": "card declined"});
        let trace = json!({"resourceSpans": [
            of("frontend", &[span("a", "", "GET /checkout", 0, 240), span("e", "a", "render", 200, 240)]),
            of("checkout", &[span("b", "a", "POST /orders", 10, 200), span("c", "b", "pay", 100, 190)]),
            of("payment", &[failed, span("f", "gone", "audit\u{1b}[2J", 230, 0)]),
        ]});
        let text = waterfall("0af7651916cd43dd8448eb211c80319c", &trace, &HashMap::new(), &plain(100));
        let expected = "\
trace 0af7651916cd43dd8448eb211c80319c  240ms  6 spans  3 services  1 error  1 running  2023-11-14 22:13:20

service   span               0            60ms            120ms          180ms        240ms
frontend  GET /checkout      ██████████████████████████████████████████████████████████████    240ms
";
        assert!(text.starts_with(expected), "{text}");
        insta(&text);
    }

    /// Compares with the golden file; `UPDATE=1` rewrites it.
    fn insta(text: &str) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/show/waterfall.golden");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(path).unwrap());
    }

    #[test]
    fn the_critical_path_is_marked_and_own_times_stand_behind() {
        let trace = json!({"resourceSpans": [of("s", &[span("a", "", "all", 0, 100), span("b", "a", "part", 0, 60)])]});
        let spent = |own: i64, critical| Spent { own: Some(own * 1_000_000), critical };
        let known = HashMap::from([("a".to_owned(), spent(40, true)), ("b".to_owned(), spent(60, false))]);
        let text = waterfall("ab", &trace, &known, &plain(100));
        assert!(text.contains("◆ all") && text.contains("100ms, own 40ms"), "{text}");
        assert!(!text.contains("◆ part") && text.contains("60ms, own 60ms"), "{text}");
    }

    #[test]
    fn odd_traces_are_shown() {
        assert_eq!(waterfall("ab", &json!({}), &HashMap::new(), &plain(80)), "trace ab has no spans\n");
        let trace =
            json!({"resourceSpans": [of("s", &[span("a", "", "back in time", 5, 1), span("b", "a", "point", 5, 5)])]});
        let text = waterfall("ab", &trace, &HashMap::new(), &plain(10));
        assert!(text.contains("-4ms") && text.contains("point"), "{text}");
        let many: Vec<Value> = (0..1_200).map(|i| span(&format!("s{i}"), "", "x", i, i + 1)).collect();
        assert!(
            waterfall("ab", &json!({"resourceSpans": [of("s", &many)]}), &HashMap::new(), &plain(80))
                .ends_with("200 more spans: --json shows all\n")
        );
    }
}

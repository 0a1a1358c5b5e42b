//! The Prometheus text format, version 0.0.4.
//!
//! Source: <https://github.com/prometheus/docs/blob/main/docs/instrumenting/exposition_formats.md>

use std::fmt::Write as _;

/// The media type of the text.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family of samples is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Text under construction: a family's head, then its samples.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    out: String,
    family: String,
}

impl Exposition {
    /// Begins a family.
    pub(crate) fn family(&mut self, name: &str, kind: Type, help: &str) -> &mut Exposition {
        let kind = match kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
        };
        let _infallible = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        name.clone_into(&mut self.family);
        self
    }

    /// A sample of the family.
    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Exposition {
        self.line("", labels, value)
    }

    /// A family of one sample.
    pub(crate) fn one(&mut self, name: &str, kind: Type, help: &str, value: f64) -> &mut Exposition {
        self.family(name, kind, help).sample(&[], value)
    }

    /// Begins a family of histograms.
    pub(crate) fn histograms(&mut self, name: &str, help: &str) -> &mut Exposition {
        let _infallible = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} histogram");
        name.clone_into(&mut self.family);
        self
    }

    /// A histogram of the family. `counts` has one bucket more than `bounds`: what is above the last; none is cumulative.
    pub(crate) fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        bounds: &[f64],
        counts: &[u64],
        sum: f64,
    ) -> &mut Exposition {
        let mut total = 0;
        for (i, count) in counts.iter().enumerate() {
            total += count;
            let bound = bounds.get(i).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.line("_bucket", &labels, total as f64);
        }
        self.line("_sum", labels, sum).line("_count", labels, total as f64)
    }

    /// The text.
    pub(crate) fn finish(self) -> String {
        self.out
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) -> &mut Exposition {
        self.out.push_str(&self.family);
        self.out.push_str(suffix);
        for (i, (name, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _infallible = write!(self.out, "{}{name}=\"{value}\"", if i == 0 { '{' } else { ',' });
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _infallible = writeln!(self.out, "{close} {value}");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let mut text = Exposition::default();
        text.one("a_total", Type::Counter, "Things.", 3.0);
        text.family("b_bytes", Type::Gauge, "Bytes.").sample(&[("t", "a\"b\\\n"), ("u", "x")], 0.5);
        text.histograms("c_seconds", "Time.").histogram(&[("r", "x")], &[0.1, 1.0], &[2, 1, 4], 9.5);
        assert_eq!(
            text.finish(),
            "# HELP a_total Things.\n# TYPE a_total counter\na_total 3\n\
             # HELP b_bytes Bytes.\n# TYPE b_bytes gauge\nb_bytes{t=\"a\\\"b\\\\\\n\",u=\"x\"} 0.5\n\
             # HELP c_seconds Time.\n# TYPE c_seconds histogram\n\
             c_seconds_bucket{r=\"x\",le=\"0.1\"} 2\nc_seconds_bucket{r=\"x\",le=\"1\"} 3\nc_seconds_bucket{r=\"x\",le=\"+Inf\"} 7\n\
             c_seconds_sum{r=\"x\"} 9.5\nc_seconds_count{r=\"x\"} 7\n"
        );
    }
}

//! The configuration as a documented TOML file, which reads back as the same configuration.

use std::fmt::Write as _;

use toml::{Table, Value};

use super::settings::{
    AuthSettings, Config, CorsSettings, EncryptionSettings, HttpSettings, LogSettings, ObjectsSettings, QuerySettings,
    StorageSettings, TelemetrySettings, TlsSettings,
};
use super::sources::{Loaded, Source};
use super::tail::TailSettings;

/// Settings in order, each with the lines of its documentation.
type Docs<'s> = Vec<(&'s str, Vec<&'s str>)>;

/// Sections whose settings another crate owns: the file that says what they are for, which is shown as it is.
const LIMITS: &str = include_str!("../../../model/src/limits.rs");
const STORE: &str = include_str!("../../../store/src/options.rs");
const INGEST: &str = include_str!("../../../ingest/src/pipeline.rs");
const PLUGIN: &str = include_str!("../../../plugin/src/options.rs");

impl Loaded {
    /// Every setting with its documentation, its value, and who set it.
    pub(crate) fn print(&self) -> String {
        let mut out = String::new();
        // The configuration came out of a table, so it goes back into one.
        let table = Table::try_from(&self.config).unwrap_or_default();
        for (name, docs) in Config::DOCS {
            match table.get(*name) {
                Some(Value::Table(inner)) => self.section(name, docs, inner, &mut out),
                Some(value) => {
                    comment(docs, &mut out);
                    self.setting(name, name, value, &mut out);
                }
                None => {}
            }
            out.push('\n');
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }

    fn section(&self, name: &str, docs: &[&str], table: &Table, out: &mut String) {
        comment(docs, out);
        let _infallible = writeln!(out, "[{name}]");
        // Sections within come last in the struct, because TOML takes what follows them for theirs.
        for (setting, docs) in section_docs(name) {
            let dotted = format!("{name}.{setting}");
            match table.get(setting) {
                Some(Value::Table(inner)) => {
                    out.push('\n');
                    self.section(&dotted, &docs, inner, out);
                }
                Some(value) => {
                    comment(&docs, out);
                    self.setting(&dotted, setting, value, out);
                }
                None => {}
            }
        }
    }

    fn setting(&self, dotted: &str, name: &str, value: &Value, out: &mut String) {
        let _infallible = write!(out, "{name} = {value}");
        let _infallible = match self.sources.get(dotted) {
            None => writeln!(out),
            Some(Source::File(path)) => writeln!(out, "  # from {}", path.display()),
            Some(Source::Env(variable)) => writeln!(out, "  # from {variable}"),
            Some(Source::Flag) => writeln!(out, "  # from the command line"),
        };
    }
}

fn comment(lines: &[&str], out: &mut String) {
    for line in lines {
        let _infallible = writeln!(out, "# {}", line.trim());
    }
}

fn section_docs(name: &str) -> Docs<'static> {
    let own =
        |docs: &'static [(&'static str, &'static [&'static str])]| docs.iter().map(|(n, d)| (*n, d.to_vec())).collect();
    match name {
        "auth" => own(AuthSettings::DOCS),
        "http" => own(HttpSettings::DOCS),
        "http.cors" => own(CorsSettings::DOCS),
        "tls" => own(TlsSettings::DOCS),
        "limits" => fields_of(LIMITS),
        "ingest" => fields_of(INGEST),
        "store" => fields_of(STORE),
        "encryption" => own(EncryptionSettings::DOCS),
        "objects" => own(ObjectsSettings::DOCS),
        "storage" => own(StorageSettings::DOCS),
        "query" => own(QuerySettings::DOCS),
        "tail" => own(TailSettings::DOCS),
        "plugin" => fields_of(PLUGIN),
        "log" => own(LogSettings::DOCS),
        "telemetry" => own(TelemetrySettings::DOCS),
        _ => Vec::new(),
    }
}

/// The public fields of a source file's struct with the doc comments before them.
fn fields_of(source: &str) -> Docs<'_> {
    let mut fields = Vec::new();
    let mut docs = Vec::new();
    for line in source.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc);
        } else if let Some((field, _)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(": ")) {
            fields.push((field, std::mem::take(&mut docs)));
        } else {
            docs.clear();
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::super::sources::{Flags, load};
    use super::*;

    #[test]
    fn what_is_printed_reads_back_and_names_every_setting() {
        let env = [("PRISM_LIMITS__ITEMS_MAX".to_owned(), "9".to_owned())];
        let loaded = load(&Flags::default(), env.into_iter()).unwrap();
        let text = loaded.print();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), loaded.config);
        assert!(text.contains("items_max = 9  # from PRISM_LIMITS__ITEMS_MAX\n"), "{text}");
        assert!(
            text.contains("# Address of OTLP/gRPC; empty switches it off.\ngrpc_addr = \"127.0.0.1:4317\"\n"),
            "{text}"
        );
        let all = Table::try_from(&loaded.config).unwrap();
        for (name, value) in &all {
            assert!(Config::DOCS.iter().any(|(known, _)| known == name), "{name}");
            documented(name, value);
        }
    }

    fn documented(section: &str, value: &Value) {
        for (setting, value) in value.as_table().into_iter().flatten() {
            let found = section_docs(section).iter().any(|(known, docs)| known == setting && !docs.is_empty());
            assert!(found, "{section}.{setting}");
            documented(&format!("{section}.{setting}"), value);
        }
    }
}

//! The configuration as a documented TOML file, which reads back as the same configuration.

use std::fmt::Write as _;

use toml::{Table, Value};

use super::settings::{
    AuthSettings, Config, HttpSettings, IngestSettings, LimitSettings, LogSettings, PluginSettings, QuerySettings,
    StoreSettings,
};
use super::sources::{Loaded, Source};

type Docs = &'static [(&'static str, &'static [&'static str])];

impl Loaded {
    /// Every setting with its documentation, its value, and who set it.
    pub(crate) fn print(&self) -> String {
        let mut out = String::new();
        // The configuration came out of a table, so it goes back into one.
        let table = Table::try_from(&self.config).unwrap_or_default();
        for (name, docs) in Config::DOCS {
            match table.get(*name) {
                Some(Value::Table(inner)) => {
                    comment(docs, &mut out);
                    let _infallible = writeln!(out, "[{name}]");
                    for (setting, docs) in section_docs(name) {
                        if let Some(value) = inner.get(*setting) {
                            comment(docs, &mut out);
                            self.setting(&format!("{name}.{setting}"), setting, value, &mut out);
                        }
                    }
                }
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

fn section_docs(name: &str) -> Docs {
    match name {
        "auth" => AuthSettings::DOCS,
        "http" => HttpSettings::DOCS,
        "limits" => LimitSettings::DOCS,
        "ingest" => IngestSettings::DOCS,
        "store" => StoreSettings::DOCS,
        "query" => QuerySettings::DOCS,
        "plugin" => PluginSettings::DOCS,
        "log" => LogSettings::DOCS,
        _ => &[],
    }
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
            for setting in value.as_table().into_iter().flat_map(Table::keys) {
                assert!(section_docs(name).iter().any(|(known, _)| known == setting), "{name}.{setting}");
            }
        }
    }
}

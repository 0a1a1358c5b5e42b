//! Where settings come from, and which source wins.
//!
//! Environment: `PRISM_` + the setting in capitals, with `__` between a section and its setting: `PRISM_DATA_DIR`,
//! `PRISM_LIMITS__BODY_BYTES_MAX`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::settings::Config;

/// Variables that begin with `PRISM_` and are no settings, and what they are for.
const NO_SETTINGS: &[(&str, &str)] = &[
    ("PRISM_CONFIG", "path of the configuration file"),
    ("PRISM_LOG", "short for PRISM_LOG__FILTER"),
    ("PRISM_KEY", "key of the commands that talk to a server"),
    ("PRISM_URL", "server of the commands that talk to one"),
    ("PRISM_CA_FILE", "authorities that the commands trust which talk to a server"),
    ("PRISM_BUNDLED_PLUGINS", "read when Prism is built"),
    ("PRISM_GUEST_TOOLCHAIN", "read when plugins are built"),
    ("PRISM_SHARED_DATA", "read by Prism's tests"),
    ("PRISM_BIN_DIR", "read by Prism's tests"),
    ("PRISM_REQUIRE_CLIENTS", "read by Prism's tests"),
];

/// Settings from the command line; they win over everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// `--config FILE`
    pub(crate) file: Option<PathBuf>,
    /// `(setting, value)`, nested by dots.
    pub(crate) set: Vec<(&'static str, Value)>,
}

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The file.
    File(PathBuf),
    /// A variable.
    Env(String),
    /// The command line.
    Flag,
}

/// The configuration in force.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// The values.
    pub(crate) config: Config,
    /// Who set what, by dotted name; settings at their default are not in it.
    pub(crate) sources: BTreeMap<String, Source>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("expected a readable configuration file, found `{path}`: {error}")]
    Unreadable {
        /// As given.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is not TOML.
    #[error("`{path}` is not TOML: {message}")]
    NotToml {
        /// As given.
        path: String,
        /// Line, column and what was expected.
        message: String,
    },
    /// A key that is no setting.
    #[error("`{found}` in {place} is no setting{hint}")]
    Unknown {
        /// The key or variable.
        found: String,
        /// File or environment.
        place: String,
        /// `; did you mean ...`, or empty.
        hint: String,
    },
    /// A value of the wrong type.
    #[error("`{setting}` in {place}: expected {expected}, found `{found}`")]
    Type {
        /// Dotted name.
        setting: String,
        /// File or environment.
        place: String,
        /// What the setting takes.
        expected: String,
        /// The value.
        found: String,
    },
    /// A value that cannot work.
    #[error("configuration: {0}")]
    Refused(String),
}

/// Reads file, environment and flags over the defaults. `env` holds all variables of the process.
///
/// # Errors
/// [`ConfigError`] for the first thing that is wrong; nothing is ignored.
pub(crate) fn load(flags: &Flags, env: impl Iterator<Item = (String, String)>) -> Result<Loaded, ConfigError> {
    let env: BTreeMap<String, String> = env.filter(|(name, _)| name.starts_with("PRISM_")).collect();
    let mut table = default_table()?;
    let mut sources = BTreeMap::new();

    let file = flags.file.clone().or_else(|| env.get("PRISM_CONFIG").map(PathBuf::from));
    if let Some(path) = file {
        let place = format!("`{}`", path.display());
        for (setting, value) in flatten(read_file(&path)?) {
            set(&mut table, &setting, value, &setting, &place)?;
            sources.insert(setting, Source::File(path.clone()));
        }
    }
    for (name, text) in &env {
        let Some(setting) = setting_of(name, &table)? else { continue };
        let value = parse_like(lookup(&table, &setting), text);
        set(&mut table, &setting, value, name, "the environment")?;
        sources.insert(setting, Source::Env(name.clone()));
    }
    for (setting, value) in &flags.set {
        set(&mut table, setting, value.clone(), setting, "the command line")?;
        sources.insert((*setting).to_owned(), Source::Flag);
    }
    let config: Config = Value::Table(table).try_into().map_err(|e: toml::de::Error| refused(&e))?;
    config.check().map_err(ConfigError::Refused)?;
    Ok(Loaded { config, sources })
}

fn refused(error: &toml::de::Error) -> ConfigError {
    ConfigError::Refused(error.message().to_owned())
}

fn default_table() -> Result<Table, ConfigError> {
    Table::try_from(Config::default()).map_err(|e| ConfigError::Refused(e.to_string()))
}

fn read_file(path: &Path) -> Result<Table, ConfigError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: shown.clone(), error })?;
    text.parse().map_err(|e: toml::de::Error| ConfigError::NotToml { path: shown, message: e.to_string() })
}

/// Dotted names of all leaves. A table stays whole where it is empty, so that an unknown `[section]` is found.
fn flatten(table: Table) -> Vec<(String, Value)> {
    let mut out = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                out.extend(flatten(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)));
            }
            leaf => out.push((key, leaf)),
        }
    }
    out
}

/// Names of all settings, dotted.
fn names(table: &Table) -> Vec<String> {
    flatten(table.clone()).into_iter().map(|(name, _)| name).collect()
}

fn lookup<'t>(table: &'t Table, setting: &str) -> Option<&'t Value> {
    match setting.split_once('.') {
        None => table.get(setting),
        Some((section, rest)) => table.get(section)?.as_table().and_then(|inner| lookup(inner, rest)),
    }
}

fn slot<'t>(table: &'t mut Table, setting: &str) -> Option<&'t mut Value> {
    match setting.split_once('.') {
        None => table.get_mut(setting),
        Some((section, rest)) => table.get_mut(section)?.as_table_mut().and_then(|inner| slot(inner, rest)),
    }
}

/// Puts a value in place of one of the same type.
fn set(table: &mut Table, setting: &str, value: Value, found: &str, place: &str) -> Result<(), ConfigError> {
    let known = names(table);
    let Some(current) = slot(table, setting) else {
        let hint = hint(setting, known.iter().map(String::as_str));
        return Err(ConfigError::Unknown { found: found.to_owned(), place: place.to_owned(), hint });
    };
    if current.is_table() && value.as_table().is_some_and(Table::is_empty) {
        return Ok(());
    }
    let below_zero = value.as_integer().is_some_and(|i| i < 0);
    if !current.same_type(&value) || below_zero {
        return Err(ConfigError::Type {
            setting: found.to_owned(),
            place: place.to_owned(),
            expected: expected(current).to_owned(),
            found: value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        });
    }
    *current = value;
    Ok(())
}

fn expected(like: &Value) -> &'static str {
    match like {
        Value::Integer(_) => "a whole number of 0 or more",
        Value::Float(_) => "a number with a point",
        Value::Boolean(_) => "`true` or `false`",
        Value::Table(_) => "a section",
        Value::Array(_) => "a list",
        Value::String(_) | Value::Datetime(_) => "a text",
    }
}

/// The text of a variable as the type that the setting has; as text where it does not parse, which `set` then refuses.
fn parse_like(like: Option<&Value>, text: &str) -> Value {
    let as_text = || Value::String(text.to_owned());
    match like {
        Some(Value::Integer(_)) => text.replace('_', "").parse().map_or_else(|_| as_text(), Value::Integer),
        Some(Value::Float(_)) => text.parse().map_or_else(|_| as_text(), Value::Float),
        Some(Value::Boolean(_)) => text.parse().map_or_else(|_| as_text(), Value::Boolean),
        Some(Value::Array(_)) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Value::Array(parts.map(|part| Value::String(part.to_owned())).collect())
        }
        _ => as_text(),
    }
}

/// The setting that a variable sets; `None` where it is no setting by intent.
fn setting_of(name: &str, table: &Table) -> Result<Option<String>, ConfigError> {
    if name == "PRISM_LOG" {
        return Ok(Some("log.filter".to_owned()));
    }
    if NO_SETTINGS.iter().any(|(known, _)| *known == name) || name.starts_with("PRISM_TEST_") || is_service_link(name) {
        return Ok(None);
    }
    let setting = name["PRISM_".len()..].to_lowercase().replace("__", ".");
    match lookup(table, &setting) {
        Some(value) if !value.is_table() => Ok(Some(setting)),
        _ => {
            let variables: Vec<String> =
                names(table).iter().map(|n| format!("PRISM_{}", n.replace('.', "__").to_uppercase())).collect();
            let known = variables.iter().map(String::as_str).chain(NO_SETTINGS.iter().map(|(known, _)| *known));
            let hint = hint(name, known);
            Err(ConfigError::Unknown { found: name.to_owned(), place: "the environment".to_owned(), hint })
        }
    }
}

/// Kubernetes and Docker give every container variables about services beside it: a service called `prism` brings
/// `PRISM_SERVICE_HOST`, `PRISM_PORT` and `PRISM_PORT_4318_TCP_ADDR`. They are nobody's mistake.
fn is_service_link(name: &str) -> bool {
    let rest = &name["PRISM_".len()..];
    rest == "PORT" || rest == "NAME" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
}

/// `; did you mean ...` for the nearest name, where one is near.
pub(crate) fn hint<'n>(found: &str, known: impl Iterator<Item = &'n str>) -> String {
    let nearest = known.map(|name| (distance(found, name), name)).min();
    match nearest {
        // A third of the letters: beyond that the guess is more often wrong than right.
        Some((distance, name)) if distance <= 1 + found.chars().count() / 3 => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(file: &str, env: &[(&str, &str)], set: Vec<(&'static str, Value)>) -> Result<Loaded, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prism.toml");
        std::fs::write(&path, file).unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let flags = Flags { file: Some(path.clone()), set };
        load(&flags, env).map_err(|e| e.to_string().replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn nothing_needs_to_be_set() {
        let loaded = load(&Flags::default(), std::iter::empty()).unwrap();
        assert_eq!(loaded.config, Config::default());
        assert_eq!(loaded.config.http_addr, "127.0.0.1:4318");
        assert!(loaded.sources.is_empty());
    }

    #[test]
    fn flags_win_over_variables_over_file_over_defaults() {
        let file = "http_addr = '1.1.1.1:1'\ngrpc_addr = '1.1.1.1:1'\ndata_dir = 'file'\n[limits]\nitems_max = 7\n";
        let env =
            [("PRISM_HTTP_ADDR", "2.2.2.2:2"), ("PRISM_GRPC_ADDR", "2.2.2.2:2"), ("HOME", "/"), ("PRISM_LOG", "debug")];
        let loaded = from(file, &env, vec![("http_addr", Value::String("3.3.3.3:3".into()))]).unwrap();
        assert_eq!(loaded.config.http_addr, "3.3.3.3:3");
        assert_eq!(loaded.config.grpc_addr, "2.2.2.2:2");
        assert_eq!(loaded.config.data_dir, Path::new("file"));
        assert_eq!(loaded.config.limits.items_max, 7);
        assert_eq!(loaded.config.log.filter, "debug");
        assert_eq!(loaded.sources["http_addr"], Source::Flag);
        assert_eq!(loaded.sources["grpc_addr"], Source::Env("PRISM_GRPC_ADDR".into()));
    }

    #[test]
    fn nested_variables_take_two_underscores() {
        let env = [("PRISM_LIMITS__BODY_BYTES_MAX", "1_000"), ("PRISM_AUTH__DEV", "true")];
        let config = from("", &env, vec![]).unwrap().config;
        assert_eq!((config.limits.body_bytes_max, config.auth.dev), (1_000, true));
    }

    #[test]
    fn lists_are_comma_separated_in_variables() {
        let env = [("PRISM_HTTP__CORS__ALLOWED_ORIGINS", "https://a.example, https://*.b.example,")];
        let config = from("[http.cors]\nmax_age_s = 5\n", &env, vec![]).unwrap().config;
        assert_eq!(config.http.cors.allowed_origins, ["https://a.example", "https://*.b.example"]);
        assert_eq!(config.http.cors.max_age_s, 5);
    }

    #[test]
    fn tls_takes_both_files_or_none() {
        let check = |file: &str, expected: &str| assert_eq!(from(file, &[], vec![]).unwrap_err(), expected);
        let missing = |setting: &str| {
            format!(
                "configuration: `{setting}`: expected a file, because another setting of `tls` names one, found none"
            )
        };
        check("[tls]\ncert_file = 'a'\n", &missing("tls.key_file"));
        check("[tls]\nkey_file = 'a'\n", &missing("tls.cert_file"));
        check("[tls]\nclient_ca_file = 'a'\n", &missing("tls.cert_file"));
        assert!(from("[tls]\ncert_file = 'a'\nkey_file = 'b'\n", &[], vec![]).unwrap().config.tls.is_on());
    }

    #[test]
    fn unknown_names_are_refused_with_the_nearest() {
        let check = |file: &str, env: &[(&str, &str)], expected: &str| {
            assert_eq!(from(file, env, vec![]).unwrap_err(), expected);
        };
        check("data_dri = 'x'", &[], "`data_dri` in `FILE` is no setting; did you mean `data_dir`?");
        check(
            "[limits]\nbody_max = 1",
            &[],
            "`limits.body_max` in `FILE` is no setting; did you mean `limits.items_max`?",
        );
        check("[quantum]\n", &[], "`quantum` in `FILE` is no setting");
        check(
            "",
            &[("PRISM_HTTP_ADRR", "x")],
            "`PRISM_HTTP_ADRR` in the environment is no setting; did you mean `PRISM_HTTP_ADDR`?",
        );
        check(
            "",
            &[("PRISM_LIMITS", "x")],
            "`PRISM_LIMITS` in the environment is no setting; did you mean `PRISM_LOG`?",
        );
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        let check = |file: &str, env: &[(&str, &str)], expected: &str| {
            assert_eq!(from(file, env, vec![]).unwrap_err(), expected);
        };
        check("data_dir = 5", &[], "`data_dir` in `FILE`: expected a text, found `5`");
        check("limits = 5", &[], "`limits` in `FILE`: expected a section, found `5`");
        check(
            "",
            &[("PRISM_AUTH__DEV", "yes")],
            "`PRISM_AUTH__DEV` in the environment: expected `true` or `false`, found `yes`",
        );
        check(
            "[limits]\nitems_max = -1",
            &[],
            "`limits.items_max` in `FILE`: expected a whole number of 0 or more, found `-1`",
        );
        check(
            "http_addr = 'localhost'",
            &[],
            "configuration: `http_addr`: expected ADDRESS:PORT such as `127.0.0.1:4318`, found `localhost`",
        );
        check(
            "[http]\nconnections_max = 0",
            &[],
            "configuration: `http.connections_max`: expected a number above 0, found `0`",
        );
        assert!(from("x = ", &[], vec![]).unwrap_err().starts_with("`FILE` is not TOML: "));
    }

    #[test]
    fn variables_of_orchestrators_are_no_settings() {
        let env =
            [("PRISM_SERVICE_HOST", "10.0.0.1"), ("PRISM_PORT", "tcp://10.0.0.1:1"), ("PRISM_PORT_4318_TCP_ADDR", "x")];
        assert!(from("", &env, vec![]).is_ok());
    }
}

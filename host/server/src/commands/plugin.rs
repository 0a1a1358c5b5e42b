//! `prism plugin`: bundled plugins, and which tenant's data runs through which.

use std::path::Path;

use anyhow::{Context as _, bail};
use prism_ingest::bindings::{self, Bound, NewBinding, Version};
use prism_model::TenantId;
use prism_plugin::{Binding, Plugin, PluginHost};

use crate::access;
use crate::bundled;
use crate::cli::PluginCommand;
use crate::config::Config;
use crate::show::{Align, Grid, Screen, bytes, clean};

/// Letters of a content hash that are shown: enough to tell versions apart.
const HASH_SHOWN: usize = 12;

/// Runs `prism plugin`; returns what is printed.
///
/// # Errors
/// In words for the user.
pub(crate) fn run(command: &PluginCommand, config: &Config, screen: &Screen) -> anyhow::Result<String> {
    match command {
        PluginCommand::List { tenant } => list(tenant.as_ref(), config, screen),
        PluginCommand::Bind { plugin, tenant, name, config: given, signals } => {
            must_exist(tenant, config)?;
            let component = component(plugin, tenant, config)?;
            let given = given.as_deref().map(read_json).transpose()?;
            let host = PluginHost::new(config.plugin_options())?;
            let new = NewBinding { name: name.clone(), config: given, signals: signals.clone() };
            let Bound { binding, before } = bindings::bind(&config.data_dir, &host, tenant, &component, new)?;
            let how = how(&binding, host.load(&component)?.as_ref());
            let (name, hash) = (&binding.name, short(&binding.plugin));
            let instead = match before {
                Some(before) if before != binding => {
                    let was = short(&before.plugin);
                    format!("the way back to what it was ({was}): prism plugin rollback --tenant {tenant} {name}\n")
                }
                _ => String::new(),
            };
            Ok(format!("bound `{name}` ({hash}) to tenant `{tenant}`, {how}\n{instead}"))
        }
        PluginCommand::Upload { file, tenant } => {
            must_exist(tenant, config)?;
            let component = component(file, tenant, config)?;
            let host = PluginHost::new(config.plugin_options())?;
            let plugin = bindings::upload(&config.data_dir, &host, tenant, &component)?;
            // The hash alone on standard output, so that a script can take it; people see the rest.
            eprintln!("{}", told(&plugin, component.len()));
            eprintln!("bind it: prism plugin bind --tenant {tenant} {}", short(plugin.hash()));
            Ok(format!("{}\n", plugin.hash()))
        }
        PluginCommand::History { name, tenant } => {
            must_exist(tenant, config)?;
            let versions = bindings::history(&config.data_dir, tenant, name)?;
            Ok(former(&versions, screen))
        }
        PluginCommand::Rollback { name, tenant, to } => {
            must_exist(tenant, config)?;
            let host = PluginHost::new(config.plugin_options())?;
            let back = bindings::rollback(&config.data_dir, &host, tenant, name, *to)?;
            let component = bindings::component(&config.data_dir, tenant, &back.to)?;
            let how = how(&back.to, host.load(&component)?.as_ref());
            let from = back.from.map_or_else(|| "not bound".to_owned(), |from| short(&from.plugin).to_owned());
            let (to, change) = (short(&back.to.plugin), back.change);
            Ok(format!("`{name}` of tenant `{tenant}` is {to} again, as change {change} left it (was {from}), {how}\n"))
        }
        PluginCommand::Unbind { name, tenant } => {
            must_exist(tenant, config)?;
            let gone = bindings::unbind(&config.data_dir, tenant, name)?;
            Ok(format!("unbound `{}` from tenant `{tenant}`; servers stop running it within a second\n", gone.name))
        }
    }
}

/// How a binding is run, in words.
fn how(binding: &Binding, plugin: &Plugin) -> String {
    match plugin.world().is_called() {
        false => format!("{}; servers run it within a second", signals_of(binding)),
        true => format!("for queries: {}; servers know it within a second", called(binding, plugin)),
    }
}

/// What an uploaded plugin is.
fn told(plugin: &Plugin, size: usize) -> String {
    let about = plugin.metadata();
    let (name, version) = (clean(&about.name), clean(&about.version));
    let (world, size, does) = (plugin.world().as_str(), bytes(size as u64), clean(&about.description));
    let functions = plugin.signatures().iter().map(|signature| format!("\n  `{signature}`"));
    format!("{name} {version}, {world}, {size}: {does}{}", functions.collect::<String>())
}

fn short(hash: &str) -> &str {
    hash.get(..HASH_SHOWN).unwrap_or(hash)
}

/// The states of a binding as a table.
fn former(versions: &[Version], screen: &Screen) -> String {
    let columns =
        [("change", Align::Right), ("plugin", Align::Left), ("signals", Align::Left), ("config", Align::Left)];
    let mut grid = Grid::new(columns.map(|(name, align)| (name.to_owned(), align)));
    for (place, Version { change, binding }) in versions.iter().enumerate() {
        let change = if place == 0 { format!("now {change}") } else { change.to_string() };
        grid.push(match binding {
            Some(b) => vec![change, titled(&b.plugin), signals_of(b), clean(&b.config.to_string())],
            None => vec![change, "not bound".to_owned(), String::new(), String::new()],
        });
    }
    grid.render(screen)
}

/// A hash with the name of the bundled plugin that has it.
fn titled(hash: &str) -> String {
    bundled_name(hash).map_or_else(|| short(hash).to_owned(), |name| format!("{name} {}", short(hash)))
}

fn list(tenant: Option<&TenantId>, config: &Config, screen: &Screen) -> anyhow::Result<String> {
    let Some(tenant) = tenant else { return bundle(config, screen) };
    must_exist(tenant, config)?;
    let bound = bindings::list(&config.data_dir, tenant)?;
    if bound.is_empty() {
        return Ok(format!(
            "tenant `{tenant}` has no bindings; bind one: prism plugin bind --tenant {tenant} redact-pii\n"
        ));
    }
    let columns =
        [("binding", Align::Left), ("plugin", Align::Left), ("signals or calls", Align::Left), ("config", Align::Left)];
    let mut grid = Grid::new(columns.map(|(name, align)| (name.to_owned(), align)));
    let host = PluginHost::new(config.plugin_options())?;
    for binding in bound {
        // One that cannot be loaded is listed all the same: whoever lists them may look for what is wrong.
        let component = bindings::component(&config.data_dir, tenant, &binding).ok();
        let loaded = component.and_then(|component| host.load(&component).ok());
        let seen = match loaded.filter(|plugin| plugin.world().is_called()) {
            Some(plugin) => called(&binding, &plugin).replace('`', ""),
            None => signals_of(&binding),
        };
        grid.push(vec![binding.name.clone(), titled(&binding.plugin), seen, clean(&binding.config.to_string())]);
    }
    Ok(grid.render(screen))
}

/// The bundled plugins, as they tell about themselves.
fn bundle(config: &Config, screen: &Screen) -> anyhow::Result<String> {
    if bundled::all().is_empty() {
        return Ok(format!(
            "{}\na plugin of your own is bound by its file: prism plugin bind --tenant NAME FILE\n",
            bundled::HOW_TO_BUILD
        ));
    }
    let host = PluginHost::new(config.plugin_options())?;
    let columns = [
        ("bundled", Align::Left),
        ("version", Align::Left),
        ("world", Align::Left),
        ("size", Align::Right),
        ("what it does", Align::Left),
    ];
    let mut grid = Grid::new(columns.map(|(name, align)| (name.to_owned(), align)));
    for (name, component) in bundled::all() {
        let plugin = host.load(component)?;
        let about = plugin.metadata();
        grid.push(vec![
            (*name).to_owned(),
            clean(&about.version),
            plugin.world().as_str().to_owned(),
            bytes(component.len() as u64),
            clean(&about.description),
        ]);
    }
    Ok(format!("{}\nbindings of a tenant: prism plugin list --tenant NAME\n", grid.render(screen)))
}

/// How queries call a binding's functions.
fn called(binding: &Binding, plugin: &Plugin) -> String {
    let name = |function: &str| match plugin.signatures() {
        [one] if one.name != binding.name.replace('-', "_") => binding.name.replace('-', "_"),
        _ => function.to_owned(),
    };
    let all = plugin.signatures().iter().map(|signature| {
        let text = signature.to_string();
        format!("`plugin.{}{}`", name(&signature.name), text.strip_prefix(signature.name.as_str()).unwrap_or_default())
    });
    all.collect::<Vec<_>>().join(", ")
}

fn bundled_name(hash: &str) -> Option<&'static str> {
    use sha2::{Digest as _, Sha256};
    let of = |component: &[u8]| hex::encode(Sha256::digest(component));
    bundled::all().iter().find(|(_, component)| of(component) == hash).map(|(name, _)| *name)
}

/// A misspelt tenant would get bindings that nobody's data runs through.
pub(super) fn must_exist(tenant: &TenantId, config: &Config) -> anyhow::Result<()> {
    let (_, directory) = access::read(&access::log(&config.data_dir)?)?;
    let dev = tenant.as_str() == crate::http::caller::DEV_TENANT;
    if !dev && !directory.tenants.contains_key(tenant) {
        bail!(
            "there is no tenant `{tenant}` in `{}`: create it with `prism tenant create {tenant}`",
            config.data_dir.display()
        );
    }
    Ok(())
}

/// A bundled plugin by its name, else one that was uploaded by its hash, else a file. Neither a name nor a hash looks like a
/// path, so a file of that name is `./name`.
fn component(text: &str, tenant: &TenantId, config: &Config) -> anyhow::Result<Vec<u8>> {
    if let Some(component) = bundled::find(text) {
        return Ok(component.to_vec());
    }
    if (HASH_SHOWN..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(bindings::uploaded(&config.data_dir, tenant, text)?);
    }
    let path = Path::new(text);
    let missing = || match bundled::all() {
        [] => format!("`{text}` is no file, and {}", bundled::HOW_TO_BUILD),
        known => {
            let names: Vec<String> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
            format!("expected a component file or one of {}, found `{text}`", names.join(", "))
        }
    };
    let size = std::fs::metadata(path).with_context(missing)?.len();
    if size > config.plugin.component_bytes_max as u64 {
        bail!(
            "expected a component of at most {} (`plugin.component_bytes_max`), found {}",
            config.plugin.component_bytes_max,
            size
        );
    }
    std::fs::read(path).with_context(|| format!("`{text}` cannot be read"))
}

fn read_json(text: &str) -> anyhow::Result<serde_json::Value> {
    let json = match text.strip_prefix('@') {
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("expected a readable file, found `{path}`"))?
        }
        None => text.to_owned(),
    };
    serde_json::from_str(&json).context("--config: expected JSON")
}

fn signals_of(binding: &Binding) -> String {
    match binding.signals.as_slice() {
        [] => "all signals".to_owned(),
        signals => signals.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(", "),
    }
}

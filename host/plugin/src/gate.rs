//! The upload gate: what a component must be and do before it may be bound.
//!
//! size -> component, not module -> closed set of features, compile in time -> imports within its world -> memory it begins
//! with -> describe -> metadata -> init with its example -> golden batches under small limits.

use std::sync::Arc;
use std::time::Duration;

use prism_model::{AttrType, Batch, Column, ColumnId, Intrinsic, Origin, Signal, Table, TableKind};
use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

use crate::chain::{Call, Stage, Stopped};
use crate::error::PluginError;
use crate::guest::{Birth, Bounds, to_refusal};
use crate::host::{Plugin, PluginHost};
use crate::signature;
use crate::voice::{Speech, Voice};
use crate::worlds::{Pre, World};

/// Bounds of describe and the golden batches, which hold a handful of values.
const CPU: Duration = Duration::from_millis(1_000);
/// An interpreter in a guest takes some 50 MiB to start.
const MEMORY_BYTES_MAX: usize = 96 << 20;
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// The interfaces of the contract that hold only types, which bindings generators may name as imports.
const TYPES: [&str; 4] = [
    "prism:plugin/base@0.1.0",
    "prism:plugin/columns@0.1.0",
    "prism:plugin/batches@0.1.0",
    "prism:plugin/functions@0.1.0",
];

/// Passes a component through the gate.
///
/// # Errors
/// What it breaks, as [`PluginError::Refused`] or [`PluginError::ComponentTooLarge`].
pub(crate) fn admit(host: &Arc<PluginHost>, bytes: &[u8]) -> Result<Arc<Plugin>, PluginError> {
    let options = &host.options;
    if bytes.len() > options.component_bytes_max {
        return Err(PluginError::ComponentTooLarge { limit: options.component_bytes_max, found: bytes.len() });
    }
    check_is_component(bytes)?;
    let hash = hash_of(bytes);
    let component = host.compiler.compile(&hash, bytes)?;
    let world = world_of(&component)?;
    check_imports(&component, world)?;
    check_resources(&component, options.memory_bytes_max)?;
    let pre = Pre::new(&host.engine, &component, world).map_err(|e| {
        PluginError::Refused(format!("it does not fit the world `{}`: {}", world.as_str(), e.root_cause()))
    })?;
    let bounds = small(Bounds::of(options));
    let mut instance = crate::guest::Instance::new(Birth {
        pre: &pre,
        bounds,
        budget: host.budget.clone(),
        counters: 0,
        voice: Arc::new(Voice::new("upload", Speech::Withheld)),
        kept: Arc::default(),
    })
    .map_err(|e| to_refusal(e, "it does not start", options))?;
    let mut metadata = instance.describe().map_err(|e| to_refusal(e, "describe", options))?;
    drop(instance);
    let validator = metadata.check(world).map_err(PluginError::Refused)?;
    let mut plugin = Plugin { hash, world, metadata, validator, pre, signatures: Vec::new() };
    if world.is_called() {
        plugin.signatures = signatures(host, &plugin)?;
        let plugin = Arc::new(plugin);
        crate::trial::run(host, &plugin)?;
        return Ok(plugin);
    }
    run_golden_batches(host, &plugin)?;
    Ok(Arc::new(plugin))
}

/// The name of a version: the SHA-256 of its component, as hex.
pub(crate) fn hash_of(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn small(bounds: Bounds) -> Bounds {
    Bounds {
        memory_bytes: bounds.memory_bytes.min(MEMORY_BYTES_MAX),
        output_bytes: bounds.output_bytes.min(OUTPUT_BYTES_MAX),
        cpu: bounds.cpu.min(CPU),
        wall: bounds.wall,
    }
}

fn check_is_component(bytes: &[u8]) -> Result<(), PluginError> {
    let refused = |what: &str| Err(PluginError::Refused(format!("expected a WebAssembly component, found {what}")));
    match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            refused("a core module; build it with `prism-componentize`, or make it a component with wit-component")
        }
        [0, b'a', b's', b'm', ..] => refused("a binary of another version"),
        _ => refused("something else"),
    }
}

fn world_of(component: &Component) -> Result<World, PluginError> {
    let has = |world: &World| component.get_export_index(None, world.interface()).is_some();
    let found: Vec<World> = World::ALL.into_iter().filter(has).collect();
    let names = |worlds: &[World], joint: &str| {
        worlds.iter().map(|world| format!("`{}`", world.interface())).collect::<Vec<_>>().join(joint)
    };
    match found[..] {
        [world] => Ok(world),
        [] => Err(PluginError::Refused(format!("it exports none of {}", names(&World::ALL, ", ")))),
        _ => Err(PluginError::Refused(format!("it exports {}; make a plugin of each", names(&found, " and ")))),
    }
}

fn check_imports(component: &Component, world: World) -> Result<(), PluginError> {
    let mut allowed = vec!["prism:plugin/host@0.1.0"];
    allowed.extend(TYPES);
    if world == World::Filter {
        allowed.push("prism:plugin/memory@0.1.0");
    }
    let engine = component.engine();
    for (name, _) in component.component_type().imports(engine) {
        if !allowed.contains(&name) {
            let hint = if name.starts_with("wasi:") {
                "; build it for `wasm32-unknown-unknown`, which has no WASI"
            } else {
                ""
            };
            return Err(PluginError::Refused(format!(
                "it imports `{name}`, which the world `{}` does not have{hint}",
                world.as_str()
            )));
        }
    }
    Ok(())
}

fn check_resources(component: &Component, memory_max: usize) -> Result<(), PluginError> {
    let Some(required) = component.resources_required() else { return Ok(()) };
    if required.num_memories > 1 {
        return Err(PluginError::Refused(format!("expected at most one memory, found {}", required.num_memories)));
    }
    let first = required.max_initial_memory_size.unwrap_or(0);
    if first > memory_max as u64 {
        return Err(PluginError::Refused(format!(
            "it begins with {first} bytes of memory; at most {memory_max} are allowed (setting `memory_bytes_max`)"
        )));
    }
    Ok(())
}

/// What the functions of a plugin take and give, by its own example as configuration.
fn signatures(host: &PluginHost, plugin: &Plugin) -> Result<Vec<signature::Signature>, PluginError> {
    let stage = stage_of_example(host, plugin)?;
    let mut instance = stage.interruptible(host, plugin, None).map_err(|e| match e {
        Stopped::Failure(failure) => PluginError::Refused(format!("signatures: {failure}")),
        Stopped::Full(full) => full.error(&host.options),
        Stopped::Bug(what) => PluginError::Host(what),
    })?;
    let said = instance.signatures().map_err(|e| to_refusal(e, "signatures", &host.options))?;
    let checked = signature::check(said).map_err(PluginError::Refused);
    drop(instance);
    host.end_idle(Some(stage.number()));
    checked
}

/// The plugin with its own example as configuration, under small bounds.
pub(crate) fn stage_of_example(host: &PluginHost, plugin: &Plugin) -> Result<Stage, PluginError> {
    let config = plugin.metadata.config_example.to_string();
    Stage::try_new(host, "upload", plugin, &config, small(Bounds::of(&host.options)), Speech::Withheld).map_err(|e| {
        match e {
            PluginError::BadBinding { reason, .. } => {
                PluginError::Refused(format!("with its `config-example`, {reason}"))
            }
            other => other,
        }
    })
}

/// The plugin, with its own example as configuration, on a small batch of each signal and on an empty one.
fn run_golden_batches(host: &PluginHost, plugin: &Plugin) -> Result<(), PluginError> {
    let refused = |what: String| PluginError::Refused(format!("with its `config-example`, {what}"));
    let stage = stage_of_example(host, plugin)?;
    let call = Call { now_unix_nanos: 1_790_000_000_000_000_000, seed: 7, batch_id: [7; 16] };
    for batch in golden_batches().map_err(|e| PluginError::Host(format!("golden batch: {e}")))? {
        stage.try_run(host, plugin, batch, &call).map_err(|e| match e {
            Stopped::Failure(failure) => refused(format!("on the golden batch: {failure}")),
            Stopped::Full(full) => full.error(&host.options),
            Stopped::Bug(what) => PluginError::Host(what),
        })?;
    }
    Ok(())
}

fn golden_batches() -> Result<Vec<Batch>, prism_model::table::BadTable> {
    use arrow::array::{DictionaryArray, Float64Array, Int64Array, StringArray, UInt8Array, UInt32Array};
    use arrow::datatypes::UInt32Type;
    let column = |id: ColumnId, array: Arc<dyn arrow::array::Array>| Column { id, array };
    let attr = |key: &str, ty| ColumnId::attr(key, ty);
    let dictionary = |texts: [Option<&str>; 3]| Arc::new(texts.into_iter().collect::<DictionaryArray<UInt32Type>>());
    let text = |texts: [Option<&str>; 3]| Arc::new(StringArray::from(texts.to_vec()));
    let resources = Table::try_new(
        TableKind::Resources,
        1,
        vec![
            column(attr("service.name", AttrType::Str), Arc::new(StringArray::from(vec!["shop"]))),
            column(attr("host.ip", AttrType::Json), Arc::new(StringArray::from(vec![r#"["10.0.0.7","::1"]"#]))),
        ],
    )?;
    let scopes = Table::try_new(
        TableKind::Scopes,
        1,
        vec![column(Intrinsic::Name.into(), Arc::new(StringArray::from(vec!["opentelemetry"])))],
    )?;
    let items = |signal: Signal| {
        let mut columns = vec![
            column(Intrinsic::Time.into(), Arc::new(Int64Array::from(vec![1, 2, 3]))),
            column(attr("user.email", AttrType::Str), text([Some("ada@example.com"), None, Some("grüße@example.org")])),
            column(attr("http.route", AttrType::Str), dictionary([Some("/cart"), Some("/cart"), None])),
            column(
                attr("http.status_code", AttrType::Int),
                Arc::new(Int64Array::from(vec![Some(200), None, Some(500)])),
            ),
            column(
                attr("ratio", AttrType::Double),
                Arc::new(Float64Array::from(vec![Some(0.5), Some(f64::NAN), None])),
            ),
            column(
                attr("tags", AttrType::Json),
                text([Some(r#"{"card":"4111 1111 1111 1111","n":[1,2.5,null]}"#), None, None]),
            ),
        ];
        match signal {
            Signal::Logs => {
                columns.push(column(Intrinsic::Body.into(), text([Some("login of ada@example.com"), Some(""), None])))
            }
            _ => columns
                .push(column(Intrinsic::Name.into(), dictionary([Some("GET /cart"), Some("GET /cart"), Some("pay")]))),
        }
        Table::try_new(TableKind::Items, 3, columns)
    };
    let events = Table::try_new(
        TableKind::Events,
        1,
        vec![
            column(Intrinsic::Parent.into(), Arc::new(UInt32Array::from(vec![2]))),
            column(
                attr("exception.message", AttrType::Str),
                Arc::new(StringArray::from(vec!["no such user: ada@example.com"])),
            ),
        ],
    )?;
    let tail = Table::try_new(
        TableKind::Tail,
        1,
        vec![
            column(Intrinsic::Of.into(), Arc::new(UInt8Array::from(vec![TableKind::Items as u8]))),
            column(Intrinsic::Parent.into(), Arc::new(UInt32Array::from(vec![0]))),
            column(Intrinsic::Key.into(), Arc::new(StringArray::from(vec!["repeated"]))),
            column(Intrinsic::Value.into(), Arc::new(StringArray::from(vec![r#""ada@example.com""#]))),
        ],
    )?;
    let origin = Origin { batch_id: [7; 16], first_row: 0, rows: 3, received_unix_nanos: 0, redactions: Vec::new() };
    let mut batches = Vec::new();
    for signal in [Signal::Spans, Signal::Logs] {
        let mut tables = vec![resources.clone(), scopes.clone(), items(signal)?, tail.clone()];
        if signal == Signal::Spans {
            tables.push(events.clone());
        }
        batches.push(Batch::try_new(signal, vec![origin.clone()], tables)?);
        batches.push(Batch::try_new(signal, Vec::new(), Vec::new())?);
    }
    Ok(batches)
}

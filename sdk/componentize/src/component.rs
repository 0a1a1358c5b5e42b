//! A core module with its custom sections -> a component, and what a component imports and exports.

use anyhow::{Context as _, Result, bail};
use wit_component::{ComponentEncoder, DecodedWasm, decode};

/// What a component asks for and offers, by full names such as `prism:plugin/host@0.1.0`, in the order of the component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// What it needs from the host.
    pub imports: Vec<String>,
    /// What it offers to the host.
    pub exports: Vec<String>,
}

/// Makes a validated component of a core module that carries its world in `component-type` sections (wit-bindgen writes
/// them).
///
/// # Errors
/// The bytes are no module, describe no world, lack an export of the world, or import what is not of the world.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>> {
    let component = ComponentEncoder::default()
        .module(module)
        .context("expected a core module that describes its world")?
        .validate(true)
        .encode()
        .context("the module does not fit the world that it describes")?;
    if inspect(&component)?.exports.is_empty() {
        bail!("the guest exports nothing: expected a call of `prism_sdk::export_filter!` or a sibling of it");
    }
    Ok(component)
}

/// Reads the imports and exports of a component.
///
/// # Errors
/// The bytes are no component.
pub fn inspect(component: &[u8]) -> Result<Component> {
    if component.get(..8) != Some(b"\0asm\x0d\0\x01\0") {
        bail!("expected a component");
    }
    match decode(component).context("expected a component")? {
        DecodedWasm::Component(resolve, world) => {
            let world = &resolve.worlds[world];
            Ok(Component {
                imports: world.imports.keys().map(|key| resolve.name_world_key(key)).collect(),
                exports: world.exports.keys().map(|key| resolve.name_world_key(key)).collect(),
            })
        }
        DecodedWasm::WitPackage(..) => bail!("expected a component, found a WIT package"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest core module: magic and version.
    const EMPTY: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn a_module_without_a_world_is_refused_with_what_to_do() {
        let error = componentize(EMPTY).unwrap_err().to_string();
        assert!(error.contains("export_filter!"), "{error}");
    }

    #[test]
    fn what_is_no_module_is_refused() {
        for bad in [&b""[..], b"\0asm", b"not wasm at all", b"\0asm\x0d\0\x01\0"] {
            assert!(componentize(bad).is_err(), "{bad:?}");
        }
        assert!(inspect(EMPTY).is_err());
    }
}

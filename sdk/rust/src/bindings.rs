//! The contract in `wit/` as Rust types and traits.
//!
//! One made-up world holds every interface, so that types exist once and one crate serves all worlds; what a guest really
//! is stands in the section that the `export_*` macros put in (`worlds`).
#![allow(unsafe_code, reason = "generated: the canonical ABI lifts and lowers by raw pointers")]
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, reason = "generated")]

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package prism:sdk;
        world everything {
            import prism:plugin/host@0.1.0;
            import prism:plugin/memory@0.1.0;
            export prism:plugin/meta@0.1.0;
            export prism:plugin/filtering@0.1.0;
            export prism:plugin/redacting@0.1.0;
            export prism:plugin/scalar@0.1.0;
            export prism:plugin/aggregating@0.1.0;
            export prism:plugin/exporting@0.1.0;
        }
    ",
    world: "prism:sdk/everything",
    pub_export_macro: true,
    default_bindings_module: "prism_sdk::bindings",
    generate_all,
});

pub use prism::plugin::{base, batches, columns, functions, host, memory};

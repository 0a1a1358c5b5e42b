//! The Rust side of `wit/prism-plugin.wit`, generated: arguments borrow, so that Arrow buffers are copied once, into guest
//! memory; results are lifted eagerly into owned values, since the guest's memory may be gone when they are read.
#![allow(missing_docs, unreachable_pub, unused, clippy::all, clippy::unwrap_used, clippy::expect_used)]

pub(crate) mod filter {
    wasmtime::component::bindgen!({
        world: "filter",
        path: "../../wit",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { default: trappable },
    });
}

pub(crate) mod redactor {
    wasmtime::component::bindgen!({
        world: "redactor",
        path: "../../wit",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { default: trappable },
        with: {
            "prism:plugin/host@0.1.0": super::filter::prism::plugin::host,
            "prism:plugin/base@0.1.0": super::filter::prism::plugin::base,
            "prism:plugin/columns@0.1.0": super::filter::prism::plugin::columns,
            "prism:plugin/batches@0.1.0": super::filter::prism::plugin::batches,
        },
    });
}

pub(crate) mod scalar {
    wasmtime::component::bindgen!({
        world: "scalar-function",
        path: "../../wit",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { default: trappable },
        with: {
            "prism:plugin/host@0.1.0": super::filter::prism::plugin::host,
            "prism:plugin/base@0.1.0": super::filter::prism::plugin::base,
            "prism:plugin/columns@0.1.0": super::filter::prism::plugin::columns,
        },
    });
}

pub(crate) mod aggregator {
    wasmtime::component::bindgen!({
        world: "aggregator",
        path: "../../wit",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { default: trappable },
        with: {
            "prism:plugin/host@0.1.0": super::filter::prism::plugin::host,
            "prism:plugin/base@0.1.0": super::filter::prism::plugin::base,
            "prism:plugin/columns@0.1.0": super::filter::prism::plugin::columns,
            "prism:plugin/functions@0.1.0": super::scalar::prism::plugin::functions,
        },
    });
}

pub(crate) use filter::prism::plugin::{base, batches, columns, host, memory};
pub(crate) use scalar::prism::plugin::functions;

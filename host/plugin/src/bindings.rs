//! The Rust side of `wit/prism-plugin.wit`, generated: arguments borrow, so that Arrow buffers are copied once, into guest
//! memory; results are lifted eagerly into owned values, since the guest's memory may be gone when they are read.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, clippy::expect_used)]

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
    });
}

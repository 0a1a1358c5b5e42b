//! A numeric filter and a string search, as lean as a guest can be.
include!("../../kernels.rs");

wit_bindgen::generate!({ path: "../../../../../wit", world: "filter" });

use exports::prism::plugin::filtering::{Guest as Filtering, Verdict};
use exports::prism::plugin::meta::{Access, Guest as Meta, Metadata, Need};
use prism::plugin::base::{Dtype, Error, Place, Role};
use prism::plugin::batches::{Batch, Call};
use prism::plugin::columns::Values;

struct Bench;

impl Meta for Bench {
    fn describe() -> Metadata {
        Metadata {
            name: "bench".into(),
            version: "0.1.0".into(),
            description: "".into(),
            config_schema: "{}".into(),
            config_example: "\"numeric\"".into(),
            access: Access::Rows,
            deterministic: true,
            labels: vec![],
            counters: vec![],
        }
    }

    fn init(config: String) -> Result<Vec<Need>, Error> {
        let dtype = if config == "\"numeric\"" { Dtype::Int64 } else { Dtype::Utf8 };
        let name = if config == "\"numeric\"" { "http.status_code" } else { "url.full" };
        Ok(vec![Need { place: Some(Place::Item), role: Role::Attribute, name: name.into(), dtypes: vec![dtype], leaves: false }])
    }
}

impl Filtering for Bench {
    fn apply(batch: Batch, _: Call) -> Result<Verdict, Error> {
        let Some(column) = batch.tables.iter().find_map(|t| t.columns.first()) else {
            return Ok(Verdict { keep: None, reasons: None, add: vec![] });
        };
        let keep = match &column.values {
            Values::S64s(values) => at_most(values, 499),
            Values::Utf8(text) => without(&memchr::memmem::Finder::new("/health"), &text.offsets, &text.data),
            _ => return Err(Error::BadInput("another type".into())),
        };
        Ok(Verdict { keep: Some(keep), reasons: None, add: vec![] })
    }
}

export!(Bench);

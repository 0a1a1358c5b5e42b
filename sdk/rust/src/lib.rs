//! What a plugin author uses: the worlds of `prism:plugin` as Rust traits, and columns in comfortable clothes.
//!
//! `plugin` (what every plugin says about itself) -> `filter` or `redactor` (the work) over `batch` and `column` (what the
//! host hands over) -> `verdict` or `edit` (what goes back). For queries: `scalar` and `aggregator` over the arguments and
//! results of `function`. `host` logs and counts; `testing` makes batches for native unit tests, and `prism-testkit` calls the
//! built plugin in the sandbox that runs it in production. It does not build guests (`prism-componentize` does) and reads no clock: time comes with each call.
//!
//! Rows never cross the boundary, columns do, and where values repeat, as a dictionary: decide once for each distinct value
//! ([`ColumnRef::entries`]), then let [`ColumnRef::entry_of`] or [`ColumnRef::for_each_row`] carry it to the rows. Nothing
//! here allocates for a row.
//!
//! A whole plugin, which drops spans of one route:
//! ```
//! use prism_sdk::prelude::*;
//!
//! #[derive(serde::Deserialize)]
//! struct Config {
//!     route: String,
//! }
//!
//! struct DropRoute {
//!     route: String,
//! }
//!
//! impl Plugin for DropRoute {
//!     type Config = Config;
//!
//!     fn describe() -> Description {
//!         Description::new("drop-route", "1.0.0", "drops what came in over one route")
//!             .config(r#"{"type": "object", "required": ["route"]}"#, r#"{"route": "/health"}"#)
//!             .labels(&["route"])
//!             .deterministic()
//!     }
//!
//!     fn new(config: Config) -> Result<Self, Error> {
//!         Ok(DropRoute { route: config.route })
//!     }
//!
//!     fn needs(&self) -> Vec<Need> {
//!         vec![Need::attribute("http.route").at(Place::Item).of(&[Dtype::Utf8])]
//!     }
//! }
//!
//! impl Filter for DropRoute {
//!     fn apply(&mut self, batch: &Batch, _call: &Call) -> Result<Verdict, Error> {
//!         let mut drops = Drops::new(batch.rows());
//!         for column in batch.columns() {
//!             let Some(text) = column.text() else { continue };
//!             let hit: Vec<bool> = text.iter().map(|route| route == self.route).collect();
//!             column.for_each_row(|row, entry| {
//!                 if hit[entry] {
//!                     drops.drop(row, 0);
//!                 }
//!             });
//!         }
//!         Ok(drops.into())
//!     }
//! }
//!
//! prism_sdk::export_filter!(DropRoute);
//! # use prism_sdk::testing::BatchBuilder;
//! # let mut plugin = DropRoute::new(Config { route: "/health".into() }).unwrap();
//! # let batch = BatchBuilder::spans(2).text(0, "http.route", &[Some("/health"), Some("/buy")]).build();
//! # let verdict = plugin.apply(&batch, &prism_sdk::testing::call()).unwrap();
//! # assert_eq!((verdict.keep, verdict.reasons), (Some(vec![0b10]), Some(vec![0])));
//! ```

//! A whole function, which queries call as `plugin.first_word(body)`:
//! ```
//! use prism_sdk::prelude::*;
//!
//! struct FirstWord;
//!
//! impl ScalarFunction for FirstWord {
//!     type Config = serde::de::IgnoredAny;
//!
//!     fn describe() -> Description {
//!         Description::new("first-word", "1.0.0", "the first word of a text").deterministic()
//!     }
//!
//!     fn new(_: Self::Config) -> Result<Self, Error> {
//!         Ok(FirstWord)
//!     }
//!
//!     fn signatures() -> Vec<Signature> {
//!         vec![Signature::new("first_word", &[Dtype::Utf8], Dtype::Utf8).deterministic()]
//!     }
//!
//!     fn eval(&mut self, _function: usize, args: &Args<'_>) -> Result<Series, Error> {
//!         let texts = args.texts(0)?;
//!         Ok(Series::texts(args.rows(), |row, out| {
//!             // A text without a word gives a missing value.
//!             let word = texts.get(row).and_then(|text| text.split_whitespace().next());
//!             word.map(|word| out.push_str(word)).is_some()
//!         }))
//!     }
//! }
//!
//! prism_sdk::export_scalar_function!(FirstWord);
//! # use prism_sdk::{Arg, BytesCol};
//! # let texts = Values::Utf8(BytesCol { offsets: vec![0, 7, 7], data: b" a word".to_vec() });
//! # let args = [Arg::Series(Series { validity: None, keys: None, values: texts })];
//! # let words = FirstWord.eval(0, &Args::new(2, &args)).unwrap();
//! # assert_eq!(words.validity, Some(vec![0b01]));
//! # assert!(matches!(words.values, Values::Utf8(text) if text.data == b"a"));
//! ```
//!
//! An aggregate is the same with a state for each group: see `plugins/apdex`.

pub mod bindings;
#[doc(hidden)]
pub mod worlds;
mod plugin;
mod batch;
mod column;
mod filter;
mod redactor;
mod verdict;
mod edit;
mod function;
mod scalar;
mod aggregator;
mod host;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use aggregator::{Aggregator, Rows};
pub use batch::ColumnRef;
pub use bindings::base::{Dtype, Error, Place, Role, Signal};
pub use bindings::batches::{Batch, Call, Column, Field, Table, TableKind};
pub use bindings::columns::{BytesCol, Values};
pub use bindings::exports::prism::plugin::filtering::{Addition, Verdict};
pub use bindings::exports::prism::plugin::meta::{Access, Need};
pub use bindings::exports::prism::plugin::redacting::Edit;
pub use bindings::functions::{Arg, Constant, Series, Signature};
pub use bindings::host::Level;
pub use column::{Bits, Bytes, Text, bit};
pub use edit::{ByteEdits, NumberEdits};
pub use filter::Filter;
pub use function::{Args, Argument, Bools, Entries};
pub use host::{count, log};
pub use plugin::{Description, Plugin};
pub use redactor::Redactor;
pub use scalar::ScalarFunction;
pub use verdict::Drops;

/// What nearly every plugin needs.
pub mod prelude {
    pub use crate::{
        Addition, Aggregator, Args, Batch, Bits, ByteEdits, Call, ColumnRef, Constant, Description, Drops, Dtype, Edit,
        Error, Filter, Need, NumberEdits, Place, Plugin, Redactor, Role, Rows, ScalarFunction, Series, Signal,
        Signature, TableKind, Values, Verdict,
    };
}

#[doc(hidden)]
pub mod exported {
    //! What the `export_*` macros expand to.
    pub use crate::aggregator::Accumulating;
    pub use crate::plugin::{Slot, describe, init, start, with};
}

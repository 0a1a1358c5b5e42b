//! What people read in a terminal.
//!
//! ```text
//! answer JSON -> units (a value as text) -> table (aligned columns), lines (numbers over time) -> answer (table, cost, warnings) | csv
//! a tail's row -> row (one line)
//! OTLP/JSON   -> tree (which span is below which), spent (times) -> waterfall (spans as bars over time)
//! ```
//!
//! Everything here is data in, text out: width, colour and time zone are arguments. Texts of clients never reach the terminal
//! as control characters.

mod units;
mod table;
mod lines;
mod answer;
mod csv;
mod row;
mod tree;
mod spent;
mod waterfall;
mod screen;

pub(crate) use answer::answer;
pub(crate) use csv::csv;
pub(crate) use row::row;
pub(crate) use screen::{Ink, Screen};
pub(crate) use spent::spent;
pub(crate) use table::{Align, Grid};
pub(crate) use units::{bytes, clean, count, duration, encoded, time};
pub(crate) use waterfall::waterfall;

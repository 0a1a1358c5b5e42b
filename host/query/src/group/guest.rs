//! Aggregates of plugins: the guest keeps the groups, of which each part of the rows has its own; states merge in any order.

use std::sync::Arc;

use arrow::array::BinaryArray;
use arrow::buffer::BooleanBuffer;
use arrow::error::ArrowError;
use parking_lot::Mutex;
use prism_dsl::Pos;
use prism_plugin::{Accumulator as GuestAccumulator, Argument, Constant, Session};

use super::Accumulator;
use crate::eval::node::{Level, Node};
use crate::eval::plugin::{column, constant, failed, of_array, type_of};
use crate::eval::{self, Rows, Vals};
use crate::plugins::Called;

/// The instances of one part of the rows: aggregates of one binding share one.
#[derive(Debug, Default)]
pub(super) struct Sessions(Vec<(Arc<Called>, Arc<Mutex<Session>>)>);

impl Sessions {
    fn of(&mut self, called: &Arc<Called>) -> Arc<Mutex<Session>> {
        if let Some((_, session)) = self.0.iter().find(|(known, _)| known.function.beside(&called.function)) {
            return session.clone();
        }
        let session = Session::new(&called.caller, &called.function);
        self.0.push((called.clone(), session.clone()));
        session
    }

    /// Bytes that the guests hold.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|(_, session)| session.lock().memory_bytes()).sum()
    }
}

/// One aggregate over all groups.
#[derive(Debug)]
pub(crate) struct Guest {
    accumulator: Option<GuestAccumulator>,
    groups: usize,
    /// The call in the query.
    call: Pos,
}

impl Guest {
    pub(super) fn new(of: &Accumulator, called: &Arc<Called>, sessions: &mut Sessions) -> Guest {
        let signature = called.function.signature();
        let fixed = |(position, node): (usize, &Node)| match (node, signature.arg(position)) {
            (Node::Const(scalar), Some(ty)) => constant(scalar, ty),
            _ => Constant::Null,
        };
        let constants = of.beside.iter().enumerate().map(fixed).collect();
        let accumulator = GuestAccumulator::new(sessions.of(called), called.function.clone(), constants);
        Guest { accumulator: Some(accumulator), groups: 0, call: called.pos }
    }

    pub(super) fn grow(&mut self, groups: usize) {
        self.groups = self.groups.max(groups);
    }

    /// Adds rows to the groups that they belong to.
    pub(super) fn add(
        &mut self,
        of: &Accumulator,
        called: &Called,
        rows: &dyn Rows,
        groups: Option<&[u32]>,
        filter: Option<&BooleanBuffer>,
    ) -> Result<(), ArrowError> {
        if filter.is_some_and(|filter| filter.count_set_bits() == 0) {
            return Ok(());
        }
        let signature = called.function.signature();
        let argument = |(position, node): (usize, &Node)| -> Result<Argument, ArrowError> {
            let ty = type_of(signature, position)?;
            Ok(match node {
                Node::Const(scalar) => Argument::Constant(constant(scalar, ty)),
                node => Argument::Column(column(&eval::vals_at(node, Level::Row, rows)?, ty)?),
            })
        };
        let args = of.beside.iter().enumerate().map(argument).collect::<Result<Vec<_>, _>>()?;
        let (count, len, call) = (self.groups, rows.len(Level::Row), self.call);
        self.open()?.update(groups, count, filter, len, &args).map_err(|error| failed(error, call))
    }

    /// Adds states, one for each of `groups` (`None`: group 0 for all).
    pub(super) fn merge(&mut self, groups: Option<&[u32]>, states: &BinaryArray) -> Result<(), ArrowError> {
        let (count, call) = (self.groups, self.call);
        self.open()?.merge(groups, count, states).map_err(|error| failed(error, call))
    }

    /// The states of all groups, which are gone then.
    pub(super) fn states(&mut self, groups: usize) -> Result<BinaryArray, ArrowError> {
        self.take()?.states(groups).map_err(|error| failed(error, self.call))
    }

    /// What each group gives.
    pub(super) fn outputs(&mut self, groups: usize) -> Result<Vals, ArrowError> {
        of_array(&self.take()?.finish(groups).map_err(|error| failed(error, self.call))?)
    }

    fn open(&mut self) -> Result<&mut GuestAccumulator, ArrowError> {
        self.accumulator.as_mut().ok_or_else(gone)
    }

    fn take(&mut self) -> Result<GuestAccumulator, ArrowError> {
        self.accumulator.take().ok_or_else(gone)
    }
}

fn gone() -> ArrowError {
    ArrowError::ComputeError("an aggregate that has given its groups away".into())
}

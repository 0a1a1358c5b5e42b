//! Aggregates of one query: accumulators over all groups, whose states merge in any order.
//!
//! All accumulators of one binding and thread live in one instance, the [`Session`]. It is used again only when every
//! accumulator in it ended well.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, new_empty_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{cast, concat};
use parking_lot::Mutex;
use wasmtime::component::ResourceAny;

use crate::argument::{Argument, Constant, Lowered, calls, check, present, rows_of};
use crate::bindings::aggregator::exports::prism::plugin::aggregating;
use crate::bindings::{base, columns, functions};
use crate::call::{COLUMN_BYTES_MAX, Caller, failed, host};
use crate::edit::check_offsets;
use crate::error::{Failure, PluginError, lied};
use crate::functions::{Callable, Function};
use crate::guest::{Instance, NoAnswer, State, answered, arm, failure_of};
use crate::returned::Returned;
use crate::signature::ValueType;
use crate::stage::Stopped;
use crate::worlds::Exports;

/// Results and states of one call take at most this part of what a guest may return: their size is the guest's own estimate.
const OUTPUT_PART: usize = 4;

/// An instance in which accumulators of one binding live, made when the first of them is needed.
pub struct Session {
    caller: Arc<Caller>,
    callable: Arc<Callable>,
    instance: Option<Instance>,
    /// Accumulators in it.
    open: usize,
    failed: bool,
}

impl Session {
    /// For accumulators of a function and of those beside it.
    pub fn new(caller: &Arc<Caller>, function: &Function) -> Arc<Mutex<Session>> {
        let (caller, callable) = (caller.clone(), function.callable.clone());
        Arc::new(Mutex::new(Session { caller, callable, instance: None, open: 0, failed: false }))
    }

    /// Bytes of linear memory that it holds; what the guest itself says of its states is not believed.
    pub fn memory_bytes(&self) -> usize {
        self.instance.as_ref().map_or(0, Instance::memory_bytes)
    }

    /// Does something in the instance; after any failure it is gone.
    fn with<T>(
        &mut self,
        function: &Function,
        work: impl FnOnce(&mut Instance) -> Result<T, Stopped>,
    ) -> Result<T, PluginError> {
        let callable = self.callable.clone();
        let caller = self.caller.clone();
        let done = caller.timed(|| {
            if self.failed {
                return Err(Stopped::Bug("an accumulator in an instance that is gone".into()));
            }
            let mut instance = match self.instance.take() {
                Some(instance) => instance,
                None => {
                    let interrupt = Some(caller.interrupt.clone());
                    callable.stage.interruptible(caller.host(), &callable.plugin, interrupt)?
                }
            };
            let done = work(&mut instance)?;
            self.instance = Some(instance);
            Ok(done)
        })?;
        self.failed |= done.is_err();
        done.map_err(|stopped| failed(&callable, function.signature(), stopped))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take().filter(|_| self.open == 0 && !self.failed) {
            self.callable.stage.give_back(self.caller.host(), &self.callable.plugin, instance);
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory_bytes();
        f.debug_struct("Session").field("open", &self.open).field("memory_bytes", &memory).finish_non_exhaustive()
    }
}

/// An aggregate over all groups that one thread knows of.
pub struct Accumulator {
    session: Arc<Mutex<Session>>,
    function: Function,
    constants: Vec<Constant>,
    resource: Option<ResourceAny>,
    /// Groups that the guest knows of.
    groups: usize,
}

impl Accumulator {
    /// For one call in a query. `constants`: one for each argument, [`Constant::Null`] where it differs by row.
    pub fn new(session: Arc<Mutex<Session>>, function: Function, constants: Vec<Constant>) -> Accumulator {
        Accumulator { session, function, constants, resource: None, groups: 0 }
    }

    /// Does something with the guest's accumulator, which is made first where there is none.
    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Instance, ResourceAny) -> Result<T, Stopped>,
    ) -> Result<T, PluginError> {
        let (known, function) = (self.resource, &self.function);
        let constants = &self.constants;
        let mut session = self.session.lock();
        let (resource, done) = session.with(function, |instance| {
            let resource = match known {
                Some(resource) => resource,
                None => {
                    let ty = |n| function.signature().arg(n).unwrap_or(ValueType::Utf8);
                    let lowered: Vec<_> = constants.iter().enumerate().map(|(n, c)| c.lower(ty(n))).collect();
                    instance.create(function.number, &lowered)?
                }
            };
            Ok((resource, work(instance, resource)?))
        })?;
        session.open += usize::from(known.is_none());
        self.resource = Some(resource);
        Ok(done)
    }

    /// Adds rows: `groups` gives the group of each, `None` is group 0 for all; there are `count` groups by now. `selected`:
    /// the rows that count.
    ///
    /// # Errors
    /// [`PluginError::Call`] where the guest failed, [`PluginError::Interrupted`], [`PluginError::Busy`].
    pub fn update(
        &mut self,
        groups: Option<&[u32]>,
        count: usize,
        selected: Option<&BooleanBuffer>,
        rows: usize,
        args: &[Argument],
    ) -> Result<(), PluginError> {
        check(self.function.signature(), rows, args)?;
        let there = present(args, rows).filter(|_| !self.function.signature().handles_nulls);
        let selected = match (there, selected) {
            (Some(there), Some(selected)) => Some(&there & selected),
            (there, selected) => there.or_else(|| selected.cloned()),
        };
        let seen = selected.as_ref().map_or(rows, BooleanBuffer::count_set_bits);
        if seen == 0 {
            return Ok(());
        }
        let all: Vec<u32>;
        let groups = match groups {
            Some(groups) => groups,
            None => {
                all = vec![0; rows];
                &all
            }
        };
        // Few rows are worth a copy of their own: what is not looked at need not be handed over.
        if let Some(few) = selected.as_ref().filter(|_| seen * 2 < rows) {
            let of_rows = rows_of(few);
            let args = args.iter().map(|arg| arg.take(&of_rows)).collect::<Result<Vec<_>, _>>()?;
            let groups: Vec<u32> = few.set_indices().map(|row| groups[row]).collect();
            return self.update_rows(&groups, count, None, &args);
        }
        let selected = selected.filter(|_| seen < rows);
        self.update_rows(groups, count, selected.as_ref(), args)
    }

    fn update_rows(
        &mut self,
        groups: &[u32],
        count: usize,
        selected: Option<&BooleanBuffer>,
        args: &[Argument],
    ) -> Result<(), PluginError> {
        let options = &self.session.lock().caller.host().options.clone();
        for (from, len) in calls(args, groups.len(), options.call_values_max, options.call_bytes_max) {
            let args = args.iter().map(|arg| arg.slice(from, len)).collect::<Result<Vec<_>, _>>()?;
            let function = self.function.clone();
            let lowered = Lowered::of(function.signature(), &args);
            let selected = selected.map(|selected| selected.slice(from, len).sliced());
            self.with(|instance, resource| {
                let selected = selected.as_deref();
                Ok(instance.update(resource, &groups[from..from + len], count as u32, selected, &lowered.args())?)
            })?;
            self.groups = count;
        }
        Ok(())
    }

    /// Adds states that [`Accumulator::states`] gave, one for each of `groups` (`None`: group 0 for all).
    ///
    /// # Errors
    /// As [`Accumulator::update`].
    pub fn merge(&mut self, groups: Option<&[u32]>, count: usize, states: &BinaryArray) -> Result<(), PluginError> {
        let options = &self.session.lock().caller.host().options.clone();
        let mut from = 0;
        while from < states.len() {
            let offsets = states.value_offsets();
            let most = offsets[from].saturating_add(i32::try_from(options.call_bytes_max).unwrap_or(i32::MAX));
            let fits = offsets[from + 1..].partition_point(|end| *end <= most);
            let len = fits.clamp(1, options.call_values_max);
            let part = states.slice(from, len);
            let offsets: Vec<u32> =
                part.value_offsets().iter().map(|o| (*o - part.value_offsets()[0]) as u32).collect();
            let bytes = part.value_offsets()[0] as usize..part.value_offsets()[len] as usize;
            let data = &part.value_data()[bytes];
            let of_part: Vec<u32> = match groups {
                Some(groups) => groups[from..from + len].to_vec(),
                None => vec![0; len],
            };
            self.with(|instance, resource| {
                let states = columns::BytesColParam { offsets: &offsets, data };
                Ok(instance.merge(resource, &of_part, count as u32, states)?)
            })?;
            self.groups = count;
            from += len;
        }
        Ok(())
    }

    /// Tells the guest of groups of which it has seen no row.
    fn grow(&mut self, count: usize) -> Result<(), PluginError> {
        if self.groups < count {
            let none = columns::BytesColParam { offsets: &[0], data: &[] };
            self.with(|instance, resource| Ok(instance.merge(resource, &[], count as u32, none)?))?;
            self.groups = count;
        }
        Ok(())
    }

    /// The states of all `count` groups, in their order. The accumulator is empty then.
    ///
    /// # Errors
    /// As [`Accumulator::update`], and [`PluginError::NoMemory`] where the query has none for them.
    pub fn states(mut self, count: usize) -> Result<BinaryArray, PluginError> {
        let (mut lengths, mut data) = (Vec::with_capacity(count), Vec::new());
        self.each_part(
            count,
            |instance, resource, first, len| {
                let states = instance.state(resource, first)?;
                check_offsets(&states.offsets, states.data.len(), len)?;
                Ok(states)
            },
            |states| states.data.len() + size_of_val(&states.offsets[..]),
            |states| {
                lengths.extend(states.offsets.windows(2).map(|o| (o[1] - o[0]) as usize));
                data.extend_from_slice(&states.data);
            },
        )?;
        let offsets = arrow::buffer::OffsetBuffer::<i32>::from_lengths(lengths);
        BinaryArray::try_new(offsets, data.into(), None).map_err(host)
    }

    /// The results of all `count` groups, in their order, of the type that the signature names; text may be a dictionary.
    ///
    /// # Errors
    /// As [`Accumulator::states`].
    pub fn finish(mut self, count: usize) -> Result<ArrayRef, PluginError> {
        let returns = self.function.signature().returns;
        let output_max = self.session.lock().caller.host().options.output_bytes_max;
        let mut parts = Vec::new();
        self.each_part(
            count,
            |instance, resource, first, len| {
                let series = instance.finish(resource, first)?;
                let returned = Returned { validity: series.validity, keys: series.keys, values: series.values };
                let part = returned.check(len, returns.dtype(), output_max)?;
                // Parts are joined as plain columns.
                if len == count {
                    return Ok(part);
                }
                cast(&part, &returns.data_type()).map_err(|e| Stopped::Bug(e.to_string()))
            },
            |part| part.get_array_memory_size(),
            |part| parts.push(part),
        )?;
        match parts.len() {
            0 => Ok(new_empty_array(&returns.data_type())),
            1 => Ok(parts.remove(0)),
            _ => concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>()).map_err(host),
        }
    }

    /// Takes all groups out, as many at a time as the guest's answer may hold, and ends the guest's accumulator. What each part
    /// takes is memory of the query: how many parts there are, and so what they come to, is the guest's own word.
    fn each_part<T>(
        &mut self,
        count: usize,
        mut take_out: impl FnMut(&mut Instance, ResourceAny, Option<u32>, usize) -> Result<T, Stopped>,
        bytes_of: impl Fn(&T) -> usize,
        mut keep: impl FnMut(T),
    ) -> Result<(), PluginError> {
        self.grow(count)?;
        let caller = self.session.lock().caller.clone();
        let most = (caller.host().options.output_bytes_max / OUTPUT_PART).max(1) as u64;
        let (mut left, mut bytes) = (count, 0usize);
        while left > 0 {
            let (taken, part) = self.with(|instance, resource| {
                let size = instance.size(resource)?;
                let (first, len) = match u128::from(size).checked_div(u128::from(most)) {
                    Some(0) | None => (None, left),
                    Some(_) => {
                        let len = (left as u128 * u128::from(most) / u128::from(size).max(1)).clamp(1, left as u128);
                        (Some(len as u32), len as usize)
                    }
                };
                Ok((len, take_out(instance, resource, first, len)?))
            })?;
            let more = bytes_of(&part);
            caller.keep(more)?;
            bytes = bytes.saturating_add(more);
            if bytes > COLUMN_BYTES_MAX {
                return Err(self.failed(Failure::Output { limit: COLUMN_BYTES_MAX }));
            }
            keep(part);
            left -= taken;
            self.groups = left;
        }
        let Some(resource) = self.resource.take() else { return Ok(()) };
        let mut session = self.session.lock();
        session.with(&self.function, |instance| Ok(instance.release(resource)?))?;
        session.open -= 1;
        Ok(())
    }

    fn failed(&self, failure: Failure) -> PluginError {
        failed(&self.function.callable, self.function.signature(), failure.into())
    }
}

impl fmt::Debug for Accumulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accumulator").field("function", &self.function).field("groups", &self.groups).finish()
    }
}

/// Calls of `aggregating`, not yet checked.
impl Instance {
    fn aggregating<T>(
        &mut self,
        call: impl FnOnce(
            &aggregating::GuestAccumulator<'_>,
            &mut wasmtime::Store<State>,
        ) -> wasmtime::Result<Result<T, base::Error>>,
    ) -> Result<T, NoAnswer> {
        arm(&mut self.store);
        let Exports::Aggregator(exports) = &self.exports else { return Err(lied("no aggregate").into()) };
        let answer = call(&exports.prism_plugin_aggregating().accumulator(), &mut self.store);
        answer.map_err(|e| failure_of(&mut self.store, &e))?.map_err(|e| answered(e, true).into())
    }

    fn create(&mut self, function: u32, constants: &[functions::Constant<'_>]) -> Result<ResourceAny, NoAnswer> {
        self.aggregating(|guest, store| guest.call_create(store, function, constants))
    }

    fn update(
        &mut self,
        of: ResourceAny,
        groups: &[u32],
        count: u32,
        selected: Option<&[u8]>,
        args: &[functions::Arg<'_>],
    ) -> Result<(), NoAnswer> {
        self.aggregating(|guest, store| guest.call_update(store, of, groups, count, selected, args))
    }

    fn merge(
        &mut self,
        of: ResourceAny,
        groups: &[u32],
        count: u32,
        states: columns::BytesColParam<'_>,
    ) -> Result<(), NoAnswer> {
        self.aggregating(|guest, store| guest.call_merge(store, of, groups, count, states))
    }

    fn state(&mut self, of: ResourceAny, first: Option<u32>) -> Result<columns::BytesColResult, NoAnswer> {
        self.aggregating(|guest, store| guest.call_state(store, of, first))
    }

    fn finish(&mut self, of: ResourceAny, first: Option<u32>) -> Result<functions::SeriesResult, NoAnswer> {
        self.aggregating(|guest, store| guest.call_finish(store, of, first))
    }

    fn size(&mut self, of: ResourceAny) -> Result<u64, NoAnswer> {
        self.aggregating(|guest, store| guest.call_size(store, of).map(Ok))
    }

    /// Ends an accumulator: the guest's destructor runs.
    fn release(&mut self, of: ResourceAny) -> Result<(), NoAnswer> {
        arm(&mut self.store);
        of.resource_drop(&mut self.store).map_err(|e| failure_of(&mut self.store, &e))
    }
}

//! Calls of one query: functions over columns, by value where that is enough, within the query's time and the guest's bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, UInt32Array, new_null_array};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, UInt32Type};
use arrow::error::ArrowError;
use prism_model::TenantId;

use crate::argument::{Argument, Lowered, calls, check, present, rows_of};
use crate::bindings::functions;
use crate::error::{Failure, PluginError};
use crate::functions::{Callable, Function, Functions};
use crate::guest::{Instance, Interrupt, NoAnswer, answered, arm, failure_of};
use crate::host::PluginHost;
use crate::returned::{Returned, lengths};
use crate::signature::Signature;
use crate::slots::Slot;
use crate::stage::Stopped;
use crate::worlds::Exports;

/// Values of one column take at most what its offsets reach.
pub(crate) const COLUMN_BYTES_MAX: usize = i32::MAX as usize;

/// What guests took for a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Time in guests, copies into and out of them included, in nanoseconds.
    pub nanos: u64,
    /// Calls.
    pub calls: u64,
}

/// Takes so many more bytes of a query's memory, which it gives back when it is dropped; or says why there are none left.
pub type Memory = Box<dyn Fn(usize) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Send + Sync>;

/// The calls of one query: their end and what they take. May be used by many threads at once.
pub struct Caller {
    host: Arc<PluginHost>,
    tenant: TenantId,
    pub(crate) interrupt: Arc<Interrupt>,
    memory: Option<Memory>,
    nanos: AtomicU64,
    calls: AtomicU64,
}

/// A right to keep accumulators for more rows; given back on drop.
pub struct Held(#[expect(dead_code, reason = "what counts is when it is dropped")] Slot);

impl Caller {
    /// For a query of the tenant of some functions. `until`: the end of the query's time, at which guests are stopped.
    pub fn new(functions: &Functions, until: Option<Instant>) -> Arc<Caller> {
        Caller::of(functions, until, None)
    }

    /// The same, where states and results of aggregates take memory of the query until this is dropped.
    pub fn with_memory(functions: &Functions, until: Option<Instant>, memory: Memory) -> Arc<Caller> {
        Caller::of(functions, until, Some(memory))
    }

    fn of(functions: &Functions, until: Option<Instant>, memory: Option<Memory>) -> Arc<Caller> {
        let interrupt = Interrupt { until, ..Interrupt::default() };
        Arc::new(Caller {
            host: functions.host.clone(),
            tenant: functions.tenant.clone(),
            interrupt: Arc::new(interrupt),
            memory,
            nanos: AtomicU64::new(0),
            calls: AtomicU64::new(0),
        })
    }

    /// Ends every call that runs and lets none begin: nobody waits for the answer any more.
    pub fn stop(&self) {
        self.interrupt.stopped.store(true, Ordering::Relaxed);
    }

    /// What guests took so far.
    pub fn spent(&self) -> Spent {
        Spent { nanos: self.nanos.load(Ordering::Relaxed), calls: self.calls.load(Ordering::Relaxed) }
    }

    /// A right to keep accumulators while other work is done, if the tenant has one left; with `wait` as soon as it has.
    /// Whoever waits must hold nothing that those need who have one.
    ///
    /// # Errors
    /// [`PluginError::Interrupted`] once the query is over.
    pub fn hold(&self, wait: bool) -> Result<Option<Held>, PluginError> {
        if !wait {
            return Ok(self.host.holding.take(&self.tenant).map(Held));
        }
        let slot = self.host.holding.wait(&self.tenant, &|| self.interrupt.is_over());
        slot.map(|slot| Some(Held(slot))).ok_or(PluginError::Interrupted)
    }

    /// The values of a function that is no aggregate, one for each row, of the type that its signature names; text may be a
    /// dictionary. Works for as long as guests do: call it where blocking is allowed.
    ///
    /// A function that does not handle missing values is not called for them, and one that is deterministic is called with
    /// the distinct values of a dictionary alone.
    ///
    /// # Errors
    /// [`PluginError::Call`] where the guest failed, [`PluginError::Interrupted`], [`PluginError::Busy`].
    pub fn eval(&self, function: &Function, rows: usize, args: &[Argument]) -> Result<ArrayRef, PluginError> {
        let signature = function.signature();
        check(signature, rows, args)?;
        let missing = || new_null_array(&signature.returns.data_type(), rows);
        if rows == 0 {
            return Ok(missing());
        }
        let Some(mask) = present(args, rows).filter(|_| !signature.handles_nulls) else {
            return self.by_value(function, rows, args);
        };
        let there = mask.count_set_bits();
        if there == 0 {
            return Ok(missing());
        }
        let of_rows = rows_of(&mask);
        let args = args.iter().map(|arg| arg.take(&of_rows)).collect::<Result<Vec<_>, _>>()?;
        let values = self.by_value(function, there, &args)?;
        let mut next = 0;
        let back: UInt32Array = mask
            .iter()
            .map(|there| {
                next += u32::from(there);
                there.then(|| next - 1)
            })
            .collect();
        take(&values, &back, None).map_err(host)
    }

    /// Distinct values only, where they tell all.
    fn by_value(&self, function: &Function, rows: usize, args: &[Argument]) -> Result<ArrayRef, PluginError> {
        let mut columns = args.iter().enumerate().filter_map(|(n, arg)| Some((n, arg.column()?)));
        let (Some((number, column)), None) = (columns.next(), columns.next()) else {
            return self.in_parts(function, rows, args);
        };
        let dictionary = column.as_dictionary_opt::<UInt32Type>().filter(|_| function.signature().deterministic);
        let Some(dictionary) = dictionary.filter(|d| d.logical_null_count() == 0) else {
            return self.in_parts(function, rows, args);
        };
        let (mut number_of, mut used) = (vec![u32::MAX; dictionary.values().len()], Vec::new());
        let keys = dictionary.keys().values().iter().map(|key| {
            let number = &mut number_of[*key as usize];
            if *number == u32::MAX {
                *number = used.len() as u32;
                used.push(*key);
            }
            *number
        });
        let keys = UInt32Array::from_iter_values(keys);
        let distinct = take(dictionary.values(), &UInt32Array::from(used), None).map_err(host)?;
        let (entries, mut by_value) = (distinct.len(), args.to_vec());
        by_value[number] = Argument::Column(distinct);
        let values = self.in_parts(function, entries, &by_value)?;
        let options = &self.host.options;
        let calls = calls(args, rows, options.call_values_max, options.call_bytes_max).len();
        check_written_out(&values, &keys, options.output_bytes_max, calls)
            .map_err(|failure| failed(&function.callable, function.signature(), failure.into()))?;
        if *values.data_type() == DataType::Utf8 {
            return Ok(Arc::new(DictionaryArray::try_new(keys, values).map_err(host)?));
        }
        take(&values, &keys, None).map_err(host)
    }

    fn in_parts(&self, function: &Function, rows: usize, args: &[Argument]) -> Result<ArrayRef, PluginError> {
        let options = &self.host.options;
        let parts = calls(args, rows, options.call_values_max, options.call_bytes_max);
        if parts.len() <= 1 {
            let whole = args.iter().map(|arg| arg.slice(0, rows)).collect::<Result<Vec<_>, _>>()?;
            return self.once(function, rows, &whole);
        }
        let (mut done, mut bytes) = (Vec::with_capacity(parts.len()), 0usize);
        let plain = function.signature().returns.data_type();
        for (from, len) in parts {
            let part = args.iter().map(|arg| arg.slice(from, len)).collect::<Result<Vec<_>, _>>()?;
            let part = cast(&self.once(function, len, &part)?, &plain).map_err(host)?;
            bytes = bytes.saturating_add(part.get_buffer_memory_size());
            if bytes > COLUMN_BYTES_MAX {
                let failure = Failure::Output { limit: COLUMN_BYTES_MAX };
                return Err(failed(&function.callable, function.signature(), failure.into()));
            }
            done.push(part);
        }
        let done: Vec<&dyn Array> = done.iter().map(AsRef::as_ref).collect();
        concat(&done).map_err(host)
    }

    /// One call.
    fn once(&self, function: &Function, rows: usize, args: &[Argument]) -> Result<ArrayRef, PluginError> {
        let (callable, signature) = (&function.callable, function.signature());
        let lowered = Lowered::of(signature, args);
        let values = self.timed(|| -> Result<_, Stopped> {
            let mut instance =
                callable.stage.interruptible(&self.host, &callable.plugin, Some(self.interrupt.clone()))?;
            let series = instance.eval(function.number, rows as u32, &lowered.args())?;
            let returned = Returned { validity: series.validity, keys: series.keys, values: series.values };
            let values = returned.check(rows, signature.returns.dtype(), self.host.options.output_bytes_max)?;
            // An instance that lied is not used again.
            callable.stage.give_back(&self.host, &callable.plugin, instance);
            Ok(values)
        })?;
        values.map_err(|stopped| failed(callable, signature, stopped))
    }

    /// Runs guests within the tenant's share, and counts their time.
    pub(crate) fn timed<T>(&self, work: impl FnOnce() -> T) -> Result<T, PluginError> {
        let slot = self.host.calling.wait(&self.tenant, &|| self.interrupt.is_over());
        let _slot = slot.ok_or(PluginError::Interrupted)?;
        if self.interrupt.is_over() {
            return Err(PluginError::Interrupted);
        }
        let began = Instant::now();
        let done = work();
        self.nanos.fetch_add(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(done)
    }

    /// Takes memory of the query for what a guest gave.
    pub(crate) fn keep(&self, bytes: usize) -> Result<(), PluginError> {
        self.memory.as_ref().map_or(Ok(()), |take| take(bytes).map_err(PluginError::NoMemory))
    }

    pub(crate) fn host(&self) -> &Arc<PluginHost> {
        &self.host
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("tenant", &self.tenant).field("spent", &self.spent()).finish_non_exhaustive()
    }
}

/// Checks what values of a guest take where each row has its own, before they are written out: no more than if it had been
/// called with all of the rows.
fn check_written_out(values: &ArrayRef, keys: &UInt32Array, bytes_max: usize, calls: usize) -> Result<(), Failure> {
    let Some(lengths) = lengths(values) else { return Ok(()) };
    let bytes = keys.values().iter().fold(0, |sum: usize, key| sum.saturating_add(lengths[*key as usize]));
    let limit = bytes_max.saturating_mul(calls).min(COLUMN_BYTES_MAX);
    if bytes > limit { Err(Failure::Output { limit }) } else { Ok(()) }
}

/// What a query is told of a call that gave nothing.
pub(crate) fn failed(callable: &Callable, signature: &Signature, stopped: Stopped) -> PluginError {
    match stopped {
        Stopped::Failure(Failure::Interrupted) => PluginError::Interrupted,
        Stopped::Failure(failure) => {
            let (function, plugin) = (signature.name.clone(), callable.plugin.metadata.name.clone());
            PluginError::Call { function, plugin, binding: callable.binding.clone(), failure }
        }
        Stopped::Full(full) => full.error(&callable.host.options),
        Stopped::Bug(what) => PluginError::Host(what),
    }
}

pub(crate) fn host(error: ArrowError) -> PluginError {
    PluginError::Host(error.to_string())
}

impl Instance {
    /// `scalar.signatures` or `aggregating.signatures`, not yet checked.
    pub(crate) fn signatures(&mut self) -> Result<Vec<functions::Signature>, NoAnswer> {
        arm(&mut self.store);
        let answer = match &self.exports {
            Exports::Scalar(e) => e.prism_plugin_scalar().call_signatures(&mut self.store),
            Exports::Aggregator(e) => e.prism_plugin_aggregating().call_signatures(&mut self.store),
            Exports::Filter(_) | Exports::Redactor(_) => return Ok(Vec::new()),
        };
        answer.map_err(|e| failure_of(&mut self.store, &e))
    }

    /// `scalar.eval`, not yet checked.
    fn eval(
        &mut self,
        function: u32,
        rows: u32,
        args: &[functions::Arg<'_>],
    ) -> Result<functions::SeriesResult, NoAnswer> {
        arm(&mut self.store);
        let Exports::Scalar(exports) = &self.exports else { return Err(crate::error::lied("no function").into()) };
        let answer = exports.prism_plugin_scalar().call_eval(&mut self.store, function, rows, args);
        answer.map_err(|e| failure_of(&mut self.store, &e))?.map_err(|e| answered(e, true).into())
    }
}

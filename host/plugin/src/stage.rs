//! One binding at work: its needs, its instances, what it remembers, and a batch taken through it call by call.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::UInt32Array;
use parking_lot::Mutex;
use prism_model::Batch;

use crate::apply::{Changes, apply};
use crate::bindings::batches;
use crate::chain::{ByLabel, Call};
use crate::change::Change;
use crate::edit::{self, Found};
use crate::entries::EntriesBuilder;
use crate::error::{Failure, PluginError, lied};
use crate::guest::{Birth, Bounds, Full, Instance, Interrupt, NoAnswer};
use crate::host::{Plugin, PluginHost};
use crate::metadata::{Access, Need, check_needs};
use crate::remember::{Remembered, Said};
use crate::rows;
use crate::source::{Entries, Source, Sources, Target, collect, prepare};
use crate::verdict;
use crate::view::{Map, View};
use crate::voice::{Speech, Voice};
use crate::worlds::World;

/// Bytes of a batch in one call that shows rows, as a multiple of `call_bytes_max`: not all of it is shown.
const ROWS_BYTES_FACTOR: usize = 4;

/// A binding with its configuration, ready to run.
pub(crate) struct Stage {
    number: u64,
    config: String,
    needs: Vec<Need>,
    bounds: Bounds,
    voice: Arc<Voice>,
    kept: Arc<Mutex<Vec<u8>>>,
    remembered: Option<Mutex<Remembered>>,
}

/// What came out of a stage.
pub(crate) struct Ran {
    pub(crate) batch: Batch,
    pub(crate) dropped: ByLabel<Option<u8>>,
    pub(crate) redacted: ByLabel<u8>,
    pub(crate) counted: Vec<u64>,
    pub(crate) guest_nanos: u64,
    pub(crate) guest_calls: u64,
    pub(crate) cache_hits: u64,
    pub(crate) cache_misses: u64,
}

/// Why nothing came out.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The guest's fault.
    Failure(Failure),
    /// No instance or no memory is free.
    Full(Full),
    /// The host's fault.
    Bug(String),
}

impl From<NoAnswer> for Stopped {
    fn from(no_answer: NoAnswer) -> Stopped {
        match no_answer {
            NoAnswer::Failure(failure) => Stopped::Failure(failure),
            NoAnswer::Full(full) => Stopped::Full(full),
        }
    }
}

impl Stage {
    /// Starts the plugin once with this configuration, to learn what it needs.
    pub(crate) fn try_new(
        host: &PluginHost,
        name: &str,
        plugin: &Plugin,
        config: &str,
        bounds: Bounds,
        speech: Speech,
    ) -> Result<Stage, PluginError> {
        let by_value = plugin.world == World::Redactor && plugin.metadata.access == Access::Entries;
        let remembers = by_value && plugin.metadata.deterministic;
        let mut stage = Stage {
            number: host.stage_number(),
            config: config.to_owned(),
            needs: Vec::new(),
            bounds,
            voice: Arc::new(Voice::new(name, speech)),
            kept: Arc::default(),
            remembered: remembers.then(|| Mutex::new(Remembered::new(host.options.verdict_bytes_max))),
        };
        let started = stage.fresh(host, plugin).and_then(|mut instance| {
            let needs = instance.init(&stage.config)?;
            check_needs(&needs)?;
            if plugin.world.is_called() && !needs.is_empty() {
                return Err(lied("a function gets what queries hand it: expected no needs").into());
            }
            Ok((instance, needs))
        });
        match started {
            Ok((instance, needs)) => {
                stage.needs = needs;
                stage.give_back(host, plugin, instance);
                Ok(stage)
            }
            Err(Stopped::Failure(failure)) => Err(PluginError::BadBinding {
                binding: name.to_owned(),
                reason: format!("the plugin does not start with this configuration: {failure}"),
            }),
            Err(Stopped::Full(full)) => Err(full.error(&host.options)),
            Err(Stopped::Bug(what)) => Err(PluginError::Host(what)),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// A fresh instance, before its init.
    fn fresh(&self, host: &PluginHost, plugin: &Plugin) -> Result<Instance, Stopped> {
        let birth = || Birth {
            pre: &plugin.pre,
            bounds: self.bounds,
            budget: host.budget.clone(),
            counters: plugin.metadata.counters.len(),
            voice: self.voice.clone(),
            kept: self.kept.clone(),
        };
        match Instance::new(birth()) {
            Err(NoAnswer::Full(_)) => {
                host.end_idle(None);
                Ok(Instance::new(birth())?)
            }
            instance => Ok(instance?),
        }
    }

    /// The same, which also ends its calls when something else does.
    pub(crate) fn interruptible(
        &self,
        host: &PluginHost,
        plugin: &Plugin,
        interrupt: Option<Arc<Interrupt>>,
    ) -> Result<Instance, Stopped> {
        let mut instance = self.instance(host, plugin)?;
        instance.interrupted_by(interrupt);
        Ok(instance)
    }

    /// An instance to call: one that was used before, only if the plugin is deterministic, or a fresh one.
    fn instance(&self, host: &PluginHost, plugin: &Plugin) -> Result<Instance, Stopped> {
        if plugin.metadata.deterministic
            && let Some(instance) = host.take_idle(self.number)
        {
            return Ok(instance);
        }
        let mut instance = self.fresh(host, plugin)?;
        if instance.init(&self.config)? != self.needs {
            return Err(lied("`init` asks for other needs than before").into());
        }
        Ok(instance)
    }

    pub(crate) fn give_back(&self, host: &PluginHost, plugin: &Plugin, instance: Instance) {
        if plugin.metadata.deterministic {
            host.put_idle(self.number, instance);
        }
    }

    /// Takes a batch through the plugin.
    pub(crate) fn try_run(
        &self,
        host: &PluginHost,
        plugin: &Plugin,
        batch: Batch,
        call: &Call,
    ) -> Result<Ran, Stopped> {
        let mut run = Run {
            stage: self,
            host,
            plugin,
            call,
            out_bytes: 0,
            out_bytes_max: self.bounds.output_bytes.saturating_add(batch.memory_bytes().saturating_mul(2)),
            ran: Ran {
                batch,
                dropped: ByLabel::new(),
                redacted: ByLabel::new(),
                counted: vec![0; plugin.metadata.counters.len()],
                guest_nanos: 0,
                guest_calls: 0,
                cache_hits: 0,
                cache_misses: 0,
            },
        };
        match (plugin.world, plugin.metadata.access) {
            (World::Redactor, Access::Entries) => run.redact_entries()?,
            (World::Redactor, Access::Rows) => run.by_parts(Run::redact_rows)?,
            (World::Filter, _) => run.by_parts(Run::filter)?,
            (World::ScalarFunction | World::Aggregator, _) => {
                return Err(Stopped::Bug("a function among the plugins of ingest".into()));
            }
        }
        Ok(run.ran)
    }
}

/// A batch on its way through one stage.
struct Run<'a> {
    stage: &'a Stage,
    host: &'a PluginHost,
    plugin: &'a Plugin,
    call: &'a Call,
    /// Bytes of new values so far: many calls must not make of a batch what one may not.
    out_bytes: usize,
    out_bytes_max: usize,
    ran: Ran,
}

impl Run<'_> {
    /// Runs `one` on the batch, or on parts of it where it is too large for one call.
    fn by_parts(&mut self, one: impl Fn(&mut Self, Batch) -> Result<Batch, Stopped>) -> Result<(), Stopped> {
        let rows = self.ran.batch.rows();
        let bytes_max = self.host.options.call_bytes_max.saturating_mul(ROWS_BYTES_FACTOR);
        let parts = rows
            .div_ceil(self.host.options.call_values_max)
            .max(self.ran.batch.memory_bytes() / bytes_max)
            .clamp(1, rows.max(1));
        if parts == 1 {
            let batch = one(self, self.ran.batch.clone())?;
            self.ran.batch = batch;
            return Ok(());
        }
        let mut done = Vec::with_capacity(parts);
        let part_rows = rows.div_ceil(parts);
        for first in (0..rows).step_by(part_rows) {
            let part = UInt32Array::from_iter_values(first as u32..(first + part_rows).min(rows) as u32);
            let part = self.ran.batch.select(&part).map_err(|e| Stopped::Bug(e.to_string()))?;
            done.push(one(self, part)?);
        }
        // Parts of one request have one origin each: joined, they are one again.
        let mut origins = self.ran.batch.origins.clone();
        let mut joined = Batch::concat(&done).map_err(|e| Stopped::Bug(e.to_string()))?;
        for origin in &mut origins {
            let same = joined.origins.iter().filter(|o| o.batch_id == origin.batch_id);
            let runs: Vec<(u32, u32)> = same.map(|o| (o.first_row, o.rows)).collect();
            origin.first_row = runs.first().map_or(0, |r| r.0);
            origin.rows = runs.iter().map(|r| r.1).sum();
        }
        origins.retain(|o| o.rows > 0);
        joined.origins = origins;
        self.ran.batch = joined;
        Ok(())
    }

    fn filter(&mut self, batch: Batch) -> Result<Batch, Stopped> {
        if batch.rows() == 0 {
            return Ok(batch);
        }
        let needs = &self.stage.needs;
        let shown = prepare(batch.clone(), true).map_err(Stopped::Bug)?;
        let sources = collect(&shown, needs).map_err(Stopped::Bug)?;
        let view = rows::view(&shown, needs, &sources, None).map_err(Stopped::Bug)?;
        let (labels, bytes_max) = (self.plugin.metadata.labels.len(), self.stage.bounds.output_bytes);
        let checked = self.ask(
            &view,
            |instance, batch, call| instance.apply(batch, call),
            |verdict| verdict::check(verdict, batch.rows(), labels, bytes_max),
        )?;
        self.put_out(checked.bytes)?;
        for (label, count) in &checked.dropped {
            *self.ran.dropped.entry(*label).or_default() += count;
        }
        checked.carry_out(batch).map_err(Stopped::Bug)
    }

    fn redact_rows(&mut self, batch: Batch) -> Result<Batch, Stopped> {
        let batch = prepare(batch, true).map_err(Stopped::Bug)?;
        let sources = collect(&batch, &self.stage.needs).map_err(Stopped::Bug)?;
        if sources.list.is_empty() {
            return Ok(batch);
        }
        let mut keys = EntriesBuilder::new(usize::MAX, usize::MAX);
        for (number, source) in sources.list.iter().enumerate() {
            if matches!(source.target, Target::Keys { .. } | Target::TailKeys { .. } | Target::MapKeys(_)) {
                keys.append(number as u32, source, 0);
            }
        }
        let view = rows::view(&batch, &self.stage.needs, &sources, Some(keys)).map_err(Stopped::Bug)?;
        let mut changes = Changes::default();
        for found in self.redact(&view, &sources)? {
            changes.insert(found.source, found.entry, found.change);
        }
        apply(batch, &sources, changes).map_err(Stopped::Bug)
    }

    fn redact_entries(&mut self) -> Result<(), Stopped> {
        let batch = prepare(self.ran.batch.clone(), false).map_err(Stopped::Bug)?;
        let sources = collect(&batch, &self.stage.needs).map_err(Stopped::Bug)?;
        let mut changes = Changes::default();
        let unknown = self.recall(&sources, &mut changes);
        let mut call = self.builder();
        for (number, source) in sources.list.iter().enumerate() {
            let number = number as u32;
            match (&unknown[number as usize], &source.entries) {
                (Some(entries), Entries::Text(texts)) => {
                    for &entry in entries {
                        let text = texts.value(entry as usize);
                        if !call.append_text(number, source, entry as usize, text) {
                            self.flush(std::mem::replace(&mut call, self.builder()), &sources, &mut changes)?;
                            call.append_text(number, source, entry as usize, text);
                        }
                    }
                }
                _ => {
                    let mut from = 0;
                    while from < source.entries.len() {
                        from = call.append(number, source, from);
                        if from < source.entries.len() {
                            self.flush(std::mem::replace(&mut call, self.builder()), &sources, &mut changes)?;
                        }
                    }
                }
            }
        }
        self.flush(call, &sources, &mut changes)?;
        self.ran.batch = apply(batch, &sources, changes).map_err(Stopped::Bug)?;
        Ok(())
    }

    fn builder(&self) -> EntriesBuilder {
        EntriesBuilder::new(self.host.options.call_values_max, self.host.options.call_bytes_max)
    }

    /// Carries out what is remembered, and returns for each source that repeats the entries that are not.
    fn recall(&mut self, sources: &Sources, changes: &mut Changes) -> Vec<Option<Vec<u32>>> {
        let Some(remembered) = &self.stage.remembered else { return sources.list.iter().map(|_| None).collect() };
        let mut remembered = remembered.lock();
        let mut unknown = Vec::with_capacity(sources.list.len());
        for (number, source) in sources.list.iter().enumerate() {
            let (true, Entries::Text(texts)) = (source.repeats, &source.entries) else {
                unknown.push(None);
                continue;
            };
            let mut missing = Vec::new();
            for (entry, text) in texts.iter().enumerate().filter_map(|(i, t)| Some((i as u32, t?))) {
                let (label, change) = match remembered.get(source.need, text) {
                    None => {
                        missing.push(entry);
                        continue;
                    }
                    Some(Said::Keep) => {
                        self.ran.cache_hits += 1;
                        continue;
                    }
                    Some(Said::Clear(label)) => (*label, Change::Clear),
                    Some(Said::Replace(label, new)) => (*label, Change::Text(new.to_string())),
                };
                self.ran.cache_hits += 1;
                *self.ran.redacted.entry(label).or_default() += 1;
                changes.insert(number as u32, entry, change);
            }
            self.ran.cache_misses += missing.len() as u64;
            unknown.push(Some(missing));
        }
        unknown
    }

    /// One call, and its changes.
    fn flush(&mut self, call: EntriesBuilder, sources: &Sources, changes: &mut Changes) -> Result<(), Stopped> {
        if call.is_empty() {
            return Ok(());
        }
        let view = call.finish(&self.stage.needs);
        let found = self.redact(&view, sources)?;
        if let Some(remembered) = &self.stage.remembered {
            remember(&mut remembered.lock(), &view, sources, &found);
        }
        for found in found {
            changes.insert(found.source, found.entry, found.change);
        }
        Ok(())
    }

    /// One call of a redactor, checked and counted.
    fn redact(&mut self, view: &View, sources: &Sources) -> Result<Vec<Found>, Stopped> {
        let labels = self.plugin.metadata.labels.len();
        let found = self.ask(
            view,
            |instance, batch, call| instance.redact(batch, call),
            |edits| edit::check(edits, view, sources, labels),
        )?;
        let mut bytes = 0;
        for found in &found {
            bytes += match &found.change {
                Change::Text(new) => new.len(),
                Change::Bytes(new) => new.len(),
                Change::Clear | Change::Int(_) | Change::Double(_) => 0,
            };
            *self.ran.redacted.entry(found.label).or_default() += 1;
        }
        self.put_out(bytes)?;
        Ok(found)
    }

    /// Counts bytes of new values.
    fn put_out(&mut self, bytes: usize) -> Result<(), Failure> {
        self.out_bytes = self.out_bytes.saturating_add(bytes);
        let limit = self.out_bytes_max;
        if self.out_bytes > limit { Err(Failure::Output { limit }) } else { Ok(()) }
    }

    /// One call, whose answer is checked while its instance may still be thrown away.
    fn ask<T, C>(
        &mut self,
        view: &View,
        function: impl FnOnce(&mut Instance, batches::Batch<'_>, batches::Call<'_>) -> Result<T, NoAnswer>,
        check: impl FnOnce(T) -> Result<C, Failure>,
    ) -> Result<C, Stopped> {
        let started = Instant::now();
        let mut instance = self.stage.instance(self.host, self.plugin)?;
        let call = batches::Call {
            now_unix_nanos: self.call.now_unix_nanos,
            seed: self.call.seed,
            batch_id: &self.call.batch_id,
            shadow: false,
        };
        let answer = view.with(self.ran.batch.signal, |batch| function(&mut instance, batch, call));
        for (sum, by) in self.ran.counted.iter_mut().zip(instance.take_counters()) {
            *sum = sum.saturating_add(by);
        }
        self.ran.guest_calls += 1;
        // After any error, and after a lie, the instance is dropped with whatever it holds.
        let answer = answer?;
        self.ran.guest_nanos += started.elapsed().as_nanos() as u64;
        let checked = check(answer)?;
        self.stage.give_back(self.host, self.plugin, instance);
        Ok(checked)
    }
}

/// Remembers what was said about the entries of sources that repeat: they are the ones that came one by one.
fn remember(remembered: &mut Remembered, view: &View, sources: &Sources, found: &[Found]) {
    let said: std::collections::HashMap<(u32, u32), &Found> = found.iter().map(|f| ((f.source, f.entry), f)).collect();
    for segment in view.tables.iter().flat_map(|t| &t.columns).flat_map(|c| &c.back) {
        let Map::List(entries) = &segment.map else { continue };
        let Some(Source { need, entries: Entries::Text(texts), repeats: true, .. }) =
            sources.list.get(segment.source as usize)
        else {
            continue;
        };
        for &entry in entries {
            let said = match said.get(&(segment.source, entry)) {
                None => Said::Keep,
                Some(Found { label, change: Change::Text(new), .. }) => Said::Replace(*label, new.as_str().into()),
                Some(Found { label, .. }) => Said::Clear(*label),
            };
            remembered.put(*need, texts.value(entry as usize), said);
        }
    }
}

//! The worlds of the contract that run here: which a component is for, and what each exports.

use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Store};

use crate::bindings::{aggregator, base, filter, redactor, scalar};
use crate::guest::State;
use crate::metadata::{Metadata, Need};

/// Which world a component is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// Drops rows and adds columns.
    Filter,
    /// Edits values and keys.
    Redactor,
    /// Functions over the rows of queries.
    ScalarFunction,
    /// Aggregates over the groups of queries.
    Aggregator,
}

impl World {
    /// Every world that runs.
    pub const ALL: [World; 4] = [World::Filter, World::Redactor, World::ScalarFunction, World::Aggregator];

    /// The name in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            World::Filter => "filter",
            World::Redactor => "redactor",
            World::ScalarFunction => "scalar-function",
            World::Aggregator => "aggregator",
        }
    }

    /// The interface of the contract that only this world exports.
    pub(crate) fn interface(self) -> &'static str {
        match self {
            World::Filter => "prism:plugin/filtering@0.1.0",
            World::Redactor => "prism:plugin/redacting@0.1.0",
            World::ScalarFunction => "prism:plugin/scalar@0.1.0",
            World::Aggregator => "prism:plugin/aggregating@0.1.0",
        }
    }

    /// Whether queries call it by name; the others see what is ingested.
    pub fn is_called(self) -> bool {
        matches!(self, World::ScalarFunction | World::Aggregator)
    }
}

/// A component whose imports are resolved.
#[derive(Clone)]
pub(crate) enum Pre {
    Filter(filter::FilterPre<State>),
    Redactor(redactor::RedactorPre<State>),
    Scalar(scalar::ScalarFunctionPre<State>),
    Aggregator(aggregator::AggregatorPre<State>),
}

impl Pre {
    /// Resolves the imports of a component of this world.
    pub(crate) fn new(engine: &Engine, component: &Component, world: World) -> wasmtime::Result<Pre> {
        let mut linker = Linker::<State>::new(engine);
        Ok(match world {
            World::Filter => {
                filter::Filter::add_to_linker::<_, HasSelf<State>>(&mut linker, |s| s)?;
                Pre::Filter(filter::FilterPre::new(linker.instantiate_pre(component)?)?)
            }
            World::Redactor => {
                redactor::Redactor::add_to_linker::<_, HasSelf<State>>(&mut linker, |s| s)?;
                Pre::Redactor(redactor::RedactorPre::new(linker.instantiate_pre(component)?)?)
            }
            World::ScalarFunction => {
                scalar::ScalarFunction::add_to_linker::<_, HasSelf<State>>(&mut linker, |s| s)?;
                Pre::Scalar(scalar::ScalarFunctionPre::new(linker.instantiate_pre(component)?)?)
            }
            World::Aggregator => {
                aggregator::Aggregator::add_to_linker::<_, HasSelf<State>>(&mut linker, |s| s)?;
                Pre::Aggregator(aggregator::AggregatorPre::new(linker.instantiate_pre(component)?)?)
            }
        })
    }

    pub(crate) fn engine(&self) -> &Engine {
        match self {
            Pre::Filter(pre) => pre.engine(),
            Pre::Redactor(pre) => pre.engine(),
            Pre::Scalar(pre) => pre.engine(),
            Pre::Aggregator(pre) => pre.engine(),
        }
    }

    pub(crate) fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Exports> {
        Ok(match self {
            Pre::Filter(pre) => Exports::Filter(pre.instantiate(store)?),
            Pre::Redactor(pre) => Exports::Redactor(pre.instantiate(store)?),
            Pre::Scalar(pre) => Exports::Scalar(pre.instantiate(store)?),
            Pre::Aggregator(pre) => Exports::Aggregator(pre.instantiate(store)?),
        })
    }
}

/// What an instance offers.
pub(crate) enum Exports {
    Filter(filter::Filter),
    Redactor(redactor::Redactor),
    Scalar(scalar::ScalarFunction),
    Aggregator(aggregator::Aggregator),
}

/// What `init` answers: needs, or the guest's own error.
type Started = Result<Vec<Need>, base::Error>;

impl Exports {
    pub(crate) fn describe(&self, store: &mut Store<State>) -> wasmtime::Result<Metadata> {
        match self {
            Exports::Filter(e) => e.prism_plugin_meta().call_describe(store).map(Metadata::from),
            Exports::Redactor(e) => e.prism_plugin_meta().call_describe(store).map(Metadata::from),
            Exports::Scalar(e) => e.prism_plugin_meta().call_describe(store).map(Metadata::from),
            Exports::Aggregator(e) => e.prism_plugin_meta().call_describe(store).map(Metadata::from),
        }
    }

    pub(crate) fn init(&self, store: &mut Store<State>, config: &str) -> wasmtime::Result<Started> {
        fn needs<N>(started: Result<Vec<N>, base::Error>) -> Started
        where
            Need: From<N>,
        {
            started.map(|needs| needs.into_iter().map(Need::from).collect())
        }
        match self {
            Exports::Filter(e) => e.prism_plugin_meta().call_init(store, config).map(needs),
            Exports::Redactor(e) => e.prism_plugin_meta().call_init(store, config).map(needs),
            Exports::Scalar(e) => e.prism_plugin_meta().call_init(store, config).map(needs),
            Exports::Aggregator(e) => e.prism_plugin_meta().call_init(store, config).map(needs),
        }
    }
}

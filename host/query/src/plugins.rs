//! The plugins that one query may call: the tenant's functions by name, and the calls with their end and what they take.
//!
//! Not here: how a call is bound (`bind/plugin`), evaluated (`eval/plugin`) and aggregated (`group/guest`); what a guest may do
//! (`prism-plugin`).

use std::sync::Arc;
use std::time::Instant;

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use prism_dsl::{Expr, PluginCall, Pos, Query};
use prism_plugin::{Caller, Function, Functions, NotFound, Spent};

use crate::engine::engine_error;
use crate::error::{QueryError, code};
use crate::names::nearest;

/// The functions that a query may call, and its calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plugins(Option<(Arc<Functions>, Arc<Caller>)>);

/// A function as a query calls it.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    pub(crate) function: Function,
    pub(crate) caller: Arc<Caller>,
    /// Where the call stands in the query.
    pub(crate) pos: Pos,
}

impl Plugins {
    /// Those of a tenant, for one query that ends at a time and has this memory.
    pub(crate) fn of(
        functions: Option<Arc<Functions>>,
        until: Option<Instant>,
        memory: &Arc<dyn MemoryPool>,
    ) -> Plugins {
        Plugins(functions.map(|functions| {
            let given = MemoryConsumer::new("groups of plugins").register(memory);
            let take = move |bytes| given.try_grow(bytes).map_err(|error| engine_error(error).into());
            let caller = Caller::with_memory(&functions, until, Box::new(take));
            (functions, caller)
        }))
    }

    /// What a call means.
    ///
    /// # Errors
    /// `Fix`: the tenant has no such function, or several.
    pub(crate) fn find(&self, call: &PluginCall) -> Result<Arc<Called>, QueryError> {
        let found = match &self.0 {
            Some((functions, _)) => functions.find(&call.name),
            None => Err(NotFound::Unknown { known: Vec::new() }),
        };
        match (found, &self.0) {
            (Ok(function), Some((_, caller))) => {
                Ok(Arc::new(Called { function, caller: caller.clone(), pos: call.pos }))
            }
            (Ok(_), None) => Err(QueryError::Engine("a function of no plugin".into())),
            (Err(not_found), _) => Err(refusal(call, not_found)),
        }
    }

    /// Whether a call aggregates; what is no function is found out where it is bound.
    pub(crate) fn aggregates(&self, call: &PluginCall) -> bool {
        self.0.as_ref().is_some_and(|(functions, _)| functions.find(&call.name).is_ok_and(|f| f.aggregates()))
    }

    /// What guests took so far.
    pub(crate) fn spent(&self) -> Spent {
        self.0.as_ref().map(|(_, caller)| caller.spent()).unwrap_or_default()
    }

    /// Ends the guests that still work when this is dropped.
    pub(crate) fn until_dropped(&self) -> StopOnDrop {
        StopOnDrop(self.0.as_ref().map(|(_, caller)| caller.clone()))
    }
}

/// Whoever drops it needs no more of the query's calls.
pub(crate) struct StopOnDrop(Option<Arc<Caller>>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.iter().for_each(|caller| caller.stop());
    }
}

/// How many characters a call's name takes in the query.
pub(crate) fn width(call: &PluginCall) -> usize {
    call.name.chars().count() + "plugin.".len()
}

fn refusal(call: &PluginCall, not_found: NotFound) -> QueryError {
    let error = |message: String| QueryError::at(code::UNKNOWN_PLUGIN, call.pos, width(call), message);
    let name = &call.name;
    match not_found {
        NotFound::Unknown { known } => {
            let error = error(format!("the tenant has no function `plugin.{name}`"));
            let bind = "`prism plugin bind --tenant NAME PLUGIN` makes the functions of a plugin known, `prism plugin list` \
                        shows those that come with Prism";
            match nearest(&name.to_lowercase(), known.iter().map(String::as_str)) {
                Some(near) => error.with_hint(format!("did you mean `plugin.{near}`?")),
                None if known.is_empty() => error.with_hint(bind),
                None => {
                    let known: Vec<String> = known.iter().map(|known| format!("`plugin.{known}`")).collect();
                    error.with_hint(format!("there are {}; {bind}", known.join(", ")))
                }
            }
        }
        NotFound::Ambiguous { names } => {
            let names: Vec<String> = names.iter().map(|name| format!("`plugin.{name}`")).collect();
            error(format!("several bindings have a function `{name}`"))
                .with_hint(format!("write {}", names.join(" or ")))
        }
        NotFound::Broken { binding, reason } => {
            error(format!("`plugin.{name}` cannot be called: the binding `{binding}` does not start")).with_hint(reason)
        }
    }
}

/// Whether a query calls plugins: others are answered without the tenant's [`Functions`].
pub fn calls_plugins(query: &Query) -> bool {
    let matches = query.matches.iter().flat_map(|m| m.bindings.iter().map(|bind| &bind.expr).chain(&m.where_));
    let exprs = matches
        .chain(&query.where_)
        .chain(query.lets.iter().map(|definition| &definition.expr))
        .chain(query.by.iter().map(|by| &by.expr))
        .chain(query.select.iter().map(|select| &select.expr))
        .chain(&query.having)
        .chain(query.order.iter().map(|order| &order.expr))
        .chain(query.joins.iter().map(|join| &join.where_));
    let mut found = false;
    exprs.for_each(|expr| expr.walk(&mut |part| found |= matches!(part, Expr::Plugin(_))));
    found
}

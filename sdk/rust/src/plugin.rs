//! What every plugin says about itself, whatever its world, and its life between calls.

use std::cell::RefCell;

use serde::de::DeserializeOwned;

use crate::bindings::exports::prism::plugin::meta::{Access, Metadata, Need};
use crate::{Dtype, Error, Place, Role};

/// What every plugin has: a description, a configuration, and needs that follow from it.
///
/// The host calls [`Plugin::describe`] once at upload. For each binding it checks the configuration against the schema, then
/// makes the plugin by [`Plugin::new`] and asks [`Plugin::needs`]; then come batches. One value serves many batches of its
/// binding if the plugin is deterministic, else (and after any error) one each.
pub trait Plugin: Sized + 'static {
    /// The configuration as the tenant writes it, in JSON.
    type Config: DeserializeOwned;

    /// Name, schema of the configuration, labels; the same whenever it is asked.
    fn describe() -> Description;

    /// The plugin for one binding.
    ///
    /// # Errors
    /// [`Error::BadConfig`] where the configuration fits the schema and makes no sense all the same. The text is shown to
    /// the tenant.
    fn new(config: Self::Config) -> Result<Self, Error>;

    /// What the plugin wants to see; at most 64. A field that nobody asks for is not handed over.
    fn needs(&self) -> Vec<Need>;
}

/// Builds what the host wants to know at upload.
#[derive(Debug)]
pub struct Description(Metadata);

impl Description {
    /// A plugin that takes no configuration, sees rows, and is not deterministic.
    ///
    /// `name` is of `a-z 0-9 -`, at most 63 characters; `description` one sentence for those who choose a plugin.
    pub fn new(name: &str, version: &str, description: &str) -> Description {
        Description(Metadata {
            name: name.to_owned(),
            version: version.to_owned(),
            description: description.to_owned(),
            config_schema: r#"{"type":"object","additionalProperties":false}"#.to_owned(),
            config_example: "{}".to_owned(),
            access: Access::Rows,
            deterministic: false,
            labels: Vec::new(),
            counters: Vec::new(),
        })
    }

    /// The JSON Schema (draft 2020-12) of the configuration, and a configuration that fits it.
    pub fn config(mut self, schema: &str, example: &str) -> Description {
        self.0.config_schema = schema.to_owned();
        self.0.config_example = example.to_owned();
        self
    }

    /// Why rows are dropped or values changed: a closed set of at most 64, named in results by position.
    pub fn labels(mut self, labels: &[&str]) -> Description {
        self.0.labels = labels.iter().map(|&l| l.to_owned()).collect();
        self
    }

    /// What [`crate::count`] counts: a closed set of at most 64, named by position.
    pub fn counters(mut self, counters: &[&str]) -> Description {
        self.0.counters = counters.iter().map(|&c| c.to_owned()).collect();
        self
    }

    /// Distinct values are enough: for redactors that look at one value at a time. The host may remember the verdict on
    /// each value, so that later batches cost only their new values.
    pub fn entries(mut self) -> Description {
        self.0.access = Access::Entries;
        self
    }

    /// The same input gives the same output, whatever was called before and whatever the [`crate::Call`] says. Instances
    /// are reused, verdicts may be remembered.
    pub fn deterministic(mut self) -> Description {
        self.0.deterministic = true;
        self
    }

    /// What goes to the host.
    #[doc(hidden)]
    pub fn into_metadata(self) -> Metadata {
        self.0
    }

    /// What goes to the host; for tests.
    pub fn metadata(&self) -> &Metadata {
        &self.0
    }
}

impl Need {
    /// Attributes by name or glob (`*` stands for any run of characters), at every place, of every type, also those without
    /// a column of their own and what is inside of arrays and maps.
    pub fn attribute(name: &str) -> Need {
        Need { place: None, role: Role::Attribute, name: name.to_owned(), dtypes: Vec::new(), leaves: true }
    }

    /// A fixed field such as `name` or `body`, or a glob, at every place.
    pub fn intrinsic(name: &str) -> Need {
        Need { role: Role::Intrinsic, ..Need::attribute(name) }
    }

    /// The keys of attributes, by name or glob, at every place, also those of nested maps.
    pub fn keys(name: &str) -> Need {
        Need { role: Role::AttributeKey, ..Need::attribute(name) }
    }

    /// Only at this place.
    pub fn at(mut self, place: Place) -> Need {
        self.place = Some(place);
        self
    }

    /// Only of these types.
    pub fn of(mut self, dtypes: &[Dtype]) -> Need {
        self.dtypes = dtypes.to_vec();
        self
    }

    /// Only values that have a column of their own.
    pub fn without_leaves(mut self) -> Need {
        self.leaves = false;
        self
    }
}

/// Where the plugin lives between calls; the `export_*` macros make one.
#[doc(hidden)]
pub type Slot<P> = RefCell<Option<P>>;

#[doc(hidden)]
pub fn describe<P: Plugin>() -> Metadata {
    P::describe().0
}

#[doc(hidden)]
pub fn init<P: Plugin>(slot: &Slot<P>, config: &str) -> Result<Vec<Need>, Error> {
    let config = serde_json::from_str(config).map_err(|e| Error::BadConfig(e.to_string()))?;
    let plugin = P::new(config)?;
    let needs = plugin.needs();
    *slot.borrow_mut() = Some(plugin);
    Ok(needs)
}

/// Starts a plugin that asks for nothing.
#[doc(hidden)]
pub fn start<P, C: DeserializeOwned>(
    slot: &Slot<P>,
    config: &str,
    new: impl FnOnce(C) -> Result<P, Error>,
) -> Result<Vec<Need>, Error> {
    let config = serde_json::from_str(config).map_err(|e| Error::BadConfig(e.to_string()))?;
    *slot.borrow_mut() = Some(new(config)?);
    Ok(Vec::new())
}

#[doc(hidden)]
pub fn with<P, T>(slot: &Slot<P>, work: impl FnOnce(&mut P) -> Result<T, Error>) -> Result<T, Error> {
    match slot.borrow_mut().as_mut() {
        Some(plugin) => work(plugin),
        None => Err(Error::Internal("called before init".to_owned())),
    }
}

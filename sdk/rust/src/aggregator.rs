//! Plugins that aggregate the rows of queries: `plugin.apdex(duration, 300ms)`.

use std::cell::RefCell;
use std::ops::Deref;

use serde::de::DeserializeOwned;

use crate::bindings::functions::{Arg, Constant, Series, Signature};
use crate::column::bit;
use crate::function::Args;
use crate::{BytesCol, Description, Error};

/// Aggregates over the groups of queries.
///
/// The host calls [`Aggregator::describe`] and [`Aggregator::signatures`] at upload, and makes the plugin for each binding by
/// [`Aggregator::new`]. Where a query calls an aggregate, [`Aggregator::call`] settles what is fixed in it; then the rows are
/// spread over many accumulators, on threads and nodes. Each has one [`Aggregator::Group`] for each group that it has seen:
/// rows come by [`Aggregator::update`], the states of others by [`Aggregator::merge`], in any order. The result must be the
/// same however the rows were spread.
///
/// A whole plugin, which queries call as `plugin.spread(duration)`:
/// ```
/// use prism_sdk::prelude::*;
///
/// /// The distance from the least to the greatest value.
/// struct Spread;
///
/// impl Aggregator for Spread {
///     type Config = serde::de::IgnoredAny;
///     type Call = ();
///     type Group = Option<(f64, f64)>;
///
///     fn describe() -> Description {
///         Description::new("spread", "1.0.0", "from the least to the greatest value").deterministic()
///     }
///
///     fn new(_: Self::Config) -> Result<Self, Error> {
///         Ok(Spread)
///     }
///
///     fn signatures() -> Vec<Signature> {
///         vec![Signature::new("spread", &[Dtype::Float64], Dtype::Float64).deterministic()]
///     }
///
///     fn call(&self, _function: usize, _constants: &[Constant]) -> Result<(), Error> {
///         Ok(())
///     }
///
///     fn update(_: &(), groups: &mut [Self::Group], rows: &Rows<'_>) -> Result<(), Error> {
///         let values = rows.numbers(0)?;
///         rows.each(|group, row| {
///             // The signature does not ask for missing values, so there are none.
///             let value = values.get(row).unwrap_or_default();
///             let (least, greatest) = groups[group].get_or_insert((value, value));
///             (*least, *greatest) = (least.min(value), greatest.max(value));
///         });
///         Ok(())
///     }
///
///     fn merge(_: &(), group: &mut Self::Group, state: &[u8]) -> Result<(), Error> {
///         let (ends, _) = state.as_chunks::<8>();
///         if let [least, greatest] = ends.iter().map(|end| f64::from_le_bytes(*end)).collect::<Vec<_>>()[..] {
///             let (low, high) = group.get_or_insert((least, greatest));
///             (*low, *high) = (low.min(least), high.max(greatest));
///         }
///         Ok(())
///     }
///
///     fn state(_: &(), group: &Self::Group, out: &mut Vec<u8>) {
///         // A group without rows has an empty state.
///         for (least, greatest) in group {
///             out.extend(least.to_le_bytes());
///             out.extend(greatest.to_le_bytes());
///         }
///     }
///
///     fn finish(_: &(), groups: &[Self::Group]) -> Result<Series, Error> {
///         Ok(Series::numbers(groups.iter().map(|group| group.map(|(least, greatest)| greatest - least))))
///     }
/// }
///
/// prism_sdk::export_aggregator!(Spread);
/// # use prism_sdk::Arg;
/// # let values = Values::F64s(vec![3.0, 5.0, 1.0, 9.0]);
/// # let args = [Arg::Series(Series { validity: None, keys: None, values })];
/// # let rows = Rows::new(Args::new(4, &args), &[0, 1, 0, 1], Some(&[0b0111]));
/// # let mut groups = [None; 3];
/// # Spread::update(&(), &mut groups, &rows).unwrap();
/// # let mut state = Vec::new();
/// # Spread::state(&(), &groups[0], &mut state);
/// # Spread::merge(&(), &mut groups[1], &state).unwrap();
/// # let found = Spread::finish(&(), &groups).unwrap();
/// # assert_eq!(found.validity, Some(vec![0b011]));
/// # assert!(matches!(found.values, Values::F64s(values) if values == [2.0, 4.0, 0.0]));
/// ```
pub trait Aggregator: Sized + 'static {
    /// The configuration as the tenant writes it, in JSON.
    type Config: DeserializeOwned;

    /// What a call in a query fixes: which function it is, and its constants.
    type Call: 'static;

    /// What is kept of one group; the default is that of a group without rows.
    type Group: Default + 'static;

    /// Name and schema of the configuration; the same whenever it is asked.
    fn describe() -> Description;

    /// The plugin for one binding.
    ///
    /// # Errors
    /// [`Error::BadConfig`] where the configuration fits the schema and makes no sense all the same. The text is shown to
    /// the tenant.
    fn new(config: Self::Config) -> Result<Self, Error>;

    /// Its aggregates, the same whenever they are asked for; at most 64.
    fn signatures() -> Vec<Signature>;

    /// Settles a call of an aggregate, by its position in [`Aggregator::signatures`]. `constants` has one for each argument,
    /// [`Constant::Null`] where it differs by row.
    ///
    /// # Errors
    /// [`Error::BadInput`] where the constants make no sense. The text is shown to whoever asked.
    fn call(&self, function: usize, constants: &[Constant]) -> Result<Self::Call, Error>;

    /// Adds rows. `groups` has every group; [`Rows::each`] says which row belongs to which.
    ///
    /// # Errors
    /// Any error fails the query that called; its text is shown to whoever asked.
    fn update(call: &Self::Call, groups: &mut [Self::Group], rows: &Rows<'_>) -> Result<(), Error>;

    /// Adds what [`Aggregator::state`] wrote, perhaps on another node.
    ///
    /// # Errors
    /// Bytes that it did not write.
    fn merge(call: &Self::Call, group: &mut Self::Group, state: &[u8]) -> Result<(), Error>;

    /// Appends the state of a group.
    fn state(call: &Self::Call, group: &Self::Group, out: &mut Vec<u8>);

    /// The results of some groups: as many as there are, of the type of the signature.
    ///
    /// # Errors
    /// Any error fails the query that called.
    fn finish(call: &Self::Call, groups: &[Self::Group]) -> Result<Series, Error>;

    /// Bytes that a group takes, about; only groups that grow need say so.
    fn size(_group: &Self::Group) -> usize {
        size_of::<Self::Group>()
    }
}

/// Rows to aggregate: their arguments, and the group of each.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    args: Args<'a>,
    groups: &'a [u32],
    selected: Option<&'a [u8]>,
}

impl<'a> Rows<'a> {
    /// What the host handed over; for tests too.
    pub fn new(args: Args<'a>, groups: &'a [u32], selected: Option<&'a [u8]>) -> Rows<'a> {
        Rows { args, groups, selected }
    }

    /// Calls with the group and the number of each row that counts, in order.
    pub fn each(&self, mut add: impl FnMut(usize, usize)) {
        let rows = self.groups.iter().enumerate();
        match self.selected {
            None => rows.for_each(|(row, group)| add(*group as usize, row)),
            Some(bits) => rows.filter(|(row, _)| bit(bits, *row)).for_each(|(row, group)| add(*group as usize, row)),
        }
    }
}

impl<'a> Deref for Rows<'a> {
    type Target = Args<'a>;

    fn deref(&self) -> &Args<'a> {
        &self.args
    }
}

/// What `export_aggregator` makes of a call in a query.
#[doc(hidden)]
#[derive(Debug)]
pub struct Accumulating<A: Aggregator> {
    call: A::Call,
    groups: RefCell<Vec<A::Group>>,
}

#[doc(hidden)]
impl<A: Aggregator> Accumulating<A> {
    pub fn new(plugin: &A, function: u32, constants: &[Constant]) -> Result<Self, Error> {
        let call = plugin.call(function as usize, constants)?;
        Ok(Accumulating { call, groups: RefCell::default() })
    }

    pub fn update(&self, groups: &[u32], count: u32, selected: Option<&[u8]>, args: &[Arg]) -> Result<(), Error> {
        let mut all = self.groups.borrow_mut();
        all.resize_with(count as usize, A::Group::default);
        A::update(&self.call, &mut all, &Rows::new(Args::new(groups.len(), args), groups, selected))
    }

    pub fn merge(&self, groups: &[u32], count: u32, states: &BytesCol) -> Result<(), Error> {
        let mut all = self.groups.borrow_mut();
        all.resize_with(count as usize, A::Group::default);
        for (group, at) in groups.iter().zip(states.offsets.windows(2)) {
            let state = states.data.get(at[0] as usize..at[1] as usize).unwrap_or_default();
            if let Some(group) = all.get_mut(*group as usize) {
                A::merge(&self.call, group, state)?;
            }
        }
        Ok(())
    }

    fn take(&self, first: Option<u32>) -> Vec<A::Group> {
        let mut all = self.groups.borrow_mut();
        let count = first.map_or(all.len(), |first| all.len().min(first as usize));
        if count == all.len() { std::mem::take(&mut *all) } else { all.drain(..count).collect() }
    }

    pub fn state(&self, first: Option<u32>) -> BytesCol {
        let taken = self.take(first);
        let mut states = BytesCol { offsets: Vec::with_capacity(taken.len() + 1), data: Vec::new() };
        states.offsets.push(0);
        for group in &taken {
            A::state(&self.call, group, &mut states.data);
            states.offsets.push(states.data.len() as u32);
        }
        states
    }

    pub fn finish(&self, first: Option<u32>) -> Result<Series, Error> {
        A::finish(&self.call, &self.take(first))
    }

    pub fn size(&self) -> u64 {
        self.groups.borrow().iter().map(|group| A::size(group) as u64).sum()
    }
}

/// Makes the type that implements [`Aggregator`] the plugin of this crate. Once in a crate of type `cdylib`.
#[macro_export]
macro_rules! export_aggregator {
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "generated: exports by the names of the canonical ABI")]
        const _: () = {
            use $crate::bindings::exports::prism::plugin::{aggregating, meta};
            ::std::thread_local! {
                static PLUGIN: $crate::exported::Slot<$plugin> = const { $crate::exported::Slot::new(None) };
            }
            struct Exported;
            impl meta::Guest for Exported {
                fn describe() -> meta::Metadata {
                    <$plugin as $crate::Aggregator>::describe().into_metadata()
                }
                fn init(config: String) -> Result<Vec<$crate::Need>, $crate::Error> {
                    PLUGIN.with(|slot| $crate::exported::start(slot, &config, <$plugin as $crate::Aggregator>::new))
                }
            }
            struct Accumulating($crate::exported::Accumulating<$plugin>);
            impl aggregating::Guest for Exported {
                type Accumulator = Accumulating;
                fn signatures() -> Vec<$crate::Signature> {
                    <$plugin as $crate::Aggregator>::signatures()
                }
            }
            impl aggregating::GuestAccumulator for Accumulating {
                fn create(
                    function: u32,
                    constants: Vec<$crate::Constant>,
                ) -> Result<aggregating::Accumulator, $crate::Error> {
                    let made = PLUGIN.with(|slot| {
                        $crate::exported::with(slot, |plugin| {
                            $crate::exported::Accumulating::new(plugin, function, &constants)
                        })
                    });
                    made.map(|made| aggregating::Accumulator::new(Accumulating(made)))
                }
                fn update(
                    &self,
                    groups: Vec<u32>,
                    count: u32,
                    selected: Option<Vec<u8>>,
                    args: Vec<$crate::Arg>,
                ) -> Result<(), $crate::Error> {
                    self.0.update(&groups, count, selected.as_deref(), &args)
                }
                fn merge(&self, groups: Vec<u32>, count: u32, states: $crate::BytesCol) -> Result<(), $crate::Error> {
                    self.0.merge(&groups, count, &states)
                }
                fn state(&self, first: Option<u32>) -> Result<$crate::BytesCol, $crate::Error> {
                    Ok(self.0.state(first))
                }
                fn finish(&self, first: Option<u32>) -> Result<$crate::Series, $crate::Error> {
                    self.0.finish(first)
                }
                fn size(&self) -> u64 {
                    self.0.size()
                }
            }
            meta::__export_prism_plugin_meta_0_1_0_cabi!(
                Exported with_types_in $crate::bindings::exports::prism::plugin::meta
            );
            aggregating::__export_prism_plugin_aggregating_0_1_0_cabi!(
                Exported with_types_in $crate::bindings::exports::prism::plugin::aggregating
            );
            #[unsafe(link_section = "component-type:prism:aggregator")]
            #[used]
            static WORLD: [u8; $crate::worlds::AGGREGATOR.len()] = *$crate::worlds::AGGREGATOR;
        };
    };
}

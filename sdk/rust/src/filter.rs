//! Plugins that drop rows and add columns.

use crate::plugin::Plugin;
use crate::{Batch, Call, Error, Verdict};

/// Drops items (with their events, links and exemplars) and adds attributes or a sampling weight to them.
pub trait Filter: Plugin {
    /// Called for each batch, also where no field of it answers a need; `batch` holds the items table then, without columns.
    ///
    /// [`crate::Drops`] makes the verdict.
    ///
    /// # Errors
    /// [`Error::Retryable`] refuses the request for now; any other refuses it, and after some tries for good.
    fn apply(&mut self, batch: &Batch, call: &Call) -> Result<Verdict, Error>;
}

/// Makes the type that implements [`Filter`] the plugin of this crate. Once in a crate of type `cdylib`.
#[macro_export]
macro_rules! export_filter {
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "generated: exports by the names of the canonical ABI")]
        const _: () = {
            use $crate::bindings::exports::prism::plugin::{filtering, meta};
            ::std::thread_local! {
                static PLUGIN: $crate::exported::Slot<$plugin> = const { $crate::exported::Slot::new(None) };
            }
            struct Exported;
            impl meta::Guest for Exported {
                fn describe() -> meta::Metadata {
                    $crate::exported::describe::<$plugin>()
                }
                fn init(config: String) -> Result<Vec<$crate::Need>, $crate::Error> {
                    PLUGIN.with(|slot| $crate::exported::init(slot, &config))
                }
            }
            impl filtering::Guest for Exported {
                fn apply(batch: $crate::Batch, call: $crate::Call) -> Result<$crate::Verdict, $crate::Error> {
                    PLUGIN.with(|slot| {
                        $crate::exported::with(slot, |plugin| $crate::Filter::apply(plugin, &batch, &call))
                    })
                }
            }
            meta::__export_prism_plugin_meta_0_1_0_cabi!(
                Exported with_types_in $crate::bindings::exports::prism::plugin::meta
            );
            filtering::__export_prism_plugin_filtering_0_1_0_cabi!(
                Exported with_types_in $crate::bindings::exports::prism::plugin::filtering
            );
            #[unsafe(link_section = "component-type:prism:filter")]
            #[used]
            static WORLD: [u8; $crate::worlds::FILTER.len()] = *$crate::worlds::FILTER;
        };
    };
}

//! Plugins that change values and keys.

use crate::plugin::Plugin;
use crate::{Batch, Call, Edit, Error};

/// Changes values and keys, or clears them. It cannot drop a row or add one.
pub trait Redactor: Plugin {
    /// Called for each batch that has a field which answers a need. Returns at most one edit a column.
    ///
    /// [`crate::ByteEdits`] and [`crate::NumberEdits`] make edits.
    ///
    /// # Errors
    /// Any error refuses the whole request: what was not redacted is not stored.
    fn redact(&mut self, batch: &Batch, call: &Call) -> Result<Vec<Edit>, Error>;
}

/// Makes the type that implements [`Redactor`] the plugin of this crate. Once in a crate of type `cdylib`.
#[macro_export]
macro_rules! export_redactor {
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "generated: exports by the names of the canonical ABI")]
        const _: () = {
            use $crate::bindings::exports::prism::plugin::{meta, redacting};
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
            impl redacting::Guest for Exported {
                fn redact(batch: $crate::Batch, call: $crate::Call) -> Result<Vec<$crate::Edit>, $crate::Error> {
                    PLUGIN.with(|slot| {
                        $crate::exported::with(slot, |plugin| $crate::Redactor::redact(plugin, &batch, &call))
                    })
                }
            }
            meta::__export_prism_plugin_meta_0_1_0_cabi!(
                Exported with_types_in $crate::bindings::exports::prism::plugin::meta
            );
            redacting::__export_prism_plugin_redacting_0_1_0_cabi!(
                Exported with_types_in $crate::bindings::exports::prism::plugin::redacting
            );
            #[unsafe(link_section = "component-type:prism:redactor")]
            #[used]
            static WORLD: [u8; $crate::worlds::REDACTOR.len()] = *$crate::worlds::REDACTOR;
        };
    };
}

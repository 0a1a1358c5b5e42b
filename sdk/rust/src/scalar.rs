//! Plugins whose functions queries call for each row: `plugin.url_template(url.path)`.

use serde::de::DeserializeOwned;

use crate::bindings::functions::{Series, Signature};
use crate::function::Args;
use crate::{Description, Error};

/// Functions over the rows of queries.
///
/// The host calls [`ScalarFunction::describe`] and [`ScalarFunction::signatures`] at upload. For each binding it checks the
/// configuration against the schema, then makes the plugin by [`ScalarFunction::new`]; then come calls. One value serves many
/// calls of its binding if the plugin is deterministic, else (and after any error) one each.
pub trait ScalarFunction: Sized + 'static {
    /// The configuration as the tenant writes it, in JSON.
    type Config: DeserializeOwned;

    /// Name and schema of the configuration; the same whenever it is asked.
    fn describe() -> Description;

    /// The plugin for one binding.
    ///
    /// # Errors
    /// [`Error::BadConfig`] where the configuration fits the schema and makes no sense all the same. The text is shown to
    /// the tenant.
    fn new(config: Self::Config) -> Result<Self, Error>;

    /// Its functions, the same whenever they are asked for; at most 64.
    fn signatures() -> Vec<Signature>;

    /// The values of a function, by its position in [`ScalarFunction::signatures`]: as many as there are rows. Arguments are
    /// of the types of the signature.
    ///
    /// # Errors
    /// Any error fails the query that called; its text is shown to whoever asked.
    fn eval(&mut self, function: usize, args: &Args<'_>) -> Result<Series, Error>;
}

/// Makes the type that implements [`ScalarFunction`] the plugin of this crate. Once in a crate of type `cdylib`.
#[macro_export]
macro_rules! export_scalar_function {
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "generated: exports by the names of the canonical ABI")]
        const _: () = {
            use $crate::bindings::exports::prism::plugin::{meta, scalar};
            ::std::thread_local! {
                static PLUGIN: $crate::exported::Slot<$plugin> = const { $crate::exported::Slot::new(None) };
            }
            struct Exported;
            impl meta::Guest for Exported {
                fn describe() -> meta::Metadata {
                    <$plugin as $crate::ScalarFunction>::describe().into_metadata()
                }
                fn init(config: String) -> Result<Vec<$crate::Need>, $crate::Error> {
                    PLUGIN.with(|slot| $crate::exported::start(slot, &config, <$plugin as $crate::ScalarFunction>::new))
                }
            }
            impl scalar::Guest for Exported {
                fn signatures() -> Vec<$crate::Signature> {
                    <$plugin as $crate::ScalarFunction>::signatures()
                }
                fn eval(function: u32, rows: u32, args: Vec<$crate::Arg>) -> Result<$crate::Series, $crate::Error> {
                    PLUGIN.with(|slot| {
                        $crate::exported::with(slot, |plugin| {
                            let args = $crate::Args::new(rows as usize, &args);
                            $crate::ScalarFunction::eval(plugin, function as usize, &args)
                        })
                    })
                }
            }
            meta::__export_prism_plugin_meta_0_1_0_cabi!(
                Exported with_types_in $crate::bindings::exports::prism::plugin::meta
            );
            scalar::__export_prism_plugin_scalar_0_1_0_cabi!(
                Exported with_types_in $crate::bindings::exports::prism::plugin::scalar
            );
            #[unsafe(link_section = "component-type:prism:scalar-function")]
            #[used]
            static WORLD: [u8; $crate::worlds::SCALAR_FUNCTION.len()] = *$crate::worlds::SCALAR_FUNCTION;
        };
    };
}

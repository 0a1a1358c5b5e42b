//! A numeric function, as lean as a guest can be.
include!("../../kernels.rs");

wit_bindgen::generate!({ path: "../../../../../wit", world: "scalar-function" });

use exports::prism::plugin::meta::{Access, Guest as Meta, Metadata, Need};
use exports::prism::plugin::scalar::Guest as Scalar;
use prism::plugin::base::{Dtype, Error};
use prism::plugin::columns::Values;
use prism::plugin::functions::{Arg, Constant, Series, Signature};

struct Bench;

impl Meta for Bench {
    fn describe() -> Metadata {
        Metadata {
            name: "bench".into(),
            version: "0.1.0".into(),
            description: "".into(),
            config_schema: "{}".into(),
            config_example: "{}".into(),
            access: Access::Rows,
            deterministic: true,
            labels: vec![],
            counters: vec![],
        }
    }

    fn init(_config: String) -> Result<Vec<Need>, Error> {
        Ok(vec![])
    }
}

impl Scalar for Bench {
    fn signatures() -> Vec<Signature> {
        vec![Signature {
            name: "millis".into(),
            args: vec![Dtype::Float64],
            variadic: false,
            returns: Dtype::Float64,
            handles_nulls: false,
            deterministic: true,
        }]
    }

    fn eval(_function: u32, rows: u32, args: Vec<Arg>) -> Result<Series, Error> {
        let values = match args.into_iter().next() {
            Some(Arg::Series(Series { values: Values::F64s(values), .. })) => millis(&values),
            Some(Arg::Constant(Constant::Float(value))) => millis(&vec![value; rows as usize]),
            _ => return Err(Error::BadInput("another type".into())),
        };
        Ok(Series { validity: None, keys: None, values: Values::F64s(values) })
    }
}

export!(Bench);

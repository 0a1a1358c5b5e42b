//! Bounds of what a client may send. Each has a name in the configuration and a reason.

/// Bounds of a request, checked while it is decoded.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request body, before and after decompression. OTLP 1.11 asks for a limit and recommends 64 MiB.
    pub body_bytes_max: usize,
    /// Levels of arrays and maps in a value. prost gives up at about 46, Prism stores up to this many; serde_json reads 127.
    pub value_depth_max: usize,
    /// Attribute columns of one table; further keys go to the tail, where nothing is lost but queries are slower. Each
    /// column costs about 100 bytes a frame even when nearly empty.
    pub attribute_columns_max: usize,
    /// Items (spans, log records, points) of one request: row numbers and dictionary keys are 32 bits wide, and a request
    /// beyond this is better sent as several.
    pub items_max: usize,
    /// Numbers in lists (buckets, bounds and quantiles of points) of one request: in memory each has 8 bytes, on the wire
    /// perhaps one, and a body of the largest size would otherwise take a gigabyte.
    pub list_values_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes_max: 64 << 20,
            value_depth_max: 64,
            attribute_columns_max: 1_000,
            items_max: 1_000_000,
            list_values_max: 16_000_000,
        }
    }
}

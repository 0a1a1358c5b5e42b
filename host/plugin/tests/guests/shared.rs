// Shared by the hostile guests: what they say at upload is patched into their data by the tests, since `describe` knows no
// configuration; what they do afterwards their configuration says.

use core::sync::atomic::{AtomicU32, Ordering};

/// Patched: `<mode>;<access>;<deterministic>`, padded with spaces.
static UPLOAD: &[u8; 46] = b"PRISM-HOSTILE:ok;entries;yes                  ";

/// Grows with every call of this instance: what a guest that lies about being deterministic keeps.
pub static CALLS: AtomicU32 = AtomicU32::new(0);

pub fn upload(part: usize) -> String {
    // Volatile, so that the compiler does not know the text.
    let text: Vec<u8> = (14..UPLOAD.len()).map(|i| unsafe { core::ptr::read_volatile(&UPLOAD[i]) }).collect();
    String::from_utf8(text).unwrap().trim().split(';').nth(part).unwrap_or("").to_owned()
}

/// The text of a member of a flat JSON object.
pub fn member(config: &str, name: &str) -> String {
    let start = format!("\"{name}\":\"");
    let Some(at) = config.find(&start) else { return String::new() };
    let rest = &config[at + start.len()..];
    rest[..rest.find('"').unwrap_or(rest.len())].to_owned()
}

pub fn spin() -> ! {
    loop {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }
}

pub fn allocate_without_end() -> ! {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(vec![1; 1 << 20]);
    }
}

pub fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

/// What every hostile guest says about itself, or does instead.
macro_rules! hostile_describe {
    ($Metadata:ident, $Access:ident) => {{
        let mode = upload(0);
        match mode.as_str() {
            "loop" => spin(),
            "alloc" => allocate_without_end(),
            "trap" => trap(),
            _ => {}
        }
        let mut labels = vec!["found".to_owned(), "other".to_owned()];
        if mode == "many-labels" {
            labels = (0..65).map(|i| format!("l{i}")).collect();
        }
        if mode == "no-labels" {
            labels.clear();
        }
        $Metadata {
            name: if mode == "bad-name" { "Not A Name".into() } else { "hostile".into() },
            version: "0.1.0".into(),
            description: if mode == "long" { "x".repeat(5_000) } else { "misbehaves".into() },
            config_schema: match mode.as_str() {
                "bad-schema" => "{\"type\": 7}".into(),
                "no-json" => "{".into(),
                "remote-schema" => "{\"$ref\": \"http://127.0.0.1:1/schema\"}".into(),
                _ => "{\"type\":\"object\",\"properties\":{\"mode\":{\"type\":\"string\",\"maxLength\":40},\"needle\":{\"type\":\"string\"}},\"additionalProperties\":false}".into(),
            },
            config_example: match mode.as_str() {
                "misfit" => "{\"mode\": 1}".into(),
                "golden" => "{\"mode\":\"trap\"}".into(),
                _ => "{}".into(),
            },
            access: if upload(1) == "rows" { $Access::Rows } else { $Access::Entries },
            deterministic: upload(2) == "yes",
            labels,
            counters: vec!["calls".into()],
        }
    }};
}

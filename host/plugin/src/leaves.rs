//! What is inside array and map values: their leaves and nested keys, numbered in one order, and the value rebuilt with some
//! of them changed.

use std::collections::HashMap;

use prism_model::Value;

use crate::bindings::base::Dtype;
use crate::change::Change;

/// What a walk meets. Leaves and keys are numbered apart, each from 0 in the order of the walk.
pub(crate) enum Part<'v> {
    /// A value that is no array and no map.
    Leaf(&'v Value),
    /// A key of a map.
    Key(&'v str),
}

/// The type under which a leaf is shown; none for an empty value.
pub(crate) fn dtype_of(leaf: &Value) -> Option<Dtype> {
    match leaf {
        Value::Str(_) => Some(Dtype::Utf8),
        Value::Int(_) => Some(Dtype::Int64),
        Value::Double(_) => Some(Dtype::Float64),
        Value::Bytes(_) => Some(Dtype::Binary),
        Value::Bool(_) => Some(Dtype::Boolean),
        Value::Null | Value::Array(_) | Value::Map(_) => None,
    }
}

/// Visits every leaf and key; `path` is the JSON pointer of the leaf, or of the map that holds the key. The value is at most
/// as deep as [`Value::from_text`] reads, so recursion is bounded.
pub(crate) fn walk(value: &Value, path: &mut String, visit: &mut impl FnMut(&str, Part<'_>)) {
    let len = path.len();
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                path.push('/');
                path.push_str(&i.to_string());
                walk(item, path, visit);
                path.truncate(len);
            }
        }
        Value::Map(entries) => {
            for (key, item) in entries {
                visit(path, Part::Key(key));
                path.push('/');
                path.push_str(&key.replace('~', "~0").replace('/', "~1"));
                walk(item, path, visit);
                path.truncate(len);
            }
        }
        leaf => visit(path, Part::Leaf(leaf)),
    }
}

/// Changes inside one value, by number of leaf or key.
#[derive(Default)]
pub(crate) struct Inside {
    pub(crate) leaves: HashMap<u32, Change>,
    pub(crate) keys: HashMap<u32, Change>,
}

/// The value with its changes: a cleared leaf is empty, a cleared key takes its value along.
pub(crate) fn rewrite(value: &Value, inside: &Inside) -> Value {
    rebuild(value, inside, &mut 0, &mut 0)
}

fn rebuild(value: &Value, inside: &Inside, leaf: &mut u32, key: &mut u32) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(|v| rebuild(v, inside, leaf, key)).collect()),
        Value::Map(entries) => {
            let mut kept = Vec::with_capacity(entries.len());
            for (name, item) in entries {
                let change = inside.keys.get(key);
                *key += 1;
                let item = rebuild(item, inside, leaf, key);
                match change {
                    Some(Change::Text(new)) => kept.push((new.clone(), item)),
                    Some(_) => {}
                    None => kept.push((name.clone(), item)),
                }
            }
            Value::Map(kept)
        }
        scalar => {
            let change = inside.leaves.get(leaf);
            *leaf += 1;
            match change {
                None => scalar.clone(),
                Some(Change::Clear) => Value::Null,
                Some(Change::Text(new)) => Value::Str(new.clone()),
                Some(Change::Int(new)) => Value::Int(*new),
                Some(Change::Double(new)) => Value::Double(*new),
                Some(Change::Bytes(new)) => Value::Bytes(new.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_and_keys_are_numbered_as_they_are_rebuilt() {
        let value = Value::from_text(r#"{"a":[1,"x",{"b/c":"y"}],"d":null,"a":"z"}"#).unwrap();
        let (mut seen, mut keys) = (Vec::new(), Vec::new());
        walk(&value, &mut String::new(), &mut |path, part| match part {
            Part::Leaf(v) => seen.push((path.to_owned(), v.to_text())),
            Part::Key(k) => keys.push(format!("{path}:{k}")),
        });
        let expected = [("/a/0", "1"), ("/a/1", "\"x\""), ("/a/2/b~1c", "\"y\""), ("/d", "null"), ("/a", "\"z\"")];
        assert_eq!(seen, expected.map(|(p, v)| (p.to_owned(), v.to_owned())));
        assert_eq!(keys, [":a", "/a/2:b/c", ":d", ":a"]);

        let mut inside = Inside::default();
        inside.leaves.insert(2, Change::Text("Y".into()));
        inside.leaves.insert(4, Change::Clear);
        inside.keys.insert(1, Change::Text("k".into()));
        inside.keys.insert(2, Change::Clear);
        assert_eq!(rewrite(&value, &inside).to_text(), r#"{"a":[1,"x",{"k":"Y"}],"a":null}"#);
        assert_eq!(rewrite(&value, &Inside::default()), value);
    }
}

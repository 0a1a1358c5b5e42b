//! What was read and may be asked again, bounded by bytes: the oldest use goes first.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use parking_lot::Mutex;

/// A map that forgets.
pub(crate) struct Cache<K, V> {
    bytes_max: usize,
    inner: Mutex<Inner<K, V>>,
}

struct Inner<K, V> {
    entries: HashMap<K, (V, usize, u64)>,
    by_use: BTreeMap<u64, K>,
    bytes: usize,
    clock: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    pub(crate) fn new(bytes_max: usize) -> Cache<K, V> {
        let inner = Inner { entries: HashMap::new(), by_use: BTreeMap::new(), bytes: 0, clock: 0 };
        Cache { bytes_max, inner: Mutex::new(inner) }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        inner.clock += 1;
        let now = inner.clock;
        let (value, _, used) = inner.entries.get_mut(key)?;
        inner.by_use.remove(used);
        inner.by_use.insert(now, key.clone());
        *used = now;
        Some(value.clone())
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let mut guard = self.inner.lock();
        guard.entries.clear();
        guard.by_use.clear();
        guard.bytes = 0;
    }

    /// Keeps a value of about so many bytes; one larger than the whole cache is not kept.
    pub(crate) fn put(&self, key: K, value: V, bytes: usize) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        inner.remove(&key);
        if bytes > self.bytes_max {
            return;
        }
        inner.clock += 1;
        let now = inner.clock;
        inner.by_use.insert(now, key.clone());
        inner.entries.insert(key, (value, bytes, now));
        inner.bytes += bytes;
        while inner.bytes > self.bytes_max {
            let Some(oldest) = inner.by_use.first_key_value().map(|(_, k)| k.clone()) else { break };
            inner.remove(&oldest);
        }
    }
}

impl<K: Hash + Eq, V> Inner<K, V> {
    fn remove(&mut self, key: &K) {
        if let Some((_, bytes, used)) = self.entries.remove(key) {
            self.by_use.remove(&used);
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_use_goes_first_and_bytes_stay_bounded() {
        let cache = Cache::new(10);
        cache.put("a", 1, 4);
        cache.put("b", 2, 4);
        assert_eq!(cache.get(&"a"), Some(1));
        cache.put("c", 3, 4);
        assert_eq!((cache.get(&"a"), cache.get(&"b"), cache.get(&"c")), (Some(1), None, Some(3)));
        cache.put("a", 9, 11);
        assert_eq!((cache.get(&"a"), cache.inner.lock().bytes), (None, 4));
    }
}

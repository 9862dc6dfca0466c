//! How full a queue is, in items and in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How full a queue is. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Fill {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    items: AtomicU64,
    bytes: AtomicU64,
}

impl Fill {
    /// Counts an item of this size for as long as the weight exists: from before the item enters the queue until it has
    /// been handled.
    pub(super) fn weigh(&self, bytes: usize) -> Weight {
        self.inner.items.fetch_add(1, Ordering::Relaxed);
        self.inner.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Weight { fill: self.clone(), bytes: bytes as u64 }
    }

    /// Items that are queued or being handled.
    pub fn items(&self) -> u64 {
        self.inner.items.load(Ordering::Relaxed)
    }

    /// Bytes of their audio.
    pub fn bytes(&self) -> u64 {
        self.inner.bytes.load(Ordering::Relaxed)
    }
}

/// The weight of an item, which travels with it.
#[derive(Debug)]
pub(super) struct Weight {
    fill: Fill,
    bytes: u64,
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.fill.inner.items.fetch_sub(1, Ordering::Relaxed);
        self.fill.inner.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_weighs_what_is_in_it() {
        let fill = Fill::default();
        let (first, second) = (fill.weigh(640), fill.weigh(3200));
        assert_eq!((fill.items(), fill.bytes()), (2, 3840));
        drop(first);
        assert_eq!((fill.items(), fill.bytes()), (1, 3200));
        drop(second);
        assert_eq!((fill.items(), fill.bytes()), (0, 0));
    }
}

//! A limit on how many may do something at the same time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A fixed number of places, each of which one caller can hold. Clones share the places.
#[derive(Debug, Clone)]
pub struct Places {
    total: usize,
    free: Arc<Semaphore>,
}

/// A held place. Dropping it frees the place.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// Creates `total` free places.
    pub fn new(total: usize) -> Self {
        Self { total, free: Arc::new(Semaphore::new(total)) }
    }

    /// Number of places, free and held.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Number of places that are held now.
    pub fn taken(&self) -> usize {
        self.total - self.free.available_permits()
    }

    /// Takes a place. `None`: all places are held.
    pub fn try_take(&self) -> Option<Place> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Place { _permit: permit })
    }

    /// Waits for a free place and takes it.
    pub async fn take(&self) -> Place {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        Place { _permit: permit.expect("the semaphore is never closed") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dropped_place_is_free_again() {
        let places = Places::new(2);
        let (first, second) = (places.take().await, places.try_take().unwrap());
        assert_eq!((places.taken(), places.total()), (2, 2));
        assert!(places.try_take().is_none());
        drop(first);
        assert_eq!(places.taken(), 1);
        assert!(places.clone().try_take().is_some());
        drop(second);
        assert_eq!(places.taken(), 0);
    }
}

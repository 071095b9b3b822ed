//! A queue between two threads that either of them can close. Not a channel of the standard library: those leave
//! thread-local memory on the host's thread, which a leak checker reports at exit.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) struct Queue<T> {
    state: Mutex<QueueState<T>>,
    changed: Condvar,
}

struct QueueState<T> {
    items: VecDeque<T>,
    /// Threads inside a wait: without one there is nobody to wake, which would be a system call.
    waiting: usize,
    is_closed: bool,
}

/// What [`Queue::pop_within`] came to.
pub(crate) enum Popped<T> {
    Item(T),
    Closed,
    TimedOut,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue::new([])
    }
}

impl<T> Queue<T> {
    pub(crate) fn new(items: impl IntoIterator<Item = T>) -> Queue<T> {
        let state = QueueState { items: items.into_iter().collect(), waiting: 0, is_closed: false };
        Queue { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Appends an item.
    pub(crate) fn push(&self, item: T) {
        self.put(item, VecDeque::push_back);
    }

    /// Puts an item where the next pop finds it: what was used last is still in the cache.
    pub(crate) fn push_front(&self, item: T) {
        self.put(item, VecDeque::push_front);
    }

    /// What is put into a closed queue is dropped: nobody is to wait for it to come round.
    fn put(&self, item: T, put: impl FnOnce(&mut VecDeque<T>, T)) {
        let mut state = self.lock();
        if state.is_closed {
            // Outside the lock: an item may have a queue as its home.
            drop(state);
            return drop(item);
        }
        put(&mut state.items, item);
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_awaited {
            self.changed.notify_one();
        }
    }

    /// The next item; `None` when there is none and the queue is closed.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                return Some(item);
            }
            if state.is_closed {
                return None;
            }
            state.waiting += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
    }

    /// The next item, if there is one.
    pub(crate) fn try_pop(&self) -> Option<T> {
        self.lock().items.pop_front()
    }

    /// The next item, waiting once for at most `patience`.
    pub(crate) fn pop_within(&self, patience: Duration) -> Popped<T> {
        let mut state = self.lock();
        if state.items.is_empty() && !state.is_closed {
            state.waiting += 1;
            state = self.changed.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
        match state.items.pop_front() {
            Some(item) => Popped::Item(item),
            None if state.is_closed => Popped::Closed,
            None => Popped::TimedOut,
        }
    }

    /// Whether nothing more is wanted.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// What is in it can still be popped.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Closes it and drops what is in it.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let items = std::mem::take(&mut state.items);
        drop(state);
        self.changed.notify_all();
        // Outside the lock: an item may have a queue as its home.
        drop(items);
    }

    fn lock(&self) -> MutexGuard<'_, QueueState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_closed_queue_keeps_what_it_has_and_takes_nothing() {
        let (queue, item) = (Queue::new([]), Arc::new(()));
        queue.push(item.clone());
        queue.close();
        queue.push(item.clone());
        assert_eq!(Arc::strong_count(&item), 2);
        assert!(queue.pop().is_some() && queue.pop().is_none());
        queue.abandon();
        assert_eq!(Arc::strong_count(&item), 1);
    }
}

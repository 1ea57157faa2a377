//! What a program keeps beside a relay, once for each relay and without a global: such as who is logged in to its pages.

use super::Relay;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// One value of each type.
#[derive(Default)]
pub(super) struct Extensions(Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl Relay {
    /// The relay's one value of this type, made when it is asked for the first time. All clones of the handle see the
    /// same one; it lives as long as the last of them. It must not hold a [`Relay`] itself: neither would ever go.
    pub fn extension<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut values = self.shared.extensions.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) =
            values.get(&TypeId::of::<T>()).and_then(|value| Arc::clone(value).downcast().ok())
        {
            return value;
        }
        let value = Arc::new(make());
        values.insert(TypeId::of::<T>(), Arc::clone(&value) as Arc<dyn Any + Send + Sync>);
        value
    }
}

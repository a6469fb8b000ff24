//! Freed memory that stays with the process while a training runs.

use std::ffi::c_long;

/// `mi_option_purge_delay` of mimalloc.h, in milliseconds.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// A delay that no training reaches: 30 days. With a delay of −1 freed pages would not be recorded, so that they could not be returned to
/// the system after the training.
const DELAY_MS: c_long = 30 * 24 * 3600 * 1000;

/// While it exists, mimalloc keeps freed pages instead of returning them to the system.
///
/// The tensors of a step are as large as those of the step before. Without this setting the system takes their pages and clears them again
/// at every step. Dropping the guard restores the previous delay and returns unused pages to the system, so that later stages of the
/// process are not measured with them.
#[derive(Debug)]
pub struct RetainedPages {
    previous: c_long,
}

impl RetainedPages {
    /// Sets the delay.
    pub fn start() -> Self {
        // SAFETY: both calls access one aligned number in mimalloc's table of options, of which PURGE_DELAY is an index. Other threads may
        // read the number at the same time; both values are valid delays for them.
        unsafe {
            let previous = libmimalloc_sys::mi_option_get(PURGE_DELAY);
            libmimalloc_sys::mi_option_set(PURGE_DELAY, DELAY_MS);
            Self { previous }
        }
    }
}

impl Drop for RetainedPages {
    fn drop(&mut self) {
        // SAFETY: `mi_collect` may be called at any time by any thread; for `mi_option_set` see `start`.
        unsafe {
            libmimalloc_sys::mi_collect(true);
            libmimalloc_sys::mi_option_set(PURGE_DELAY, self.previous);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_purge_delay_is_long_only_while_the_guard_exists() {
        // SAFETY: reads one number of mimalloc's table of options.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), 1000, "PURGE_DELAY is not the option whose default value is in mimalloc's options.c");
        let guard = RetainedPages::start();
        assert_eq!(delay(), DELAY_MS);
        drop(guard);
        assert_eq!(delay(), 1000);
    }
}

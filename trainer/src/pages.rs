//! Memory that stays with the process.

/// `mi_option_purge_delay` of mimalloc.h, in milliseconds.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// The tensors of one step are as large as those of the next: mimalloc keeps their pages, which otherwise the kernel
/// takes and clears again at every step. Call it before other threads run.
pub fn keep() {
    // SAFETY: stores one number in mimalloc's table of options, of which this is an index; -1 is never.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_delay_of_purging() {
        // SAFETY: reads one number of mimalloc's table of options.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), 1000, "not the option whose default options.c states");
        keep();
        assert_eq!(delay(), -1);
    }
}

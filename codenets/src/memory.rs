//! Memory of the process between stages.

/// Returns memory that no thread of the pool uses any more, and that of C's allocator (tree-sitter, ONNX Runtime), to the system.
///
/// All stages of a run share one process. Without this call the peak memory of a stage includes pages that earlier stages freed.
pub fn release() {
    let collect = || {
        // SAFETY: `mi_collect` may be called at any time by any thread: it purges free pages of the calling thread's heap.
        unsafe { libmimalloc_sys::mi_collect(true) }
    };
    rayon::broadcast(|_| collect());
    collect();
    // SAFETY: `malloc_trim` may be called at any time by any thread: it purges free pages.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn memory_in_use_survives_a_release() {
        let numbers: Vec<u64> = (0..100_000).collect();
        drop(vec![0u8; 10 << 20]);
        super::release();
        assert!(numbers.iter().enumerate().all(|(index, &number)| index as u64 == number));
    }
}

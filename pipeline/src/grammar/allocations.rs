//! Counts the bytes that tree-sitter allocates, per thread: its parser has no memory limit of its own.

use std::{cell::Cell, ffi::c_void, sync::Once};

use tree_sitter::Allocator;

thread_local! {
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

/// Bytes that tree-sitter allocated on this thread since [`AllocatedBytes::start`]. Freed bytes are not subtracted: the
/// sum is an upper bound of what is in use.
#[derive(Debug, Clone, Copy)]
pub struct AllocatedBytes {
    from: usize,
}

impl AllocatedBytes {
    /// Starts counting.
    pub fn start() -> Self {
        Self { from: BYTES.get() }
    }

    /// Bytes allocated since the start.
    pub fn get(&self) -> usize {
        BYTES.get().wrapping_sub(self.from)
    }
}

/// Installs the counting allocator in tree-sitter. Must run before any other call of tree-sitter.
pub fn count_allocations() {
    static COUNTED: Once = Once::new();
    COUNTED.call_once(|| {
        // SAFETY: the four functions are one family, the C library's: they keep its alignment and never return null. The
        // `Once` lets one thread call this, before the first grammar is used and so before tree-sitter allocates anything.
        unsafe { tree_sitter::set_allocator(Some(Allocator { malloc, calloc, realloc, free: libc::free })) };
    });
}

fn count(bytes: usize) {
    BYTES.set(BYTES.get().wrapping_add(bytes));
}

/// Aborts on null: tree-sitter does not check for it.
fn checked(memory: *mut c_void, bytes: usize) -> *mut c_void {
    if memory.is_null() && bytes > 0 {
        std::process::abort();
    }
    memory
}

unsafe extern "C" fn malloc(bytes: usize) -> *mut c_void {
    count(bytes);
    // SAFETY: `malloc` accepts any size.
    checked(unsafe { libc::malloc(bytes) }, bytes)
}

unsafe extern "C" fn calloc(number: usize, bytes: usize) -> *mut c_void {
    count(number.saturating_mul(bytes));
    // SAFETY: `calloc` accepts any sizes and checks their product.
    checked(unsafe { libc::calloc(number, bytes) }, number.saturating_mul(bytes))
}

unsafe extern "C" fn realloc(old: *mut c_void, bytes: usize) -> *mut c_void {
    count(bytes);
    // SAFETY: tree-sitter passes null or memory from one of these functions, which is the C library's.
    checked(unsafe { libc::realloc(old, bytes) }, bytes)
}

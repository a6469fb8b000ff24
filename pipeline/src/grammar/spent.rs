//! What tree-sitter asks of the allocator, counted by thread: its parser has no limit of its own.

use std::{cell::Cell, ffi::c_void, sync::Once};

use tree_sitter::Allocator;

thread_local! {
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

/// Bytes that were asked for on this thread since it was made. What is given back is not counted off: how
/// much is asked for bounds how much is held.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    from: usize,
}

impl Spent {
    pub fn start() -> Self {
        Self { from: BYTES.get() }
    }

    pub fn bytes(&self) -> usize {
        BYTES.get().wrapping_sub(self.from)
    }
}

/// Puts the counting functions below tree-sitter. Called before anything else is asked of it.
pub fn count_allocations() {
    static COUNTED: Once = Once::new();
    COUNTED.call_once(|| {
        // SAFETY: the four functions are one family, the C library's, give its alignment and never null; the `Once`
        // lets one thread call this, before the first grammar is handed out and so before any object of tree-sitter is.
        unsafe { tree_sitter::set_allocator(Some(Allocator { malloc, calloc, realloc, free: libc::free })) };
    });
}

fn count(bytes: usize) {
    BYTES.set(BYTES.get().wrapping_add(bytes));
}

/// tree-sitter does not expect a null.
fn given(memory: *mut c_void, bytes: usize) -> *mut c_void {
    if memory.is_null() && bytes > 0 {
        std::process::abort();
    }
    memory
}

unsafe extern "C" fn malloc(bytes: usize) -> *mut c_void {
    count(bytes);
    // SAFETY: handed on as it came.
    given(unsafe { libc::malloc(bytes) }, bytes)
}

unsafe extern "C" fn calloc(number: usize, bytes: usize) -> *mut c_void {
    count(number.saturating_mul(bytes));
    // SAFETY: handed on as it came.
    given(unsafe { libc::calloc(number, bytes) }, number.saturating_mul(bytes))
}

unsafe extern "C" fn realloc(old: *mut c_void, bytes: usize) -> *mut c_void {
    count(bytes);
    // SAFETY: handed on as it came: `old` is from one of these functions.
    given(unsafe { libc::realloc(old, bytes) }, bytes)
}

//! Faults that end the process at once, with a message instead of a bare signal.
//!
//! - A file that became shorter while it was mapped, or whose disk fails: the system sends SIGBUS.
//! - Memory that does not exist. Libraries ask for it where a damaged file says so.

use std::{
    alloc::{GlobalAlloc, Layout},
    io::Write,
};

use mimalloc::MiMalloc;

const BUS_ERROR: &[u8] = b"error: a mapped file could not be read: it became shorter while it was in use, or its disk failed; \
run `codenets verify`, and never change a file of a bundle in place\n";

/// Writes a message to standard error and ends the process. Allocates nothing.
fn end(message: &[u8]) -> ! {
    // SAFETY: `write` reads `message.len()` bytes of `message`, and `_exit` ends the process; both may be called in a signal handler.
    // Test: `a_file_that_becomes_shorter_while_it_is_mapped_ends_with_a_message`.
    unsafe {
        libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len());
        libc::_exit(1)
    }
}

extern "C" fn on_bus_error(_: libc::c_int) {
    end(BUS_ERROR)
}

/// From now on SIGBUS ends the process with a message.
pub fn explain_bus_errors() {
    let handler: extern "C" fn(libc::c_int) = on_bus_error;
    // SAFETY: the handler calls only functions that are safe in a signal handler.
    // Test: `a_file_that_becomes_shorter_while_it_is_mapped_ends_with_a_message`.
    unsafe { libc::signal(libc::SIGBUS, handler as libc::sighandler_t) };
}

/// mimalloc, with which training is 13 % faster than with the system's allocator: it allocates and frees many tensors in each step. Memory
/// that does not exist ends the process with a message.
#[derive(Debug)]
pub struct Allocator;

impl Allocator {
    fn checked(memory: *mut u8, bytes: usize) -> *mut u8 {
        if memory.is_null() {
            let mut message = [0; 256];
            let mut rest = &mut message[..];
            let _ = writeln!(
                rest,
                "error: there is no memory for {bytes} bytes: a damaged file can ask for that much, run `codenets verify`; if all files are intact, use \
                 fewer threads or a larger machine"
            );
            let written = 256 - rest.len();
            end(&message[..written]);
        }
        memory
    }
}

// SAFETY: every call goes to mimalloc with the same arguments. Test: `memory_that_does_not_exist_ends_with_a_message`.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those of mimalloc.
        Self::checked(unsafe { MiMalloc.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those of mimalloc.
        Self::checked(unsafe { MiMalloc.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promises are those of mimalloc.
        Self::checked(unsafe { MiMalloc.realloc(memory, layout, size) }, size)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are those of mimalloc.
        unsafe { MiMalloc.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, process::Command};

    use super::*;

    /// Set in the process that a fault ends.
    const CHILD: &str = "CODENETS_TEST_FAULT";

    /// Runs a test of this file again in a process of its own, where it causes the fault, and checks that the process ends with a message.
    fn require_end(test: &str, fault: impl FnOnce(), message: &str) {
        if std::env::var_os(CHILD).is_some() {
            return fault();
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", "--nocapture", &format!("faults::tests::{test}")]).env(CHILD, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && text.contains(message), "{output:?}");
    }

    #[test]
    fn a_file_that_becomes_shorter_while_it_is_mapped_ends_with_a_message() {
        let fault = || {
            explain_bus_errors();
            // Without a name: nothing is left when the process ends.
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&vec![1; 1 << 20]).unwrap();
            // SAFETY: this test shortens the file on purpose.
            let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
            file.set_len(0).unwrap();
            std::hint::black_box(map[1 << 19]);
        };
        require_end("a_file_that_becomes_shorter_while_it_is_mapped_ends_with_a_message", fault, "it became shorter while it was in use");
    }

    #[test]
    fn memory_that_does_not_exist_ends_with_a_message() {
        let fault = || {
            let layout = Layout::from_size_align(1 << 62, 8).unwrap();
            // SAFETY: the layout has a size; there is no memory for it.
            std::hint::black_box(unsafe { Allocator.alloc(layout) });
        };
        require_end("memory_that_does_not_exist_ends_with_a_message", fault, "there is no memory for 4611686018427387904 bytes");
    }
}

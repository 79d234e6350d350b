//! Counts flushes to disk of everything in this process: it takes the place of libc's two functions, which the standard
//! library (stanchion, redb) and SQLite call alike.

use std::sync::atomic::{AtomicU64, Ordering};

use libc::c_int;

static FLUSHES: AtomicU64 = AtomicU64::new(0);

/// Flushes since the process began.
pub fn count() -> u64 {
    FLUSHES.load(Ordering::Relaxed)
}

/// In the place of libc's.
#[unsafe(no_mangle)]
pub extern "C" fn fsync(fd: c_int) -> c_int {
    FLUSHES.fetch_add(1, Ordering::Relaxed);
    // SAFETY: one number, which the kernel checks.
    unsafe { libc::syscall(libc::SYS_fsync, fd) as c_int }
}

/// In the place of libc's.
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(fd: c_int) -> c_int {
    FLUSHES.fetch_add(1, Ordering::Relaxed);
    // SAFETY: one number, which the kernel checks.
    unsafe { libc::syscall(libc::SYS_fdatasync, fd) as c_int }
}

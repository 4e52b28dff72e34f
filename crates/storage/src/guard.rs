//! Turns panics of libraries that read untrusted files into errors.

use std::cell::Cell;
use std::sync::Once;

thread_local! {
    /// Whether this thread is in [`guarded`].
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a reader that panics on some damaged files, and turns a panic into the error `gave_up`. What it was reading
/// must not be used afterwards.
///
/// # Errors
/// Those of `read`, and `gave_up`.
pub fn guarded<T>(gave_up: &str, read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // A panic that becomes an error is reported only as that error.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                tell(panic);
            }
        }));
    });
    let before = GUARDED.replace(true);
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    GUARDED.set(before);
    read.unwrap_or_else(|_| Err(gave_up.to_owned()))
}

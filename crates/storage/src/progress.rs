//! Progress reports of long-running work. The library only reports; the command line decides whether that becomes a bar
//! on a terminal or a plain line in a log.

/// Receives the progress of long work. Implementations must be cheap: models call them per batch.
pub trait Progress: Send + Sync {
    /// A stage begins: its human-readable name and how many steps it will take (0 if unknown).
    fn begin(&self, stage: &str, steps: u64);
    /// `steps` more steps of the current stage are done.
    fn advance(&self, steps: u64);
    /// A short note about the current stage, such as the loss of the last epoch.
    fn note(&self, text: &str);
    /// A warning about something that does not stop the work; always shown.
    fn warn(&self, text: &str);
    /// The current stage is over.
    fn end(&self);
}

/// Discards all reports.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn note(&self, _: &str) {}
    fn warn(&self, _: &str) {}
    fn end(&self) {}
}

//! The hand-off: how a message gets from one layer to the next.
//!
//! Every message goes into the next layer's inbox, and its order there is the order in which it is handled. Who runs the layer then is where the
//! hand-offs differ, and nothing else does: in `queue.rs` its own thread; in `combining.rs` whoever brought the message, if nobody is at it. Both take
//! [turns](super::layer_loop::LayerLoop::turn) of the same kind, and both are reached by [`Entry::ring`](super::inbox::Entry::ring).

/// How a message gets from one layer to the next.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Handoff {
    /// Over bounded channels, a thread for each layer: the reference.
    Queue,
    /// Over the same channels, but whoever brings a message runs an idle layer at once; the layer's own thread has the timers, and what is more than a
    /// little. A round trip wakes no thread but the receive thread and the program's, and the program's alone where
    /// [it can receive itself](crate::config::PipelineConfig::programs_receive).
    #[default]
    Combining,
}

impl Handoff {
    /// All of them.
    pub const ALL: [Handoff; 2] = [Handoff::Queue, Handoff::Combining];

    /// The name people use.
    pub const fn name(self) -> &'static str {
        match self {
            Handoff::Queue => "queue",
            Handoff::Combining => "combining",
        }
    }
}

/// So many bytes at once are bulk: by whatever hand-off, the layer's own thread takes them, while whoever brought them goes on reading or writing. (Measured
/// on two processors: without this, combining moves a quarter less into the stack in 1500-byte frames, and a tenth less out of it, since one thread then pays for
/// both sides of each system call.)
pub(crate) const BULK_BYTES: usize = 16 << 10;

/// Serves a layer for those who put something into its inbox.
pub(crate) trait Attendant: Send + Sync {
    /// There is something in the inbox. Sees to it that it is taken, without waiting.
    fn attend(&self);
}

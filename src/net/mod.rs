//! Connections that this process makes to a server: where it is, and the stream to it.
//!
//! It moves bytes and knows nothing of their meaning. A [`Stream`] does not block: a loop drives it by mio. A caller that
//! may wait puts a [`BlockingStream`] around it, so that there is one kind of stream for both.

mod blocking;
mod stream;

pub use blocking::BlockingStream;
pub use stream::{Endpoint, Stream};

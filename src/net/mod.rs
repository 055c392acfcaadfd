//! Connections that this process makes to a server: where it is, and the stream to it.
//!
//! Where it is, a [`Finder`] finds anew for each dial. The rest moves bytes and knows nothing of what they mean. A [`Stream`]
//! does not block: a loop drives it by mio. Whoever may wait puts a [`BlockingStream`] around it, so that there is one kind of
//! stream for both.

mod blocking;
#[cfg(all(test, not(loom)))]
#[path = "../../tests/support/certificates.rs"]
pub(crate) mod certificates;
mod finder;
mod rotation;
mod stream;
mod tls;

pub use blocking::BlockingStream;
pub use finder::{Asker, Finder, Moves};
pub use rotation::Rotation;
pub use stream::{Endpoint, Stream};
pub use tls::{TlsClient, TlsFailure, TlsStream};

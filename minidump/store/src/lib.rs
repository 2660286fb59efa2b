//! Objects of S3 and HTTP servers: read at any offset, and written in parts.
//!
//! [`Location`] recognizes `s3://BUCKET/KEY`, `https://HOST/PATH`, and `http://HOST/PATH` of a host on the
//! loopback interface. The feature `client` adds `Client`: it opens an `Object`, which is a `ReadAt` of
//! `livecore-compress`, lists the objects of a prefix, and creates an `Upload`, which is a [`std::io::Write`].
//!
//! # Reading
//!
//! ```text
//!  read_at ──▶ blocks of 32 KiB ──▶ in the cache: copied
//!                     │
//!                     └─ missing: one range request for all that are adjacent
//!                        sequential reads: the blocks that follow, before they are needed
//! ```
//!
//! The first request reads the start of the object. It returns the size and the entity tag of the object, and
//! each later request must return the same ones. An answer is accepted only if it has the status 206, the
//! requested range in `Content-Range`, and exactly the requested number of bytes. A request that fails is
//! repeated with increasing delays; after the last one, the read fails. A short answer is never the end of the
//! object.
//!
//! # Writing
//!
//! An `Upload` sends parts while it is written. The object exists only after `Upload::complete`; if it is
//! dropped before, its parts are removed.
//!
//! # Threads
//!
//! A `Client` has one thread, with a single-threaded tokio runtime, that performs all requests. The calling
//! threads wait for it. No type of tokio is in this interface.

#[cfg(feature = "client")]
mod cache;
#[cfg(feature = "client")]
mod client;
mod error;
mod location;
#[cfg(feature = "client")]
mod object;
#[cfg(feature = "client")]
mod open;
#[cfg(feature = "client")]
mod options;
#[cfg(feature = "client")]
mod traffic;
#[cfg(feature = "client")]
mod upload;

#[cfg(feature = "client")]
pub use client::Client;
pub use error::Error;
pub use location::{Location, is_url};
#[cfg(feature = "client")]
pub use object::Object;
#[cfg(feature = "client")]
pub use open::Listed;
#[cfg(feature = "client")]
pub use options::Options;
#[cfg(feature = "client")]
pub use traffic::Traffic;
#[cfg(feature = "client")]
pub use upload::Upload;

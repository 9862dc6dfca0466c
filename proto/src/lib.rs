//! The wire contract of Meowlink: messages, clients and servers, generated from the five `.proto` files of this crate.
//!
//! The generated code is committed, so that a build needs neither `protoc` nor a build script. `tests/regenerate.rs`
//! generates it again from the `.proto` files and compares byte for byte. To change the contract, edit a `.proto` file
//! and run `REGENERATE=1 cargo test -p proto`.
//!
//! Add fields with new numbers and new rpcs; never change an existing one. Clients of the original system must see no
//! difference.

#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]
#[rustfmt::skip]
pub mod generated {
    //! The output of `tonic-prost-build`, with the names it chose.

    include!("generated/proto.rs");
}

pub use generated::*;

/// The five `.proto` files, comments included, as an encoded `FileDescriptorSet` for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");

/// Duration of a frame, which sequence numbers count, in milliseconds.
pub const FRAME_MS: u32 = 20;

/// Samples of a frame: 20 ms at 16 kHz.
pub const FRAME_SAMPLES: usize = 320;

/// The DNS-SD service type (RFC 6763) that a node announces, with the TXT keys `cat` and `version`.
pub const NODE_SERVICE: &str = "_cat-node._tcp.local.";

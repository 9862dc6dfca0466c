//! The wire contract of Meowlink: messages, clients and servers generated from the four `.proto` files of this crate.
//!
//! The generated code is committed, so that nobody needs `protoc` or a build script; `tests/regenerate.rs` makes it anew from
//! the `.proto` files and compares byte for byte. To change the contract, edit a `.proto` file and run
//! `REGENERATE=1 cargo test -p proto`.
//!
//! Growing a message means a new field number or a new rpc, never a changed one: clients of the original system must
//! see no difference.

#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]
#[rustfmt::skip]
pub mod generated {
    //! What `tonic-prost-build` made of the `.proto` files, under the names it chose.

    include!("generated/proto.rs");
}

pub use generated::*;

/// The four `.proto` files as an encoded `FileDescriptorSet`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");

/// Duration of the frame that sequence numbers count, in milliseconds.
pub const FRAME_MS: u32 = 20;

/// Samples in the frame that sequence numbers count: 20 ms at 16 kHz.
pub const FRAME_SAMPLES: usize = 320;

/// DNS-SD type under which a node announces itself (RFC 6763), with the TXT keys `cat` and `version`.
pub const NODE_SERVICE: &str = "_cat-node._tcp.local.";

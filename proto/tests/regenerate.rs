//! The committed code is what the `.proto` files generate. With `REGENERATE=1` the test writes it.

use std::path::{Path, PathBuf};

const FILES: [&str; 5] = ["cat.proto", "catAnalysis.proto", "dog.proto", "owner.proto", "pairing.proto"];

#[test]
fn generated_code_is_what_the_proto_files_give() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = crate_dir.join("src/generated");
    let scratch = tempfile::tempdir().expect("a scratch folder");

    let descriptors = protox::compile(FILES, [crate_dir]).expect("the proto files compile");
    let encoded = prost::Message::encode_to_vec(&descriptors);
    tonic_prost_build::configure()
        .bytes(".proto.AudioFrame.audio")
        .emit_rerun_if_changed(false)
        .out_dir(scratch.path())
        .compile_fds(descriptors)
        .expect("code is generated");

    let fresh: Vec<(PathBuf, Vec<u8>)> = vec![
        (committed.join("proto.rs"), std::fs::read(scratch.path().join("proto.rs")).expect("generated code")),
        (committed.join("descriptors.bin"), encoded),
    ];
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::create_dir_all(&committed).expect("a folder for generated code");
        for (path, bytes) in &fresh {
            std::fs::write(path, bytes).expect("generated code is written");
        }
    }
    for (path, bytes) in &fresh {
        let old = std::fs::read(path).expect("generated code is committed");
        assert!(old == *bytes, "{} is stale: run REGENERATE=1 cargo test -p proto", path.display());
    }
}

//! Which formats and codecs of `symphonia` a reader knows. A program holds those of the readers that it uses, and not
//! all that were built: `symphonia`'s own lists have them all.

use std::sync::LazyLock;

use symphonia::core::codecs::registry::CodecRegistry;
use symphonia::core::formats::probe::Probe;
use symphonia::default::{codecs, formats};

/// Containers, and decoders of what they hold.
pub(crate) struct Codecs {
    pub(crate) probe: Probe,
    pub(crate) decoders: CodecRegistry,
}

/// Those of streams.
pub(crate) fn of_streams() -> &'static Codecs {
    static STREAMS: LazyLock<Codecs> = LazyLock::new(streams);
    &STREAMS
}

/// Those of files.
#[cfg(feature = "files")]
pub(crate) fn of_files() -> &'static Codecs {
    static FILES: LazyLock<Codecs> = LazyLock::new(files);
    &FILES
}

fn streams() -> Codecs {
    let (mut probe, mut decoders) = (Probe::default(), CodecRegistry::new());
    probe.register_format::<formats::AdtsReader<'_>>();
    probe.register_format::<formats::FlacReader<'_>>();
    probe.register_format::<formats::MpaReader<'_>>();
    probe.register_format::<formats::OggReader<'_>>();
    decoders.register_audio_decoder::<codecs::AacDecoder>();
    decoders.register_audio_decoder::<codecs::FlacDecoder>();
    decoders.register_audio_decoder::<codecs::MpaDecoder>();
    decoders.register_audio_decoder::<codecs::VorbisDecoder>();
    Codecs { probe, decoders }
}

#[cfg(feature = "files")]
fn files() -> Codecs {
    let Codecs { mut probe, mut decoders } = streams();
    probe.register_format::<formats::AiffReader<'_>>();
    probe.register_format::<formats::CafReader<'_>>();
    probe.register_format::<formats::IsoMp4Reader<'_>>();
    decoders.register_audio_decoder::<codecs::AdpcmDecoder>();
    decoders.register_audio_decoder::<codecs::AlacDecoder>();
    decoders.register_audio_decoder::<codecs::PcmDecoder>();
    Codecs { probe, decoders }
}

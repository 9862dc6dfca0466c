from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Encoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENCODING_PCM_S16LE: _ClassVar[Encoding]
    ENCODING_FLAC: _ClassVar[Encoding]

class GapReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GAP_REASON_UNSPECIFIED: _ClassVar[GapReason]
    GAP_REASON_TAPE_OVERWRITTEN: _ClassVar[GapReason]
    GAP_REASON_SUBSCRIBER_TOO_SLOW: _ClassVar[GapReason]
    GAP_REASON_DEVICE_LOST: _ClassVar[GapReason]
    GAP_REASON_OVERRUN: _ClassVar[GapReason]
    GAP_REASON_NODE_RESTARTED: _ClassVar[GapReason]

class SourceState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_STATE_UNSPECIFIED: _ClassVar[SourceState]
    SOURCE_STATE_STARTING: _ClassVar[SourceState]
    SOURCE_STATE_CAPTURING: _ClassVar[SourceState]
    SOURCE_STATE_SILENT: _ClassVar[SourceState]
    SOURCE_STATE_NO_DEVICE: _ClassVar[SourceState]
    SOURCE_STATE_ENDED: _ClassVar[SourceState]
ENCODING_PCM_S16LE: Encoding
ENCODING_FLAC: Encoding
GAP_REASON_UNSPECIFIED: GapReason
GAP_REASON_TAPE_OVERWRITTEN: GapReason
GAP_REASON_SUBSCRIBER_TOO_SLOW: GapReason
GAP_REASON_DEVICE_LOST: GapReason
GAP_REASON_OVERRUN: GapReason
GAP_REASON_NODE_RESTARTED: GapReason
SOURCE_STATE_UNSPECIFIED: SourceState
SOURCE_STATE_STARTING: SourceState
SOURCE_STATE_CAPTURING: SourceState
SOURCE_STATE_SILENT: SourceState
SOURCE_STATE_NO_DEVICE: SourceState
SOURCE_STATE_ENDED: SourceState

class CatRequest(_message.Message):
    __slots__ = ("catName", "caller_tells_owner")
    CATNAME_FIELD_NUMBER: _ClassVar[int]
    CALLER_TELLS_OWNER_FIELD_NUMBER: _ClassVar[int]
    catName: str
    caller_tells_owner: bool
    def __init__(self, catName: _Optional[str] = ..., caller_tells_owner: _Optional[bool] = ...) -> None: ...

class CatResponse(_message.Message):
    __slots__ = ("catMeaw", "caller_tells_owner")
    CATMEAW_FIELD_NUMBER: _ClassVar[int]
    CALLER_TELLS_OWNER_FIELD_NUMBER: _ClassVar[int]
    catMeaw: str
    caller_tells_owner: bool
    def __init__(self, catMeaw: _Optional[str] = ..., caller_tells_owner: _Optional[bool] = ...) -> None: ...

class AnalyzeCatSoundRequest(_message.Message):
    __slots__ = ("catName", "with_audio")
    CATNAME_FIELD_NUMBER: _ClassVar[int]
    WITH_AUDIO_FIELD_NUMBER: _ClassVar[int]
    catName: str
    with_audio: bool
    def __init__(self, catName: _Optional[str] = ..., with_audio: _Optional[bool] = ...) -> None: ...

class AnalyzeCatSoundResponse(_message.Message):
    __slots__ = ("result", "audio", "state")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    result: str
    audio: _containers.RepeatedCompositeFieldContainer[ListenResponse]
    state: SourceState
    def __init__(self, result: _Optional[str] = ..., audio: _Optional[_Iterable[_Union[ListenResponse, _Mapping]]] = ..., state: _Optional[_Union[SourceState, str]] = ...) -> None: ...

class ListenRequest(_message.Message):
    __slots__ = ("frame_ms", "encoding")
    FRAME_MS_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    frame_ms: int
    encoding: Encoding
    def __init__(self, frame_ms: _Optional[int] = ..., encoding: _Optional[_Union[Encoding, str]] = ..., **kwargs) -> None: ...

class Cursor(_message.Message):
    __slots__ = ("boot_id", "sequence")
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    boot_id: int
    sequence: int
    def __init__(self, boot_id: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class ListenResponse(_message.Message):
    __slots__ = ("frame", "gap")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    frame: AudioFrame
    gap: Gap
    def __init__(self, frame: _Optional[_Union[AudioFrame, _Mapping]] = ..., gap: _Optional[_Union[Gap, _Mapping]] = ...) -> None: ...

class AudioFrame(_message.Message):
    __slots__ = ("boot_id", "sequence", "first_sample", "captured_monotonic_ns", "captured_unix_ns", "sample_count", "encoding", "audio")
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    boot_id: int
    sequence: int
    first_sample: int
    captured_monotonic_ns: int
    captured_unix_ns: int
    sample_count: int
    encoding: Encoding
    audio: bytes
    def __init__(self, boot_id: _Optional[int] = ..., sequence: _Optional[int] = ..., first_sample: _Optional[int] = ..., captured_monotonic_ns: _Optional[int] = ..., captured_unix_ns: _Optional[int] = ..., sample_count: _Optional[int] = ..., encoding: _Optional[_Union[Encoding, str]] = ..., audio: _Optional[bytes] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("boot_id", "first_sequence", "frame_count", "reason", "detail")
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FRAME_COUNT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    boot_id: int
    first_sequence: int
    frame_count: int
    reason: GapReason
    detail: str
    def __init__(self, boot_id: _Optional[int] = ..., first_sequence: _Optional[int] = ..., frame_count: _Optional[int] = ..., reason: _Optional[_Union[GapReason, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ("challenge",)
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    challenge: bytes
    def __init__(self, challenge: _Optional[bytes] = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("version", "cat_name", "boot_id", "uptime_ns", "unix_ns", "source", "tape", "counters", "level", "encodings", "public_key", "proof", "key_changes")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CAT_NAME_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    UPTIME_NS_FIELD_NUMBER: _ClassVar[int]
    UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TAPE_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    KEY_CHANGES_FIELD_NUMBER: _ClassVar[int]
    version: str
    cat_name: str
    boot_id: int
    uptime_ns: int
    unix_ns: int
    source: SourceInfo
    tape: TapeInfo
    counters: NodeCounters
    level: LevelInfo
    encodings: _containers.RepeatedScalarFieldContainer[Encoding]
    public_key: bytes
    proof: bytes
    key_changes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, version: _Optional[str] = ..., cat_name: _Optional[str] = ..., boot_id: _Optional[int] = ..., uptime_ns: _Optional[int] = ..., unix_ns: _Optional[int] = ..., source: _Optional[_Union[SourceInfo, _Mapping]] = ..., tape: _Optional[_Union[TapeInfo, _Mapping]] = ..., counters: _Optional[_Union[NodeCounters, _Mapping]] = ..., level: _Optional[_Union[LevelInfo, _Mapping]] = ..., encodings: _Optional[_Iterable[_Union[Encoding, str]]] = ..., public_key: _Optional[bytes] = ..., proof: _Optional[bytes] = ..., key_changes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SourceInfo(_message.Message):
    __slots__ = ("kind", "device", "sample_rate_hz", "channels", "state", "detail", "last_frame_age_ms")
    KIND_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    LAST_FRAME_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    device: str
    sample_rate_hz: int
    channels: int
    state: SourceState
    detail: str
    last_frame_age_ms: int
    def __init__(self, kind: _Optional[str] = ..., device: _Optional[str] = ..., sample_rate_hz: _Optional[int] = ..., channels: _Optional[int] = ..., state: _Optional[_Union[SourceState, str]] = ..., detail: _Optional[str] = ..., last_frame_age_ms: _Optional[int] = ...) -> None: ...

class TapeInfo(_message.Message):
    __slots__ = ("oldest_sequence", "next_sequence", "capacity_frames", "bytes")
    OLDEST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FRAMES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    oldest_sequence: int
    next_sequence: int
    capacity_frames: int
    bytes: int
    def __init__(self, oldest_sequence: _Optional[int] = ..., next_sequence: _Optional[int] = ..., capacity_frames: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class NodeCounters(_message.Message):
    __slots__ = ("frames_captured", "frames_lost_device", "frames_lost_overrun", "overruns", "clipped_samples", "source_restarts", "subscribers", "frames_lost_to_subscribers", "owner_failures", "flac_sample_bytes", "flac_coded_bytes")
    FRAMES_CAPTURED_FIELD_NUMBER: _ClassVar[int]
    FRAMES_LOST_DEVICE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_LOST_OVERRUN_FIELD_NUMBER: _ClassVar[int]
    OVERRUNS_FIELD_NUMBER: _ClassVar[int]
    CLIPPED_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_LOST_TO_SUBSCRIBERS_FIELD_NUMBER: _ClassVar[int]
    OWNER_FAILURES_FIELD_NUMBER: _ClassVar[int]
    FLAC_SAMPLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FLAC_CODED_BYTES_FIELD_NUMBER: _ClassVar[int]
    frames_captured: int
    frames_lost_device: int
    frames_lost_overrun: int
    overruns: int
    clipped_samples: int
    source_restarts: int
    subscribers: int
    frames_lost_to_subscribers: int
    owner_failures: int
    flac_sample_bytes: int
    flac_coded_bytes: int
    def __init__(self, frames_captured: _Optional[int] = ..., frames_lost_device: _Optional[int] = ..., frames_lost_overrun: _Optional[int] = ..., overruns: _Optional[int] = ..., clipped_samples: _Optional[int] = ..., source_restarts: _Optional[int] = ..., subscribers: _Optional[int] = ..., frames_lost_to_subscribers: _Optional[int] = ..., owner_failures: _Optional[int] = ..., flac_sample_bytes: _Optional[int] = ..., flac_coded_bytes: _Optional[int] = ...) -> None: ...

class LevelInfo(_message.Message):
    __slots__ = ("rms_dbfs", "peak_dbfs")
    RMS_DBFS_FIELD_NUMBER: _ClassVar[int]
    PEAK_DBFS_FIELD_NUMBER: _ClassVar[int]
    rms_dbfs: float
    peak_dbfs: float
    def __init__(self, rms_dbfs: _Optional[float] = ..., peak_dbfs: _Optional[float] = ...) -> None: ...

"""A cat-node: its sound, frame by frame, without a hub. Needs `pip install '.[node]'`.

Through a hub, `Hub.live` is simpler. Here you also get the numbers of the frames and the gaps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import numpy as np
import numpy.typing as npt

from ._proto import cat_pb2, cat_pb2_grpc


@dataclass(frozen=True)
class Frame:
    """Audio: 16,000 samples a second, one channel, 16 bits."""

    boot_id: int
    # Number of the first 20 ms of the frame since the start of the node.
    sequence: int
    # Number of the first sample since the start of the node.
    first_sample: int
    # When the first sample was captured, in nanoseconds since 1970 UTC. 0: the node does not know the time yet.
    captured_unix_ns: int
    samples: npt.NDArray[np.int16]


@dataclass(frozen=True)
class Gap:
    """Lost audio."""

    boot_id: int
    # Number of the first lost frame of 20 ms.
    first_sequence: int
    # How many frames of 20 ms are lost. 0: unknown.
    frame_count: int
    # Why, such as `GAP_REASON_OVERRUN`.
    reason: str


def listen(target: str, *, frame_ms: int = 20, timeout_s: float | None = None) -> Iterator[Frame | Gap]:
    """Yields the live audio of a node until the loop ends, or for `timeout_s` seconds.

    `target` is its host and port, such as `kitchen.local:50056`. `frame_ms` is 20, 40 or 100. Raises `grpc.RpcError` if
    the node cannot be reached, ends, or is still sending after `timeout_s`.
    """
    with grpc.insecure_channel(target) as channel:
        request = cat_pb2.ListenRequest(frame_ms=frame_ms)
        for event in cat_pb2_grpc.catStub(channel).Listen(request, timeout=timeout_s):
            if event.WhichOneof("event") == "frame":
                frame = event.frame
                samples = np.frombuffer(frame.audio, dtype="<i2").astype(np.int16)
                yield Frame(frame.boot_id, frame.sequence, frame.first_sample, frame.captured_unix_ns, samples)
            else:
                gap = event.gap
                reason = cat_pb2.GapReason.Name(gap.reason)
                yield Gap(gap.boot_id, gap.first_sequence, gap.frame_count, reason)

"""Runs the product's own front end, so that training and product see the same frames."""

import struct
import subprocess

import numpy as np

BANDS = 40


class FrontEnd:
    """Computes log-mel frames with the example program `logmel` of the crate `sound`."""

    def __init__(self, program):
        self.process = subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, samples):
        """Returns the frames, shape (count, BANDS), of canonical audio in 16 bits."""
        assert samples.dtype == np.int16
        self.process.stdin.write(struct.pack("<I", len(samples)) + samples.tobytes())
        self.process.stdin.flush()
        (count,) = struct.unpack("<I", self.process.stdout.read(4))
        return np.frombuffer(self.process.stdout.read(count * BANDS * 4), "<f4").reshape(count, BANDS)


def to_i16(samples):
    """Converts floats (full scale is 1) to 16 bits."""
    return np.clip(np.round(samples * 32_767), -32_768, 32_767).astype(np.int16)

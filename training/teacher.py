"""Runs YAMNet, which the small network imitates and is compared with. YAMNet's file is not part of the product."""

import numpy as np
import scipy.signal

PATCH_SAMPLES = 15_600
PATCH_HOP_SAMPLES = 7_680
CLASSES = 521

# The bands of the small network end at 3,700 Hz. With this limit, and averaged over two levels, the teacher separates
# cats from other sounds better than with the recordings as they are: see docs/MODEL.md.
BAND_LIMIT = scipy.signal.firwin(257, 3_850, fs=16_000)
LEVELS = (0.3, 0.08)


class Teacher:
    """Runs the TFLite file on patches of 0.975 s, one every 0.48 s."""

    def __init__(self, path, keep_all=True):
        """`keep_all` makes logits available. Without it there are only scores, but it runs at full speed."""
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(str(path), num_threads=1, experimental_preserve_all_tensors=keep_all)
        self.interpreter.allocate_tensors()
        if not keep_all:
            return
        details = {tensor["name"].split("/")[-1]: tensor for tensor in self.interpreter.get_tensor_details()}
        # The logits before the final sigmoid, in int8 with one scale.
        self.logits = next(t for n, t in details.items() if n == "BiasAdd")
        assert tuple(self.logits["shape"]) == (1, CLASSES), "not the expected YAMNet file"

    def __call__(self, samples):
        """Returns the logits of each patch, shape (patches, CLASSES), of samples whose full scale is 1."""
        samples = np.pad(samples, (0, max(0, PATCH_SAMPLES - len(samples))))
        starts = range(0, len(samples) - PATCH_SAMPLES + 1, PATCH_HOP_SAMPLES)
        return np.stack([self.patch(samples[start:start + PATCH_SAMPLES]) for start in starts])

    def opinion(self, samples):
        """Returns logits averaged over two levels, in the band of the small network, of samples whose peak is 1."""
        limited = scipy.signal.fftconvolve(samples, BAND_LIMIT, "same").astype(np.float32)
        return np.mean([self(limited * level) for level in LEVELS], axis=0)

    def scores(self, samples):
        """Returns the scores of each patch, shape (patches, CLASSES)."""
        output = self.interpreter.get_output_details()[0]["index"]
        starts = range(0, len(samples) - PATCH_SAMPLES + 1, PATCH_HOP_SAMPLES)
        found = []
        for start in starts:
            self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], samples[start:start + PATCH_SAMPLES])
            self.interpreter.invoke()
            found.append(self.interpreter.get_tensor(output)[0])
        return np.stack(found)

    def patch(self, samples):
        self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], samples.astype(np.float32))
        self.interpreter.invoke()
        scale, zero = self.logits["quantization"]
        return (self.interpreter.get_tensor(self.logits["index"])[0].astype(np.float32) - zero) * scale

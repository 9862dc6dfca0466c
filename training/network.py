"""The network. It takes log-mel frames and gives an embedding and a cat logit every 64 ms.

The convolutions are not padded in time ("valid"). Instead the input is padded with frames of silence, LEFT_FRAMES
before and RIGHT_FRAMES (or more) after it. So the product, which streams and assumes silence before the start, computes
the same numbers. Answer j is about the time around frame 4 * j and depends on 36 frames (0.58 s) on each side of it.
"""

import torch
from torch import nn

BANDS = 40
STRIDE_FRAMES = 4
LEFT_FRAMES = 36
RIGHT_FRAMES = 36
EMBEDDING = 128

# The front end's frame of digital silence: (ln(1e-11) + 16) / 4.
SILENCE = -2.3321090

# The teacher's classes whose logits the product gives too: see docs/MODEL.md.
MIMICKED = {"speech": 0, "dog": 69, "cat": 76, "purr": 77, "meow": 78, "hiss": 79, "caterwaul": 80, "growl": 74, "baby_cry": 20}
TEACHER_CLASSES = 521

# Those of them that count for the score of a cat.
SCORED = (MIMICKED["cat"], MIMICKED["meow"], MIMICKED["purr"])

# Answers in one patch of the teacher (0.975 s).
PATCH_STEPS = 15


class Layer(nn.Module):
    """A convolution with batch norm and ReLU. `residual` adds the input at the middle of the kernel."""

    def __init__(self, inputs, outputs, kernel, stride=(1, 1), band_padding=0, dilation=1, residual=False):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, (0, band_padding), (dilation, 1), bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.trim = dilation * (kernel[0] - 1) // 2 if residual else None

    def forward(self, x):
        out = torch.relu(self.norm(self.conv(x)))
        return out if self.trim is None else out + x[:, :, self.trim:x.shape[2] - self.trim]


class Network(nn.Module):
    """The network: see the description of the module."""

    def __init__(self, width=(24, 48, 96, EMBEDDING)):
        super().__init__()
        a, b, c, d = width
        self.layers = nn.Sequential(
            Layer(1, a, (5, 5), (2, 2), 2),
            Layer(a, b, (3, 3), (2, 2), 1),
            Layer(b, c, (3, 3), (1, 2), 1),
            Layer(c, d, (3, 5)),
            Layer(d, d, (3, 1), dilation=2, residual=True),
            Layer(d, d, (3, 1), dilation=4, residual=True),
        )
        self.drop = nn.Dropout(0.1)
        self.cat = nn.Linear(d, 1)
        self.mimic = nn.Linear(d, TEACHER_CLASSES)

    def embed(self, frames):
        """Turns frames (batch, frames, bands) into embeddings (batch, answers, EMBEDDING)."""
        padded = nn.functional.pad(frames, (0, 0, LEFT_FRAMES, RIGHT_FRAMES), value=SILENCE)
        return self.layers(padded[:, None])[..., 0].transpose(1, 2)

    def forward(self, frames):
        """Returns cat logit and embedding of each answer."""
        embedding = self.embed(frames)
        return self.cat(embedding)[..., 0], embedding


def smoothed(logits, steps, silence=-8.0):
    """Averages the last axis over a sliding window of `steps` answers."""
    padded = nn.functional.pad(logits, (steps // 2, steps - 1 - steps // 2), value=silence)
    return nn.functional.avg_pool1d(padded[:, None], steps, 1)[:, 0]


# Lengths of the sliding windows, in answers of 64 ms, whose best means make the logit of a clip.
CLIP_WINDOWS = (3, 7, 15)


def clip_logit(logits):
    """Returns a logit for each clip from its cat logits (batch, answers): the mean of the best windows by length."""
    clamped = logits.clamp(-8, 8)
    return torch.stack([smoothed(clamped, window).amax(1) for window in CLIP_WINDOWS]).mean(0)

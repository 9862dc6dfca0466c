"""The recordings that training may use, as canonical audio, and the split that keeps sources apart."""

import collections
import csv
import dataclasses
import math
import pathlib

import numpy as np
import soundfile
from scipy.signal import resample_poly

RATE_HZ = 16_000
PARTS = 3

# FSDD is CC BY-SA: good for tests of speech rejection, not for shipped weights.
TRAINING_DATASETS = ("catmeows", "catmeows_sequence", "catmeows_other_voc", "esc50")
CONTEXTS = ("food", "isolation", "brushing")


@dataclasses.dataclass(frozen=True)
class Clip:
    """One row of the manifest."""

    path: str
    dataset: str
    label: str
    group: str
    fold: str
    licence: str
    author: str
    near_duplicates: str

    @property
    def is_cat(self):
        return self.dataset.startswith("catmeows") or (self.dataset == "esc50" and self.label == "Cat")

    def sources(self):
        """Names of what must not lie on both sides of a split: source and uploader or the cat, and near-duplicates."""
        names = [f"{self.dataset[:4]}:{piece}" for piece in self.group.split("|")]
        # The clusters join takes of one cat, or ESC-50 clips of one recording; never the two sets.
        names += [f"duplicate:{cluster}" for cluster in self.near_duplicates.replace(";", " ").split()]
        return names


def read_manifest(manifest):
    """All clips of a manifest, in its order."""
    with open(manifest, newline="") as file:
        names = [field.name for field in dataclasses.fields(Clip)]
        return [Clip(**{name: row[name] for name in names}) for row in csv.DictReader(file)]


def split(clips):
    """The part (0, 1 or 2) of each clip, by path. Clips that share any source are in one part.

    An ESC-50 component goes where most of its clips are by the official fold; cats go where their contexts are rarest.
    """
    leader = {}

    def find(name):
        leader.setdefault(name, name)
        while leader[name] != name:
            name = leader[name]
        return name

    for clip in clips:
        for name in clip.sources():
            leader[find(name)] = find(clip.path)
    components = collections.defaultdict(list)
    for clip in clips:
        components[find(clip.path)].append(clip)

    part_of, contexts = {}, np.zeros((PARTS, len(CONTEXTS)))
    for component in sorted(components.values(), key=lambda members: (-len(members), members[0].path)):
        folds = [int(clip.fold) - 1 for clip in component if clip.fold]
        if folds:
            part = collections.Counter(folds).most_common(1)[0][0]
        else:
            count = np.array([sum(clip.label == context for clip in component) for context in CONTEXTS], float)
            wanted = np.array([64.0, 189.0, 96.0]) / PARTS
            part = int(np.argmin((((contexts + count) / wanted) ** 2).sum(1) - ((contexts / wanted) ** 2).sum(1)))
            contexts[part] += count
        part_of.update({clip.path: part for clip in component})
    return part_of


def load(folder, clip):
    """A clip as canonical audio in floats (full scale 1)."""
    samples, rate_hz = soundfile.read(pathlib.Path(folder) / clip.path, dtype="float32", always_2d=True)
    return to_canonical(samples.mean(axis=1), rate_hz)


def to_canonical(samples, rate_hz):
    """Resamples to 16 kHz."""
    common = math.gcd(rate_hz, RATE_HZ)
    if rate_hz != RATE_HZ:
        samples = resample_poly(samples, RATE_HZ // common, rate_hz // common)
    return samples.astype(np.float32)

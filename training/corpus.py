"""Reads the recordings as canonical audio, and splits them so that no source is on two sides."""

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

# FSDD is under CC BY-SA: it may test speech rejection, but not train weights that ship.
TRAINING_DATASETS = ("catmeows", "catmeows_sequence", "catmeows_other_voc", "esc50", "found_cat", "found_other", "donateacry")
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
        return self.dataset.startswith(("catmeows", "found_cat")) or (self.dataset == "esc50" and self.label == "Cat")

    @property
    def is_purr(self):
        return self.dataset == "found_cat" and self.label == "Cat purr"

    @property
    def is_baby(self):
        return self.label == "Crying baby"

    @property
    def kind(self):
        """The label without its detail: "Animal" of "Animal: bat"."""
        return self.label.split(":")[0]

    def sources(self):
        """Returns names of all that must stay on one side of a split: source and uploader, or cat; near-duplicates."""
        # Both come from Freesound, so one uploader may be in both.
        site = "freesound" if self.dataset in ("esc50", "found_cat", "found_other") else self.dataset[:4]
        # "donateacry" stands where an uploader would, and says nothing: each installation is a group of its own.
        names = [f"{site}:{piece.lower()}" for piece in self.group.split("|") if piece != self.dataset]
        # A cluster of near-duplicates has takes of one cat, or ESC-50 clips of one recording, never both.
        names += [f"duplicate:{cluster}" for cluster in self.near_duplicates.replace(";", " ").split()]
        return names


def read_manifest(manifest):
    """Returns the clips of a manifest and of those in the folders beside it, in their order. Paths start at its folder."""
    folder = pathlib.Path(manifest).parent
    names = [field.name for field in dataclasses.fields(Clip)]
    clips = []
    for path in [pathlib.Path(manifest), *sorted(folder.glob("*/manifest.csv"))]:
        below = path.parent.relative_to(folder)
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                clips.append(Clip(**{name: row[name] for name in names} | {"path": (below / row["path"]).as_posix()}))
    return clips


def split(clips):
    """Assigns each clip, by path, to a part (0, 1 or 2). Clips that share a source, directly or not, are in one part.

    Such a group of ESC-50 clips goes to the part of the official fold that most of them are in. A cat of CatMeows goes
    to the part where its contexts are rarest, any other group to the part that has fewest groups with sounds of its kinds.
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
    groups = collections.Counter()
    for component in sorted(components.values(), key=lambda members: (-len(members), members[0].path)):
        folds = [int(clip.fold) - 1 for clip in component if clip.fold]
        if folds:
            part = collections.Counter(folds).most_common(1)[0][0]
        elif component[0].dataset.startswith("catmeows"):
            count = np.array([sum(clip.label == context for clip in component) for context in CONTEXTS], float)
            wanted = np.array([64.0, 189.0, 96.0]) / PARTS
            part = int(np.argmin((((contexts + count) / wanted) ** 2).sum(1) - ((contexts / wanted) ** 2).sum(1)))
            contexts[part] += count
        else:
            kinds = {clip.kind for clip in component}
            part = min(range(PARTS), key=lambda part: (sum(groups[part, kind] for kind in kinds), part))
        groups.update((part, kind) for kind in {clip.kind for clip in component})
        part_of.update({clip.path: part for clip in component})
    return part_of


def load(folder, clip):
    """Returns a clip as canonical audio in floats (full scale is 1)."""
    samples, rate_hz = soundfile.read(pathlib.Path(folder) / clip.path, dtype="float32", always_2d=True)
    return to_canonical(samples.mean(axis=1), rate_hz)


def to_canonical(samples, rate_hz):
    """Resamples to 16 kHz."""
    common = math.gcd(rate_hz, RATE_HZ)
    if rate_hz != RATE_HZ:
        samples = resample_poly(samples, RATE_HZ // common, rate_hz // common)
    return samples.astype(np.float32)

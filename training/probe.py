"""Asks whether YAMNet would be a better teacher with its own output for cats: a probe on its logits and embedding.

No probe trains the network; docs/MODEL.md says why. Each part of the split is judged by a probe that learned from the
other two. Its penalty is the one with which a probe of either of the two judges the other best. A piece counts as heard
when one of its patches reaches the threshold. The threshold is the highest one that finds as many cats of each kind as
the network does. It is chosen on the recordings that are measured, which flatters all rows. Intervals are 95 %, over
sources.

Asking the teacher takes minutes, so its answers can be kept in a file.
"""

import argparse
import dataclasses
import pathlib

import numpy as np
import scipy.optimize
import torch
from torch import nn

import corpus
import kinds
import mixes
import network
import teacher

# Pieces of each kind that the network finds, on recordings that it does not know: 0.857, 0.955 and 0.739 of them.
FOUND = {"meow": 299, "meow, other homes": 21, "purr": 17}
BABIES = "crying babies"
COLUMNS = (BABIES, "other sounds", "meow", "meow, other homes", "cat of ESC-50", "purr")
NAME_WIDTH, CELL_WIDTH = 40, 20

# How many of YAMNet's logits a probe gets before the embedding: those that the network gives too.
LOGITS = len(network.MIMICKED)
PENALTIES = (100.0, 300.0, 1_000.0, 3_000.0, 10_000.0)
DECAYS = (1.0, 3.0, 10.0)
OUTLIER_DEVIATIONS = 4.0
HIDDEN, EPOCHS, BATCH, SEEDS = 64, 10, 512, 2

# A patch of a cat is one if its level is at most this far below the loudest of the piece.
ACTIVE_DB = 12.0
# A patch of a mix is a cat if this many of its steps of 64 ms are.
CAT_STEPS = 5


class Embedder(teacher.Teacher):
    """The teacher, with its embedding: the 1,024 numbers that its logits are a linear layer of."""

    def __init__(self, path):
        super().__init__(path)
        self.embedding = next(one for one in self.interpreter.get_tensor_details() if one["name"].endswith("/reduce_mean"))
        assert self.embedding["shape"][-1] == 1_024, "not the expected YAMNet file"

    def patch(self, samples):
        """Returns the logits of a patch, and its embedding after them."""
        logits = super().patch(samples)
        scale, zero = self.embedding["quantization"]
        embedding = self.interpreter.get_tensor(self.embedding["index"]).astype(np.float32).ravel()
        return np.concatenate([logits, (embedding - zero) * scale])


@dataclasses.dataclass
class Patches:
    """The teacher's answers to patches, and what the patches are. Those of mixes have -1 as their piece."""

    answers: np.ndarray  # logits, then embedding
    part: np.ndarray
    is_cat: np.ndarray
    is_sure: np.ndarray  # whether it is certain what the patch is; probes learn from these only
    source: np.ndarray
    kind: np.ndarray
    piece: np.ndarray
    hours: np.ndarray  # of the piece

    def __getitem__(self, chosen):
        return Patches(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))

    def weights(self):
        """Returns the weight of each patch: cats weigh as much as others, purrs a quarter of cats, babies half of others.

        Patches of a source weigh as the root of their number. Mixes weigh as much as recordings.
        """
        _, place, count = np.unique(self.source, return_inverse=True, return_counts=True)
        weight, is_mix, purr, baby = count[place] ** -0.5, self.piece < 0, self.kind == "purr", self.kind == BABIES
        cat, other = self.is_cat & ~is_mix & ~purr, ~self.is_cat & ~is_mix & ~baby
        for group, share in ((purr, 0.25), (cat, 0.75), (baby, 0.5), (other, 0.5), (is_mix & self.is_cat, 1.0), (is_mix & ~self.is_cat, 1.0)):
            weight[group] *= share / max(weight[group].sum(), 1e-9)
        return weight * len(weight) / weight.sum()


def recordings(embed, manifest):
    """Yields the columns of Patches for each piece of a recording."""
    clips = [clip for clip in corpus.read_manifest(manifest) if clip.dataset in corpus.TRAINING_DATASETS]
    part_of, number = corpus.split(clips), 0
    for clip in clips:
        if clip.dataset in ("catmeows_sequence", "catmeows_other_voc"):
            continue
        for samples in kinds.pieces(corpus.load(manifest.parent, clip)):
            samples = samples / max(np.abs(samples).max(), 1e-6)
            answers = embed.opinion(samples)
            starts = range(0, len(answers) * teacher.PATCH_HOP_SAMPLES, teacher.PATCH_HOP_SAMPLES)
            level_db = np.array([10 * np.log10((samples[start:start + teacher.PATCH_SAMPLES] ** 2).mean() + 1e-10) for start in starts])
            is_sure = (level_db >= level_db.max() - ACTIVE_DB) | (not clip.is_cat)
            kind = kinds.kind_of(clip, kinds.CATS if clip.is_cat else kinds.OTHERS)
            columns = (part_of[clip.path], clip.is_cat, is_sure, kinds.source_of(clip), kind, number, len(samples) / corpus.RATE_HZ / 3_600)
            yield answers, *(np.broadcast_to(column, len(answers)) for column in columns)
            number += 1


def mixed(embed, manifest, count):
    """Yields the columns of Patches for each of `count` mixes of each part."""
    clips = [clip for clip in corpus.read_manifest(manifest) if clip.dataset in corpus.TRAINING_DATASETS]
    part_of = corpus.split(clips)
    for part in range(corpus.PARTS):
        sources = mixes.sources_of(manifest.parent, [clip for clip in clips if part_of[clip.path] == part], part)
        for number in range(count):
            samples, steps = mixes.mix(np.random.default_rng([1, part, number]), sources, (mixes.NEAR, mixes.FAR)[number % 2])
            answers = embed.opinion(samples)
            steps = [steps[round(7.5 * patch):round(7.5 * patch) + network.PATCH_STEPS] for patch in range(len(answers))]
            is_cat = np.array([(own == mixes.CAT).sum() >= CAT_STEPS for own in steps])
            is_sure = is_cat | np.array([(own == mixes.OTHER).all() for own in steps])
            columns = (part, is_cat, is_sure, f"mix {part} {number}", "mix", -1, 0.0)
            yield answers, *(np.broadcast_to(column, len(answers)) for column in columns)
        print(f"part {part}: {count} mixes", flush=True)


def patches_of(rows):
    return Patches(*(np.concatenate(column) for column in zip(*rows)))


class Probe:
    """What all probes do: they bring inputs to a mean of 0 and a deviation of 1, and clip what is far off."""

    def __init__(self, inputs):
        self.mean, self.deviation = inputs.mean(axis=0), inputs.std(axis=0) + 1e-3

    def standard(self, inputs):
        return ((inputs - self.mean) / self.deviation).clip(-OUTLIER_DEVIATIONS, OUTLIER_DEVIATIONS).astype(np.float32)


class Linear(Probe):
    """Logistic regression. The weights of YAMNet's logits are hardly penalised, so it corrects them."""

    choices = PENALTIES

    def __init__(self, inputs, patches, penalty):
        super().__init__(inputs)
        known, truth, weight = self.standard(inputs), patches.is_cat.astype(np.float32), patches.weights().astype(np.float32)
        penalties = np.full(known.shape[1], penalty)
        penalties[:LOGITS] = 1

        def loss(slopes):
            logits = known @ slopes[:-1].astype(np.float32) + np.float32(slopes[-1])
            pull = weight * (1 / (1 + np.exp(-logits.clip(-30, 30))) - truth)
            total = (weight * (np.logaddexp(0, logits) - truth * logits)).sum(dtype=float) + (penalties * slopes[:-1] ** 2).sum() / 2
            return total, np.append((pull @ known).astype(float) + penalties * slopes[:-1], pull.sum(dtype=float))

        self.slopes = scipy.optimize.minimize(loss, np.zeros(known.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 150}).x

    def __call__(self, inputs):
        return self.standard(inputs) @ self.slopes[:-1] + self.slopes[-1]


class Layered(Probe):
    """A network with one hidden layer: the mean of several seeds. It is held by dropout and the decay of its weights."""

    choices = DECAYS

    def __init__(self, inputs, patches, decay):
        super().__init__(inputs)
        known, truth, weight = (torch.from_numpy(one.astype(np.float32)) for one in (self.standard(inputs), patches.is_cat, patches.weights()))
        self.nets = [self.trained(seed, known, truth, weight, decay) for seed in range(SEEDS)]

    def trained(self, seed, known, truth, weight, decay):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Dropout(0.3), nn.Linear(known.shape[1], HIDDEN), nn.ReLU(), nn.Dropout(0.5), nn.Linear(HIDDEN, 1))
        optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, EPOCHS * -(-len(known) // BATCH))
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(known)).split(BATCH):
                loss = nn.functional.binary_cross_entropy_with_logits(net(known[batch])[:, 0], truth[batch], weight[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        return net.eval()

    @torch.no_grad()
    def __call__(self, inputs):
        known = torch.from_numpy(self.standard(inputs))
        return torch.stack([net(known)[:, 0] for net in self.nets]).mean(0).numpy()


def judged(kind, patches):
    """Returns the logit of each patch of a recording, by a probe of this kind that learned from the other two parts."""
    inputs = np.concatenate([patches.answers[:, list(network.MIMICKED.values())], patches.answers[:, teacher.CLASSES:]], axis=1)
    logits = np.zeros(len(inputs))
    for part in range(corpus.PARTS):
        others = [number for number in range(corpus.PARTS) if number != part]
        learned = {number: patches.is_sure & (patches.part == number) for number in others}
        found = []
        for choice in kind.choices:
            total = 0.0
            for own, other in (others, others[::-1]):
                judge = kind(inputs[learned[own]], patches[learned[own]], choice)(inputs[learned[other]])
                tested = patches[learned[other]]
                total += np.average(np.logaddexp(0, np.where(tested.is_cat, -judge, judge)), weights=tested.weights())
            found.append((total / 2, choice))
        loss, choice = min(found)
        print(f"part {part}: {choice:g}, loss {loss:.3f}", flush=True)
        known = learned[others[0]] | learned[others[1]]
        own = patches.part == part
        logits[own] = kind(inputs[known], patches[known], choice)(inputs[own])
    return logits


def report(name, patches, logits):
    """Prints false alarms an hour and recall, at the threshold that the description of the module defines."""
    recorded = patches.piece >= 0
    pieces, first, place = np.unique(patches.piece[recorded], return_index=True, return_inverse=True)
    one, best, rng = patches[recorded][first], np.full(len(pieces), -np.inf), np.random.default_rng(1)
    np.maximum.at(best, place, logits[recorded])
    threshold = min(np.sort(best[one.kind == kind])[-count] for kind, count in FOUND.items())
    cells = []
    for column in COLUMNS:
        own = ~one.is_cat & (one.kind != BABIES) if column == "other sounds" else one.kind == column
        below = one.is_cat[own].astype(float) if one.is_cat[own].all() else one.hours[own]
        value, low, high, _ = kinds.interval(list(zip(one.source[own], best[own] >= threshold, below)), rng)
        digits = 3 if one.is_cat[own].all() else 1
        cells.append(f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
    print(f"{name:{NAME_WIDTH}}", *(f"{cell:{CELL_WIDTH}}" for cell in cells), flush=True)


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=pathlib.Path, default=here / "../../shared/data/manifest.csv")
    parser.add_argument("--teacher", type=pathlib.Path, help="yamnet.tflite; default: in teacher/ next to the manifest")
    parser.add_argument("--mixes", type=int, default=1_500, help="mixes for each part")
    parser.add_argument("--heard", type=pathlib.Path, help="keep the teacher's answers in this file, or read it if it exists")
    arguments = parser.parse_args()
    if arguments.heard and arguments.heard.exists():
        patches = Patches(**np.load(arguments.heard))
    else:
        embed = Embedder(arguments.teacher or arguments.manifest.parent / "teacher/yamnet.tflite")
        patches = patches_of([*recordings(embed, arguments.manifest), *mixed(embed, arguments.manifest, arguments.mixes)])
        if arguments.heard:
            with open(arguments.heard, "wb") as file:
                np.savez(file, **vars(patches))
    recorded = patches[patches.piece >= 0]
    print(" " * NAME_WIDTH, *(f"{name:{CELL_WIDTH}}" for name in COLUMNS))
    report("YAMNet's logits", recorded, recorded.answers[:, list(network.SCORED)].max(axis=1))
    for name, kind in (("linear", Linear), ("layered", Layered)):
        report(f"{name}, from recordings", recorded, judged(kind, recorded))
        report(f"{name}, from recordings and mixes", patches, judged(kind, patches))


if __name__ == "__main__":
    main()

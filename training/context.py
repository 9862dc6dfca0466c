"""Trains the context classifier, evaluates it on cats it has not seen, and writes the file for sound/src/context.rs."""

import argparse
import json
import pathlib
import struct

import numpy as np
from scipy.linalg import lu_factor, lu_solve
from scipy.spatial.distance import cdist

import corpus
import frontend
import listen

MAGIC = b"MEOWCTX4"
GAMMA, PENALTY = 1.0, 4.0
OUTLIER_DEVIATIONS = 3.0


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


class Classifier:
    """Kernel logistic regression with a Gaussian kernel.

    Features are the prosody and the direction of the embedding; each counts for half of the distance between two meows.
    All contexts have the same weight. Within a context, the weight of a cat is the square root of its number of meows.
    """

    def __init__(self, prosody, embedding, contexts, cats):
        self.mean_embedding = embedding.mean(axis=0)
        groups = [group.shape[1] for group in (prosody, embedding) if group.shape[1]]
        self.shares = np.concatenate([np.full(width, 1 / len(groups) / width) for width in groups])
        features = self.features(prosody, embedding)
        self.mean, self.deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
        self.known = self.places(prosody, embedding)
        weight = np.ones(len(contexts))
        for cat in np.unique(cats):
            for context in range(3):
                own = (cats == cat) & (contexts == context)
                weight[own] = max(own.sum(), 1) ** -0.5
        for context in range(3):
            weight[contexts == context] /= weight[contexts == context].sum()
        weight *= len(weight) / weight.sum()
        likeness, truth = self.likeness(self.known), np.eye(3)[contexts]
        # Newton steps with a fixed upper bound of the curvature (D. Boehning, "Multinomial logistic regression
        # algorithm", 1992), so that the matrix is factorised once.
        factors = lu_factor(likeness * (0.5 * weight)[:, None] + PENALTY * np.eye(len(weight)))
        self.votes, self.bias = np.zeros((len(weight), 3)), np.zeros(3)
        for _ in range(80):
            error = weight[:, None] * (truth - softmax(likeness @ self.votes + self.bias))
            self.votes += lu_solve(factors, error - PENALTY * self.votes)
            self.bias += error.sum(axis=0) / weight.sum()

    def features(self, prosody, embedding):
        difference = embedding - self.mean_embedding
        return np.hstack([prosody, difference / np.linalg.norm(difference, axis=1, keepdims=True).clip(1e-6)])

    def places(self, prosody, embedding):
        standard = (self.features(prosody, embedding) - self.mean) / self.deviation
        return standard.clip(-OUTLIER_DEVIATIONS, OUTLIER_DEVIATIONS)

    def likeness(self, places):
        return np.exp(-GAMMA * cdist(places, self.known, "sqeuclidean", w=self.shares))

    def logits(self, prosody, embedding):
        return self.likeness(self.places(prosody, embedding)) @ self.votes + self.bias


def meows(manifest, hear, weights):
    """Returns a row for each meow of CatMeows: prosody and embedding of its best event, context, cat and session."""
    chosen, rows = ["--weights", str(weights)] if weights else [], []
    # A recording in which the product detects nothing is still a meow, so search it again with a lower threshold.
    listener, keen = listen.Listener(hear, *chosen), listen.Listener(hear, "--min-score", "0.01", *chosen)
    for clip in corpus.read_manifest(manifest):
        if clip.dataset != "catmeows":
            continue
        samples = frontend.to_i16(corpus.load(pathlib.Path(manifest).parent, clip))
        events = listener(samples)["events"] or keen(samples)["events"]
        if not events:
            continue
        best = max(events, key=lambda event: event["score"])
        session = pathlib.Path(clip.path).stem.split("_")[-1][0]
        rows.append({"prosody": best["prosody"], "embedding": best["embedding"], "context": corpus.CONTEXTS.index(clip.label),
                     "cat": clip.group, "session": f"{clip.label}{session}"})
    return rows


def leave_cats_out(prosody, embedding, contexts, cats):
    """Returns the logits of each meow, by a classifier trained on the other cats."""
    out = np.empty((len(contexts), 3))
    for cat in np.unique(cats):
        own = cats == cat
        others = Classifier(prosody[~own], embedding[~own], contexts[~own], cats[~own])
        out[own] = others.logits(prosody[own], embedding[own])
    return out


def arrays(rows):
    """Returns arrays of prosody, embedding, context and cat, with one entry for each meow."""
    return [np.array([row[name] for row in rows]) for name in ("prosody", "embedding", "context", "cat")]


def without_hearing_the_cat(manifest, hear, weights):
    """Returns logits, contexts and cats of meows, by a classifier and a network that were both trained without the cat.

    `weights` has, for each part of the split, the network that was trained without it.
    """
    clips = [clip for clip in corpus.read_manifest(manifest) if clip.dataset in corpus.TRAINING_DATASETS]
    part_of = corpus.split(clips)
    cats_of = {part: {clip.group for clip in clips if clip.dataset == "catmeows" and part_of[clip.path] == part} for part in weights}
    found = []
    for part, file in weights.items():
        prosody, embedding, contexts, cats = arrays(meows(manifest, hear, file))
        logits, own = leave_cats_out(prosody, embedding, contexts, cats), np.isin(cats, sorted(cats_of[part]))
        found.append((logits[own], contexts[own], cats[own]))
    return [np.concatenate(parts) for parts in zip(*found)]


def temperature_of(logits, contexts):
    """Returns the divisor of the logits that makes their probabilities fit best."""
    choices = np.geomspace(0.3, 5, 60)
    rows = np.arange(len(contexts))
    return choices[np.argmin([-np.log(softmax(logits / t)[rows, contexts] + 1e-9).mean() for t in choices])]


def scores(predicted, contexts):
    """Returns accuracy, unweighted recall and macro F1."""
    recall, f1 = [], []
    for context in range(3):
        hits = ((predicted == context) & (contexts == context)).sum()
        recall.append(hits / max((contexts == context).sum(), 1))
        f1.append(2 * hits / max((predicted == context).sum() + (contexts == context).sum(), 1))
    return (predicted == contexts).mean(), np.mean(recall), np.mean(f1)


def with_interval(predicted, contexts, cats, rng, rounds=1_000):
    """Returns the scores as text, each with its 95 % interval (bootstrap over cats)."""
    names, drawn = np.unique(cats), []
    for _ in range(rounds):
        rows = np.concatenate([np.flatnonzero(cats == cat) for cat in rng.choice(names, len(names))])
        drawn.append(scores(predicted[rows], contexts[rows]))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return [f"{value:.3f} [{a:.3f}, {b:.3f}]" for value, a, b in zip(scores(predicted, contexts), low, high)]


def calibration_error(probabilities, contexts, bins=10):
    """Returns the expected calibration error of the most probable context."""
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == contexts
    place = np.minimum((sure * bins).astype(int), bins - 1)
    return sum(abs(sure[place == b].mean() - right[place == b].mean()) * (place == b).mean() for b in range(bins) if (place == b).any())


def fnv1a(data):
    """Returns the id of a network, from the bytes of its weights file, as sound/src/model.rs computes it."""
    value = 0xcbf29ce484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001b3 % 2**64
    return value


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=pathlib.Path, default=here / "../../shared/data/manifest.csv")
    parser.add_argument("--hear", type=pathlib.Path, default=here / "../target/release/examples/hear")
    parser.add_argument("--weights", type=pathlib.Path, help="use this network instead of the shipped one")
    parser.add_argument("--out", type=pathlib.Path, default=here / "../sound/weights/context.bin")
    parser.add_argument("--meows", type=pathlib.Path, help="also write the meows, with their logits by a classifier trained on the other cats")
    parser.add_argument("--without", nargs="+", default=[], metavar="PART:FILE", help="networks trained without this part, to classify its cats",
                        type=lambda text: (int(text.split(":", 1)[0]), text.split(":", 1)[1]))
    arguments = parser.parse_args()
    rows = meows(arguments.manifest, arguments.hear, arguments.weights)
    prosody, embedding, contexts, cats = arrays(rows)

    logits = leave_cats_out(prosody, embedding, contexts, cats)
    # The temperature for a cat is fitted on the other cats.
    calibrated = np.empty_like(logits)
    for cat in np.unique(cats):
        own = cats == cat
        calibrated[own] = logits[own] / temperature_of(logits[~own], contexts[~own])
    probabilities, rng = softmax(calibrated), np.random.default_rng(1)
    named = probabilities.max(axis=1) >= 0.5
    print(f"{len(rows)} meows of {len(np.unique(cats))} cats, each classified by a classifier trained on the other cats")
    print("columns: accuracy, unweighted recall, macro F1, with 95 % intervals over cats")
    print("  classifier        ", *with_interval(calibrated.argmax(axis=1), contexts, cats, rng), sep="  ")
    print("  always isolation  ", *with_interval(np.ones_like(contexts), contexts, cats, rng), sep="  ")
    print("  length alone      ", *with_interval(leave_cats_out(prosody[:, :1], embedding[:, :0], contexts, cats).argmax(axis=1), contexts, cats, rng), sep="  ")
    if arguments.without:
        others = without_hearing_the_cat(arguments.manifest, arguments.hear, dict(arguments.without))
        print(f"  network trained without the cat too ({len(others[1])} meows of {len(np.unique(others[2]))} cats)", *with_interval(others[0].argmax(axis=1), *others[1:], rng), sep="  ")
    print(f"  named (not uncertain): {named.mean():.3f} of the meows, right in {(probabilities.argmax(1) == contexts)[named].mean():.3f} of them")
    brier = ((probabilities - np.eye(3)[contexts]) ** 2).sum(axis=1).mean()
    prior = np.bincount(contexts, minlength=3) / len(contexts)
    print(f"  calibration error {calibration_error(probabilities, contexts):.3f}; Brier score {brier:.3f} (frequencies of the contexts alone: "
          f"{((prior - np.eye(3)[contexts]) ** 2).sum(axis=1).mean():.3f})")

    final, temperature = Classifier(prosody, embedding, contexts, cats), temperature_of(logits, contexts)
    numbers = [final.mean_embedding, final.mean, final.deviation, [GAMMA], final.bias / temperature]
    numbers += [np.concatenate([place, vote / temperature]) for place, vote in zip(final.known, final.votes)]
    numbers = np.concatenate([np.asarray(part, float) for part in numbers])
    network = fnv1a((arguments.weights or here / "../sound/weights/model.bin").read_bytes())
    arguments.out.write_bytes(MAGIC + struct.pack(f"<Q{len(numbers)}f", network, *numbers))
    print(f"temperature {temperature:.2f}; {arguments.out}: {arguments.out.stat().st_size} bytes")
    if arguments.meows:
        with open(arguments.meows, "w") as file:
            for row, general in zip(rows, calibrated):
                file.write(json.dumps(row | {"general": general.tolist()}) + "\n")


if __name__ == "__main__":
    main()

"""Trains the context classifier, evaluates it on cats it has not seen, and writes the file for sound/src/context.rs."""

import argparse
import json
import pathlib
import struct

import numpy as np

import corpus
import frontend
import listen

MAGIC = b"MEOWCTX5"
OUTLIER_DEVIATIONS = 3.0

# Penalties on the squared weights, from which the other cats choose: see `chosen`.
PENALTIES = (100.0, 300.0, 1_000.0, 3_000.0)

STEPS = 80


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def weights_of(contexts, cats):
    """Returns the weight of each meow. All contexts weigh alike; within a context, a cat weighs as the square root of its meows."""
    weight = np.ones(len(contexts))
    for cat in np.unique(cats):
        for context in range(3):
            own = (cats == cat) & (contexts == context)
            weight[own] = max(own.sum(), 1) ** -0.5
    for context in range(3):
        weight[contexts == context] /= weight[contexts == context].sum()
    return weight * len(weight) / weight.sum()


class Classifier:
    """Multinomial logistic regression on the length and the embedding, each number in standard deviations from the mean meow."""

    def __init__(self, inputs, contexts, cats, penalty):
        self.mean, self.deviation = inputs.mean(axis=0), inputs.std(axis=0) + 1e-6
        known, weight, truth = self.standard(inputs), weights_of(contexts, cats), np.eye(3)[contexts]
        # Newton steps with a fixed upper bound of the curvature (D. Boehning, "Multinomial logistic regression
        # algorithm", 1992), so that the matrix is inverted once.
        inverse = np.linalg.inv(known.T @ (known * (0.5 * weight)[:, None]) + penalty * np.eye(known.shape[1]))
        self.weights, self.bias = np.zeros((known.shape[1], 3)), np.zeros(3)
        for _ in range(STEPS):
            error = weight[:, None] * (truth - softmax(known @ self.weights + self.bias))
            self.weights += inverse @ (known.T @ error - penalty * self.weights)
            self.bias += 2 * error.sum(axis=0) / weight.sum()

    def standard(self, inputs):
        return ((inputs - self.mean) / self.deviation).clip(-OUTLIER_DEVIATIONS, OUTLIER_DEVIATIONS)

    def logits(self, inputs):
        return self.standard(inputs) @ self.weights + self.bias


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


def leave_cats_out(inputs, contexts, cats, penalty):
    """Returns the logits of each meow, by a classifier trained on the other cats."""
    out = np.empty((len(contexts), 3))
    for cat in np.unique(cats):
        own = cats == cat
        out[own] = Classifier(inputs[~own], contexts[~own], cats[~own], penalty).logits(inputs[own])
    return out


def chosen(inputs, contexts, cats):
    """Returns the penalty and the temperature that fit best when each cat in turn is left out.

    The temperature divides the logits, so that their probabilities are right as often as they say for cats that the
    classifier does not know.
    """
    found = []
    for penalty in PENALTIES:
        logits = leave_cats_out(inputs, contexts, cats, penalty)
        temperature = temperature_of(logits, contexts, cats)
        found.append((loss(logits / temperature, contexts, cats), penalty, temperature))
    return min(found)[1:]


def nested(inputs, contexts, cats):
    """Returns calibrated logits of each meow. Nothing behind them, penalty and temperature included, knows its cat."""
    out = np.empty((len(contexts), 3))
    for cat in np.unique(cats):
        own = cats == cat
        penalty, temperature = chosen(inputs[~own], contexts[~own], cats[~own])
        out[own] = Classifier(inputs[~own], contexts[~own], cats[~own], penalty).logits(inputs[own]) / temperature
    return out


def arrays(rows):
    """Returns arrays of inputs (length and embedding), context and cat, with one entry for each meow."""
    inputs = np.array([row["prosody"][:1] + row["embedding"] for row in rows])
    return [inputs] + [np.array([row[name] for row in rows]) for name in ("context", "cat")]


def without_hearing_the_cat(manifest, hear, weights):
    """Returns calibrated logits, contexts and cats of meows, by a classifier and a network that both do not know the cat.

    `weights` has, for each part of the split, the network that was trained without it.
    """
    clips = [clip for clip in corpus.read_manifest(manifest) if clip.dataset in corpus.TRAINING_DATASETS]
    part_of = corpus.split(clips)
    cats_of = {part: {clip.group for clip in clips if clip.dataset == "catmeows" and part_of[clip.path] == part} for part in weights}
    found = []
    for part, file in weights.items():
        inputs, contexts, cats = arrays(meows(manifest, hear, file))
        own = np.isin(cats, sorted(cats_of[part]))
        found.append((nested(inputs, contexts, cats)[own], contexts[own], cats[own]))
    return [np.concatenate(parts) for parts in zip(*found)]


def loss(logits, contexts, cats):
    """Returns the mean negative log-likelihood, in which all contexts weigh alike."""
    probabilities = softmax(logits)[np.arange(len(contexts)), contexts]
    return np.average(-np.log(probabilities + 1e-9), weights=weights_of(contexts, cats))


def temperature_of(logits, contexts, cats):
    """Returns the divisor of the logits that makes their probabilities fit best."""
    choices = np.geomspace(0.3, 5, 60)
    return choices[np.argmin([loss(logits / t, contexts, cats) for t in choices])]


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


def how_certain(logits, contexts):
    """Prints how many meows get a named context, how often it is right, and whether the probabilities say so."""
    probabilities = softmax(logits)
    named = probabilities.max(axis=1) >= 0.5
    right, said = (probabilities.argmax(axis=1) == contexts)[named].mean(), probabilities.max(axis=1)[named].mean()
    brier = ((probabilities - np.eye(3)[contexts]) ** 2).sum(axis=1).mean()
    prior = np.bincount(contexts, minlength=3) / len(contexts)
    alone = ((prior - np.eye(3)[contexts]) ** 2).sum(axis=1).mean()
    print(f"  named (not uncertain): {named.mean():.3f} of the meows, right in {right:.3f} of them, their mean probability {said:.3f}")
    print(f"  calibration error {calibration_error(probabilities, contexts):.3f}; Brier score {brier:.3f} (frequencies of the contexts alone: {alone:.3f})")


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
                        type=listen.part_and_file)
    arguments = parser.parse_args()
    rows = meows(arguments.manifest, arguments.hear, arguments.weights)
    inputs, contexts, cats = arrays(rows)

    calibrated, rng = nested(inputs, contexts, cats), np.random.default_rng(1)
    print(f"{len(rows)} meows of {len(np.unique(cats))} cats, each classified by a classifier that does not know its cat")
    print("columns: accuracy, unweighted recall, macro F1, with 95 % intervals over cats")
    print("  classifier        ", *with_interval(calibrated.argmax(axis=1), contexts, cats, rng), sep="  ")
    print("  always isolation  ", *with_interval(np.ones_like(contexts), contexts, cats, rng), sep="  ")
    print("  length alone      ", *with_interval(nested(inputs[:, :1], contexts, cats).argmax(axis=1), contexts, cats, rng), sep="  ")
    how_certain(calibrated, contexts)
    if arguments.without:
        others = without_hearing_the_cat(arguments.manifest, arguments.hear, dict(arguments.without))
        print(f"  network trained without the cat too ({len(others[1])} meows of {len(np.unique(others[2]))} cats)", *with_interval(others[0].argmax(axis=1), *others[1:], rng), sep="  ")
        how_certain(*others[:2])

    penalty, temperature = chosen(inputs, contexts, cats)
    final = Classifier(inputs, contexts, cats, penalty)
    prosody = np.array([row["prosody"] for row in rows])
    scales = [prosody.mean(axis=0), prosody.std(axis=0) + 1e-6, final.mean[1:], final.deviation[1:]]
    numbers = np.concatenate(scales + [final.bias / temperature, (final.weights / temperature).T.ravel()])
    network = fnv1a((arguments.weights or here / "../sound/weights/model.bin").read_bytes())
    arguments.out.write_bytes(MAGIC + struct.pack(f"<Q{len(numbers)}f", network, *numbers))
    print(f"penalty {penalty:.0f}, temperature {temperature:.2f}; {arguments.out}: {arguments.out.stat().st_size} bytes")
    if arguments.meows:
        with open(arguments.meows, "w") as file:
            for row, general in zip(rows, calibrated):
                file.write(json.dumps(row | {"general": general.tolist()}) + "\n")


if __name__ == "__main__":
    main()

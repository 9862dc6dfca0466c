"""Asks whether a verifier would help: logistic regression on score and embedding that withholds events as no cats.

It does not ship; docs/MODEL.md says why. Each part of the split is measured with a network, a verifier and a threshold
that do not know it. The verifier learns from events of the other parts, in one of three ways: "known" events of the
network that is measured, which knows the recordings; "unknown" events, each heard by the network that does not know the
recording; or both. Penalty and threshold come from inner folds over sources. How sources are dealt into these folds
changes the figures, so they are means over several deals. Intervals are 95 %, over sources.

Give the weights that kinds.py takes. Hearing takes minutes, so its result can be kept in a file.
"""

import argparse
import collections
import json
import pathlib

import numpy as np

import corpus
import frontend
import kinds
import listen

PENALTIES = (10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0)
DEALS, FOLDS, STEPS = 8, 5, 25
OUTLIER_DEVIATIONS = 3.0
# Shares of the meows that a threshold may lose in the inner folds.
LOSSES = (0.005, 0.01, 0.02)
MIN_SCORE = 0.5
MEOWS = ("meow", "meow, other homes", "cat of ESC-50")
BABIES = "crying babies"
NAME_WIDTH, CELL_WIDTH = 30, 20
# Columns, and which kinds each has.
COLUMNS = {
    "babies": lambda kind, is_cat: kind == BABIES,
    "other sounds": lambda kind, is_cat: not is_cat and kind != BABIES,
    "CatMeows": lambda kind, is_cat: kind == "meow",
    "other homes": lambda kind, is_cat: kind == "meow, other homes",
    "ESC-50": lambda kind, is_cat: kind == "cat of ESC-50",
    "all meows": lambda kind, is_cat: kind in MEOWS,
    "purrs": lambda kind, is_cat: kind == "purr",
}


def hear(manifest, program, weights):
    """Yields, for each network and piece, what the piece is, and its events at the defaults and down to KEEN_SCORE."""
    clips = [clip for clip in corpus.read_manifest(manifest) if clip.dataset in corpus.TRAINING_DATASETS]
    part_of = corpus.split(clips)
    for network, file in weights.items():
        listeners = {"events": listen.Listener(program, "--weights", file),
                     "keen": listen.Listener(program, "--weights", file, "--min-score", kinds.KEEN_SCORE)}
        for clip in clips:
            if clip.dataset in ("catmeows_sequence", "catmeows_other_voc"):
                continue
            for number, samples in enumerate(kinds.pieces(corpus.load(manifest.parent, clip))):
                row = {"network": network, "part": part_of[clip.path], "piece": f"{clip.path} {number}", "source": kinds.source_of(clip), "is_cat": clip.is_cat,
                       "kind": kinds.kind_of(clip, kinds.CATS if clip.is_cat else kinds.OTHERS), "hours": len(samples) / corpus.RATE_HZ / 3_600}
                for name, listener in listeners.items():
                    events = listener(frontend.to_i16(samples))["events"]
                    row[name] = [{"score": event["score"], "embedding": event["embedding"]} for event in events]
                yield row


class Events:
    """The events of some pieces as arrays: log-odds of the score and embedding, and what the piece is."""

    def __init__(self, rows, which):
        pairs = [(row, event) for row in rows for event in row[which]]
        score = np.array([event["score"] for _, event in pairs]).clip(1e-4, 1 - 1e-4)
        self.inputs = np.column_stack([np.log(score / (1 - score)), np.array([event["embedding"] for _, event in pairs])])
        self.is_cat, self.source, self.kind, self.piece = (np.array([row[name] for row, _ in pairs]) for name in ("is_cat", "source", "kind", "piece"))
        # The meows that are events at the defaults: what a threshold may lose.
        self.is_meow = np.isin(self.kind, MEOWS) & (score >= MIN_SCORE)

    def weights(self, chosen):
        """Returns the weight of each event: cats weigh as much as others, purrs a quarter of cats, babies half of others."""
        is_cat, kind, weight = self.is_cat[chosen], self.kind[chosen], np.zeros(len(chosen))
        for source in np.unique(self.source[chosen]):
            own = self.source[chosen] == source
            weight[own] = own.sum() ** -0.5
        for group, share in ((kind == "purr", 0.25), (is_cat & (kind != "purr"), 0.75), (kind == BABIES, 0.5), (~is_cat & (kind != BABIES), 0.5)):
            weight[group] *= share / max(weight[group].sum(), 1e-9)
        return weight * len(weight) / weight.sum()


class Verifier:
    """Logistic regression by Newton's method. The weight of the score is hardly penalised."""

    def __init__(self, events, chosen, penalty):
        inputs, truth, weight = events.inputs[chosen], events.is_cat[chosen], events.weights(chosen)
        self.mean, self.deviation = inputs.mean(axis=0), inputs.std(axis=0) + 1e-6
        known = self.standard(inputs)
        self.slopes, penalties = np.zeros(known.shape[1]), np.diag([1.0] + [penalty] * (known.shape[1] - 2) + [1e-6])
        for _ in range(STEPS):
            share = 1 / (1 + np.exp(-(known @ self.slopes).clip(-30, 30)))
            curvature = known.T @ (known * (weight * np.maximum(share * (1 - share), 1e-4))[:, None]) + penalties
            self.slopes += np.linalg.solve(curvature, known.T @ (weight * (truth - share)) - penalties @ self.slopes)

    def standard(self, inputs):
        return np.column_stack([((inputs - self.mean) / self.deviation).clip(-OUTLIER_DEVIATIONS, OUTLIER_DEVIATIONS), np.ones(len(inputs))])

    def __call__(self, inputs):
        return self.standard(inputs) @ self.slopes


def learn(events, deal):
    """Returns a verifier and, by allowed loss, its threshold. Sources that the inner verifier does not know choose both."""
    names, everyone = np.unique(events.source), np.arange(len(events.is_cat))
    fold_of = dict(zip(np.random.default_rng(deal).permutation(names), np.arange(len(names)) % FOLDS))
    fold, found = np.array([fold_of[source] for source in events.source]), []
    for penalty in PENALTIES:
        logits = np.empty(len(everyone))
        for own in (fold == number for number in range(FOLDS)):
            logits[own] = Verifier(events, everyone[~own], penalty)(events.inputs[own])
        loss = np.average(np.logaddexp(0, np.where(events.is_cat, -logits, logits)), weights=events.weights(everyone))
        found.append((loss, penalty, logits))
    _, penalty, logits = min(found, key=lambda one: one[0])
    return Verifier(events, everyone, penalty), thresholds(logits[events.is_meow])


def thresholds(logits):
    """Returns, by allowed loss, the highest threshold that loses no more of these."""
    return {loss: np.sort(logits)[int(loss * len(logits))] for loss in LOSSES}


def report(name, rows, kept):
    """Prints false alarms an hour and recall, the means of deals. In each, pieces have kept this many events."""
    rng, cells = np.random.default_rng(1), []
    for is_one in COLUMNS.values():
        own = [row for row in rows if is_one(row["kind"], row["is_cat"])]
        if own[0]["is_cat"]:
            counts = [(row["source"], np.mean([deal[row["piece"]] > 0 for deal in kept]), 1) for row in own]
        else:
            counts = [(row["source"], np.mean([deal[row["piece"]] for deal in kept]), row["hours"]) for row in own]
        value, low, high, _ = kinds.interval(counts, rng)
        digits = 3 if own[0]["is_cat"] else 1
        cells.append(f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
    babies = [sum(deal[row["piece"]] for row in rows if row["kind"] == BABIES) for deal in kept]
    print(f"{name:{NAME_WIDTH}}", *(f"{cell:{CELL_WIDTH}}" for cell in cells), f"{min(babies)} to {max(babies)}", flush=True)


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=pathlib.Path, default=here / "../../shared/data/manifest.csv")
    parser.add_argument("--hear", type=pathlib.Path, default=here / "../target/release/examples/hear")
    parser.add_argument("--heard", type=pathlib.Path, help="keep what was heard in this file, or read it if it exists")
    parser.add_argument("weights", nargs="+", metavar="PART:FILE", help="weights trained without that part",
                        type=listen.part_and_file)
    arguments = parser.parse_args()
    if arguments.heard and arguments.heard.exists():
        rows = [json.loads(line) for line in open(arguments.heard)]
    else:
        rows = list(hear(arguments.manifest, arguments.hear, dict(arguments.weights)))
        if arguments.heard:
            arguments.heard.write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts = [part for part, _ in arguments.weights]
    unknown = [row for row in rows if row["network"] == row["part"]]
    tested = {part: Events([row for row in unknown if row["part"] == part], "events") for part in parts}
    print("false alarms an hour, then recall; last: false alarms of babies, lowest and highest of the deals")
    print(" " * NAME_WIDTH, *(f"{name:{CELL_WIDTH}}" for name in COLUMNS))
    report("no verifier", unknown, [collections.Counter(piece for events in tested.values() for piece in events.piece)])

    kept = {loss: collections.Counter() for loss in LOSSES}
    for part, events in tested.items():
        others = np.concatenate([other.inputs[other.is_meow, 0] for number, other in tested.items() if number != part])
        for loss, threshold in thresholds(others).items():
            kept[loss].update(events.piece[events.inputs[:, 0] >= threshold])
    for loss in LOSSES:
        report(f"higher min_score, {loss:.1%} lost", unknown, [kept[loss]])
    ways = {"known": lambda row, part: row["network"] == part, "unknown": lambda row, part: row["network"] == row["part"],
            "both": lambda row, part: row["network"] in (part, row["part"])}
    for way, is_one in ways.items():
        kept = {loss: [collections.Counter() for _ in range(DEALS)] for loss in LOSSES}
        for part, events in tested.items():
            learnt_from = Events([row for row in rows if row["part"] != part and is_one(row, part)], "keen")
            for deal in range(DEALS):
                verifier, chosen = learn(learnt_from, deal)
                for loss, threshold in chosen.items():
                    kept[loss][deal].update(events.piece[verifier(events.inputs) >= threshold])
        for loss in LOSSES:
            report(f"from {way} events, {loss:.1%} lost", unknown, kept[loss])


if __name__ == "__main__":
    main()

"""Counts false alarms an hour and recall by kind of sound, with the product's own detector at its defaults.

Every recording is heard by weights that were trained without its source. Give a weights file for each part of the split:
see evaluate.py. Intervals are 95 %, over sources.
"""

import argparse
import collections
import json
import pathlib

import numpy as np

import corpus
import frontend
import listen
import teacher

# Kinds of sounds without a cat: the names of rows, and which clips they have.
OTHERS = {
    "crying babies": lambda clip: clip.is_baby,
    "birds": lambda clip: clip.kind in ("Bird", "Crow", "Rooster", "Hen", "Chirping birds"),
    "dogs": lambda clip: clip.kind.startswith("Dog"),
    "other animals": lambda clip: clip.kind in ("Animal", "Sheep", "Cow", "Pig", "Frog", "Insects", "Crickets", "Insects (flying)"),
    "squeaks and doors": lambda clip: clip.kind == "Squeak" or "Door" in clip.label or "door" in clip.label,
    "music": lambda clip: clip.kind == "Music",
    "people": lambda clip: clip.label in ("Laughing", "Sneezing", "Coughing", "Snoring", "Breathing", "Clapping", "Footsteps", "Drinking - sipping"),
    "all the rest": lambda clip: True,
}
CATS = {
    "purr": lambda clip: clip.is_purr,
    "meow": lambda clip: clip.dataset == "catmeows",
    "meow, other homes": lambda clip: clip.label == "Cat meow",
    "cat of ESC-50": lambda clip: clip.label == "Cat",
    "hiss, yowl and others": lambda clip: True,
}
QUIET_S = 1.0
# Long recordings count once for each piece of this length.
PIECE_S = 5.0
# False alarms are rare, so those that --events writes go down to this score.
KEEN_SCORE = "0.05"


def kind_of(clip, kinds):
    return next(name for name, is_one in kinds.items() if is_one(clip))


def source_of(clip):
    """Returns the baby, uploader or cat that a recording comes from."""
    return clip.group.split("|")[0] if clip.dataset == "donateacry" else clip.group.split("|")[-1]


def pieces(samples):
    count = int(PIECE_S * corpus.RATE_HZ)
    parts = [samples[begin:begin + count] for begin in range(0, max(1, len(samples) - count // 2), count)]
    quiet = np.zeros(int(QUIET_S * corpus.RATE_HZ), np.float32)
    return [np.concatenate([quiet, part, quiet]) for part in parts]


def interval(rows, rng, rounds=500):
    """Returns the ratio of two sums over (source, numerator, denominator), with its interval by drawing sources."""
    names = sorted({source for source, _, _ in rows})
    sums = np.array([[sum(row[1] for row in rows if row[0] == name), sum(row[2] for row in rows if row[0] == name)] for name in names], float)
    drawn = []
    for _ in range(rounds):
        top, bottom = sums[rng.integers(0, len(names), len(names))].sum(0)
        drawn.append(top / bottom)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return sums[:, 0].sum() / sums[:, 1].sum(), low, high, len(names)


class Yamnet:
    """The teacher as a detector: a patch at or above a threshold, and those that follow it, are one event."""

    def __init__(self, path, threshold):
        self.teach, self.threshold = teacher.Teacher(path, keep_all=False), threshold

    def __call__(self, samples):
        samples = np.concatenate([samples, np.zeros(teacher.PATCH_SAMPLES, np.float32)])
        over = self.teach.scores(samples)[:, [76, 77, 78, 79, 80]].max(1) >= self.threshold
        return int((over & ~np.concatenate([[False], over[:-1]])).sum())


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=pathlib.Path, default=here / "../../shared/data/manifest.csv")
    parser.add_argument("--hear", type=pathlib.Path, default=here / "../target/release/examples/hear")
    parser.add_argument("--yamnet", type=float, metavar="SCORE", help="count for YAMNet too, at this score")
    parser.add_argument("--events", type=pathlib.Path, metavar="FILE", help="also write all events, for sound/examples/rejector.rs: a line of JSON for each")
    parser.add_argument("weights", nargs="*", metavar="PART:FILE", type=listen.part_and_file, help="weights trained without that part; default: the shipped ones for all")
    arguments = parser.parse_args()
    folder = arguments.manifest.parent
    clips = [clip for clip in corpus.read_manifest(arguments.manifest) if clip.dataset in corpus.TRAINING_DATASETS]
    part_of = corpus.split(clips)
    yamnet = Yamnet(folder / "teacher/yamnet.tflite", arguments.yamnet) if arguments.yamnet else None
    rows, written = collections.defaultdict(list), open(arguments.events, "w") if arguments.events else None
    for part, weights in arguments.weights or [(None, None)]:
        chosen = ["--weights", weights] if weights else []
        listener = listen.Listener(arguments.hear, *chosen)
        keen = listen.Listener(arguments.hear, "--min-score", KEEN_SCORE, *chosen) if written else None
        for clip in clips:
            if part not in (None, part_of[clip.path]) or clip.dataset in ("catmeows_sequence", "catmeows_other_voc"):
                continue
            source = source_of(clip)
            for samples in pieces(corpus.load(folder, clip)):
                events = listener(frontend.to_i16(samples))["events"]
                heard = {"product": len(events)}
                if written:
                    found = events if clip.is_cat else keen(frontend.to_i16(samples))["events"]
                    for event in found:
                        row = {"source": source, "is_cat": clip.is_cat, "label": clip.label, "score": event["score"], "embedding": event["embedding"]}
                        written.write(json.dumps(row) + "\n")
                if yamnet:
                    heard["YAMNet"] = yamnet(samples)
                hours = len(samples) / corpus.RATE_HZ / 3_600
                for who, events in heard.items():
                    if clip.is_cat:
                        rows[who, "recall", kind_of(clip, CATS)].append((source, events > 0, 1))
                    else:
                        rows[who, "alarms", kind_of(clip, OTHERS)].append((source, events, hours))
                        if not clip.is_baby:
                            rows[who, "alarms", "all but babies"].append((source, events, hours))
    rng = np.random.default_rng(1)
    for who in dict.fromkeys(name for name, _, _ in rows):
        for measure, unit, kinds in (("alarms", "false alarms an hour", [*OTHERS, "all but babies"]), ("recall", "recall", CATS)):
            for kind in kinds:
                if (who, measure, kind) in rows:
                    value, low, high, sources = interval(rows[who, measure, kind], rng)
                    digits = 2 if measure == "recall" else 1
                    print(f"{who:8} {unit:20} {kind:22} {value:7.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]  {sources} sources, {len(rows[who, measure, kind])} pieces", flush=True)


if __name__ == "__main__":
    main()

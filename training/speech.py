"""Measures the speech gate: what it leaves of clips with speech and cats, with the product's own code.

Speech is spoken digits (FSDD) and espeak-ng, cats are CatMeows. The clip of an event is what the hub would cut: the
event with half a second before and after it.
"""

import argparse
import pathlib

import numpy as np

import corpus
import frontend
import listen
import synthesis

ROLL_SAMPLES = 8_000
ROUNDS = 60


def talk(rng, spoken, seconds):
    """Returns this many seconds of utterances, one after the other."""
    pieces = []
    while sum(map(len, pieces)) < seconds * corpus.RATE_HZ:
        pieces += [synthesis.unit_peak(spoken[rng.integers(len(spoken))]), np.zeros(int(rng.uniform(500, 4_000)), np.float32)]
    return synthesis.unit_peak(np.concatenate(pieces)[:int(seconds * corpus.RATE_HZ)])


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=pathlib.Path, default=here / "../../shared/data/manifest.csv")
    parser.add_argument("--hear", type=pathlib.Path, default=here / "../target/release/examples/hear")
    arguments = parser.parse_args()
    folder, rng = arguments.manifest.parent, np.random.default_rng(1)
    clips = corpus.read_manifest(arguments.manifest)
    load = lambda dataset: [corpus.load(folder, clip) for clip in clips if clip.dataset == dataset]
    meows = [synthesis.unit_peak(samples) for samples in load("catmeows")]
    voices = {"digits": load("fsdd"), "espeak-ng": synthesis.speech(0) + synthesis.speech(1) + synthesis.speech(2)}
    hear = listen.Listener(arguments.hear)
    # With this threshold speech gives an event too.
    hear_anything = listen.Listener(arguments.hear, "--min-score", "0.0001")

    def best_event(listener, samples):
        events = listener(frontend.to_i16(0.5 * samples / max(1e-9, np.abs(samples).max())))["events"]
        return max(events, key=lambda event: event["score"], default=None)

    def clip_of(event, count):
        return max(0, event["start_sample"] - ROLL_SAMPLES), min(count, event["end_sample"] + ROLL_SAMPLES)

    def report(what, events):
        """Prints the result for a list of events, each with the length of its recording and where it has speech."""
        kept = [row for row in events if row[0]["clip"]]
        words = [(row[0]["clip"][1] - row[0]["clip"][0], row[2][row[0]["clip"][0]:row[0]["clip"][1]].mean()) for row in kept]
        before = [row[2][slice(*clip_of(row[0], row[1]))].mean() for row in events]
        share = np.mean([share for _, share in words]) if words else 0.0
        print(f"{what}: {len(kept)} of {len(events)} clips kept; share of speech {np.mean(before):.2f} before the gate, {share:.2f} in the clips kept", flush=True)

    for voice, spoken in voices.items():
        events, heard = [], 0
        for _ in range(ROUNDS):
            samples = talk(rng, spoken, 4)
            heard += best_event(hear, samples) is not None
            event = best_event(hear_anything, samples)
            if event:
                events.append((event, len(samples), np.ones(len(samples), bool)))
        print(f"{voice} alone: {heard} of {ROUNDS} stretches of 4 s give an event")
        report(f"{voice} alone, with a threshold at which all give an event", events)
    events = []
    for meow in meows:
        event = best_event(hear, meow)
        if event:
            events.append((event, len(meow), np.zeros(len(meow), bool)))
    report("cats alone", events)
    for voice, spoken in voices.items():
        for name in ("before and after", "under", "as loud as"):
            events = []
            for _ in range(ROUNDS):
                meow = meows[rng.integers(len(meows))][8_000:]
                said = talk(rng, spoken, 5)
                begin = 32_000
                meow = meow[: len(said) - begin]
                speaks = np.ones(len(said), bool)
                if name == "before and after":
                    # A breath of silence between the words and the meow.
                    speaks[begin - 4_800:begin + len(meow)] = False
                    said = said * speaks
                else:
                    said = said * (0.1 if name == "under" else 1.0)
                said[begin:begin + len(meow)] += meow
                event = best_event(hear, said)
                if event and event["start_sample"] < begin + len(meow) and event["end_sample"] > begin:
                    events.append((event, len(said), speaks))
            report(f"{voice} {name} a meow", events)


if __name__ == "__main__":
    main()

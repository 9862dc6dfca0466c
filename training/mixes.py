"""Mixes cats and other sounds with backgrounds, five seconds each, so that nothing but the sound itself reveals a cat.

Cats and other foreground sounds are cut, sped up or down, put into rooms, filtered and scaled in the same way, and get
the same backgrounds. So length, padding, level, codec and band limit carry no information.
"""

import dataclasses

import numpy as np
import scipy.fft

import corpus
import synthesis

RATE_HZ = corpus.RATE_HZ
MIX_SAMPLES = 81_920

# The network answers every 64 ms. Answer j is about the time around sample j * STEP_SAMPLES + 256 (see network.py).
STEP_SAMPLES = 1_024
STEPS = MIX_SAMPLES // STEP_SAMPLES

# Step labels.
CAT, OTHER, UNSURE = 1, 0, -1

HARD_LABELS = {"Crying baby", "Door - wood creaks", "Crow", "Rooster", "Sheep", "Chirping birds", "Laughing", "Siren", "Dog", "Cow", "Hen",
               "Snoring", "Frog", "Insects", "Car horn", "Sneezing", "Coughing", "Hand saw", "Pig", "Church bells"}


@dataclasses.dataclass
class Sources:
    """The sounds of one part of the split: events for the foreground, long sounds for the background."""

    cats: list           # (weight, samples)
    cat_clips: list      # whole clips with cats in them
    purrs: list          # (weight, samples): long, quiet
    others: list         # (weight, samples): foreground events other than cats
    babies: list         # (weight, samples): cries, which others has too
    backgrounds: list    # whole clips without a cat
    spoken: list


def envelope(samples, block=320):
    """Returns the level of each 20 ms, in dB of full scale."""
    blocks = samples[: len(samples) // block * block].reshape(-1, block)
    return 10 * np.log10((blocks ** 2).mean(axis=1) + 1e-10)


def active_runs(samples, silence_s=0.25, below_peak_db=26):
    """Returns ranges of samples that are louder than the recording's floor, merged if the silence between is short."""
    level = envelope(samples)
    if len(level) < 5:
        return [(0, len(samples))]
    threshold = max(level.max() - below_peak_db, min(np.percentile(level, 10) + 8, level.max() - 10))
    runs = []
    for block in np.flatnonzero(level > threshold):
        if runs and block - runs[-1][1] <= silence_s * 50:
            runs[-1][1] = block + 1
        else:
            runs.append([block, block + 1])
    return [(max(0, a * 320 - 640), min(len(samples), b * 320 + 960)) for a, b in runs if b - a >= 3]


def events_of(samples, longest_s=4.5):
    """Returns the active stretches of a recording, each with short fades."""
    events = []
    for begin, end in active_runs(samples):
        event = samples[begin:min(end, begin + int(longest_s * RATE_HZ))].copy()
        fade = min(320, len(event) // 4)
        ramp = np.linspace(0, 1, fade, dtype=np.float32)
        event[:fade] *= ramp
        event[len(event) - fade:] *= ramp[::-1]
        events.append(synthesis.unit_peak(event))
    return events


def sources_of(folder, clips, part):
    """Reads the clips of one part."""
    cats, cat_clips, purrs, others, babies, backgrounds = [], [], [], [], [], []
    per_cat = {}
    for clip in clips:
        samples = corpus.load(folder, clip)
        if np.abs(samples).max() < 1e-4:
            continue
        if clip.is_purr:
            # A purr hardly changes for minutes. Each uploader weighs alike, however long the purr is.
            pieces = pieces_of(samples)
            purrs += [(1.0 / len(pieces), piece) for piece in pieces]
        elif clip.is_cat:
            # The weight of a cat (or a recording) grows only slowly with its meows. ESC-50's few cats weigh double.
            events = events_of(samples)
            # Shorter pieces are clicks and footsteps between the meows.
            events = [event for event in events if len(event) > 0.3 * RATE_HZ] or events[:1]
            # A cat that is not in CatMeows has an uploader for a name.
            per_cat.setdefault((clip.group.split("|")[-1], not clip.dataset.startswith("catmeows")), []).extend(events)
            if clip.dataset == "esc50":
                cat_clips.append(samples)
        else:
            events = events_of(samples)[:3]
            if clip.is_baby:
                babies += [(1.0, event) for event in events]
            if clip.dataset != "donateacry":
                backgrounds.append(samples)
                weight = 3.0 if clip.label in HARD_LABELS or clip.dataset == "found_other" else 1.0
                others += [(weight, event) for event in events]
    for (_, is_esc), events in sorted(per_cat.items(), key=lambda item: item[0]):
        cats += [((2.0 if is_esc else 1.0) / len(events) ** 0.7, event) for event in events]
    return Sources(cats, cat_clips, purrs, others, babies, backgrounds, synthesis.speech(part))


def pieces_of(samples, piece_s=4.5):
    """Cuts a long, even sound into pieces with short fades. What is much softer than the rest is left out."""
    count = int(piece_s * RATE_HZ)
    pieces = [samples[begin:begin + count] for begin in range(0, max(1, len(samples) - count // 2), count)]
    levels = [np.sqrt((piece ** 2).mean()) for piece in pieces]
    ramp = np.linspace(0, 1, 3_200, dtype=np.float32)
    faded = []
    for piece, level in zip(pieces, levels):
        if level > max(levels) / 10:
            piece = synthesis.unit_peak(piece).copy()
            piece[:3_200] *= ramp
            piece[-3_200:] *= ramp[::-1]
            faded.append(piece)
    return faded


def pick(rng, weighted):
    """Draws one of the sounds, by weight."""
    weights = np.array([weight for weight, _ in weighted])
    return weighted[rng.choice(len(weighted), p=weights / weights.sum())][1]


def resped(rng, samples, low, high):
    """Plays a sound faster or slower, which shifts its pitch too."""
    rate = np.exp(rng.uniform(np.log(low), np.log(high)))
    positions = np.arange(0, len(samples) - 1, rate)
    return np.interp(positions, np.arange(len(samples)), samples).astype(np.float32)


def coloured(rng, samples, room=0.5):
    """Applies a random microphone (a smooth filter, band edges) and, with probability `room`, a random room."""
    size = scipy.fft.next_fast_len(len(samples) + 8_000, real=True)
    spectrum = scipy.fft.rfft(samples, size)
    hz = np.arange(len(spectrum)) * RATE_HZ / size
    octave = np.log2(hz + 30)
    knots = np.linspace(octave[0], octave[-1], 7)
    gain_db = np.interp(octave, knots, rng.normal(0, 3.5, 7)) + rng.normal(0, 1.2) * (octave - 10)
    if rng.random() < 0.5:
        gain_db -= 24 * np.maximum(0, octave - np.log2(rng.uniform(2_200, 7_000)))
    if rng.random() < 0.5:
        gain_db -= 18 * np.maximum(0, np.log2(rng.uniform(60, 350)) - octave)
    spectrum *= 10 ** (gain_db / 20)
    if rng.random() < room:
        length = 8_000
        decay = np.exp(-6.9 * np.arange(length) / (rng.uniform(0.08, 0.8) * RATE_HZ))
        response = (rng.standard_normal(length) * decay).astype(np.float32)
        response *= rng.uniform(0.1, 1.0) / np.sqrt((response ** 2).sum())
        response[: int(rng.uniform(10, 100))] = 0
        response[0] = 1
        spectrum *= scipy.fft.rfft(response, size)
    return scipy.fft.irfft(spectrum, size)[: len(samples) + 3_000].astype(np.float32)


def fitted(rng, samples, count):
    """Returns exactly `count` samples: a random crop of the sound, or the sound at a random place, or repeated."""
    if len(samples) >= count:
        begin = rng.integers(len(samples) - count + 1)
        return samples[begin:begin + count]
    if rng.random() < 0.5:
        return np.tile(samples, count // len(samples) + 1)[:count]
    out = np.zeros(count, np.float32)
    begin = rng.integers(count - len(samples) + 1)
    out[begin:begin + len(samples)] = samples
    return out


def recorded(rng, sources):
    """Draws a recording without a cat, and plays it a little faster or slower."""
    clip = sources.backgrounds[rng.integers(len(sources.backgrounds))]
    return synthesis.unit_peak(fitted(rng, resped(rng, clip, 0.8, 1.25), MIX_SAMPLES))


def background(rng, sources):
    """Makes a background: recordings, noise, hum, music, speech, tones, or hardly anything."""
    kind = rng.choice(["clip", "clips", "noise", "hum", "music", "speech", "tones", "quiet"], p=[0.45, 0.12, 0.16, 0.06, 0.07, 0.06, 0.02, 0.06])
    if kind == "clip":
        return recorded(rng, sources)
    if kind == "clips":
        return synthesis.unit_peak(recorded(rng, sources) + rng.uniform(0.05, 1) * recorded(rng, sources))
    if kind == "noise":
        return synthesis.noise(rng, MIX_SAMPLES)
    if kind == "hum":
        return synthesis.hum(rng, MIX_SAMPLES)
    if kind == "music":
        return synthesis.music(rng, MIX_SAMPLES)
    if kind == "tones":
        return synthesis.tones(rng, MIX_SAMPLES)
    if kind == "speech":
        return fitted(rng, sources.spoken[rng.integers(len(sources.spoken))], MIX_SAMPLES)
    return 1e-3 * synthesis.noise(rng, MIX_SAMPLES)


def other_event(rng, sources):
    """Makes a foreground sound other than a cat."""
    kind = rng.random()
    if kind < 0.68:
        return pick(rng, sources.others)
    if kind < 0.84:
        spoken = sources.spoken[rng.integers(len(sources.spoken))]
        if rng.random() < 0.5:
            # The voice of a child, or of a cartoon.
            spoken = resped(rng, spoken, 1.2, 2.2)
        return synthesis.unit_peak(fitted(rng, spoken, min(len(spoken), int(RATE_HZ * rng.uniform(0.3, 3)))) + 1e-6)
    maker = rng.choice([synthesis.music, synthesis.tones, synthesis.ring_tone, synthesis.game_sound], p=[0.3, 0.2, 0.25, 0.25])
    return maker(rng, int(RATE_HZ * rng.uniform(0.3, 2)))


def cry(rng, sources):
    """Makes a baby's cry, near or far, of a younger or older one."""
    event = resped(rng, pick(rng, sources.babies), 0.8, 1.35)
    if rng.random() < 0.5:
        # One breath of it, which is as short as a meow.
        event = fitted(rng, event, min(len(event), int(RATE_HZ * rng.uniform(0.3, 1.5))))
    return event


def purr(rng, sources):
    """Makes a purr of one to five seconds."""
    event = resped(rng, pick(rng, sources.purrs), 0.8, 1.25)
    return fitted(rng, event, min(len(event), int(RATE_HZ * rng.uniform(1, 5))))


def cat_like_event(rng, sources):
    """Makes a sound near the border between cats and others. The network learns only the teacher's opinion of it."""
    kind = rng.random()
    if kind < 0.5:
        return synthesis.meow_like(rng)
    if kind < 0.8:
        return resped(rng, pick(rng, sources.cats), 0.5, 2.0)
    return resped(rng, pick(rng, sources.others), 0.5, 2.0)


def bent(rng, samples, octaves=0.35):
    """Plays a sound at a speed that varies, which gives it another melody."""
    knots = rng.normal(0, octaves, rng.integers(3, 7))
    rate = 2 ** np.interp(np.linspace(0, 1, len(samples)), np.linspace(0, 1, len(knots)), knots)
    positions = np.cumsum(rate)
    return np.interp(np.arange(0, positions[-1]), positions, samples).astype(np.float32)


def strange_event(rng, sources):
    """Makes an unnatural sound: bent, perhaps reversed, resped. The network learns only the teacher's opinion of it."""
    kind = rng.random()
    if kind < 0.2:
        return synthesis.meow_like(rng)
    if kind < 0.25:
        return synthesis.purr_like(rng)
    event = purr(rng, sources) if kind < 0.31 else pick(rng, sources.cats if kind < 0.50 else sources.babies if kind < 0.60 else sources.others)
    if rng.random() < 0.4:
        event = event[::-1]
    return resped(rng, bent(rng, event), 0.55, 1.8)


# Kinds of mixes and their shares. Half of the mixes are near the recordings and half far from them, so that the network
# imitates the teacher beyond what was recorded.
NEAR = {"cat": 0.27, "purr": 0.08, "whole cat": 0.08, "other": 0.20, "cry": 0.09, "whole other": 0.18, "like a cat": 0.10}
FAR = {"bent cat": 0.18, "bent purr": 0.04, "whole cat": 0.04, "bent other": 0.17, "bent cry": 0.08, "whole other": 0.10, "strange": 0.39}


def mix(rng, sources, shares):
    """Makes a mix of a kind drawn by these shares. Returns samples with a peak of at most 1, and each step's label."""
    kind = rng.choice(list(shares), p=list(shares.values()))
    labels = np.full(STEPS, OTHER, np.int8)
    if kind == "whole cat" and sources.cat_clips:
        clip = resped(rng, sources.cat_clips[rng.integers(len(sources.cat_clips))], 0.85, 1.18)
        out = coloured(rng, fitted(rng, clip, MIX_SAMPLES), room=0.3)[:MIX_SAMPLES]
        labels = steps_of_clip(out)
        out = synthesis.unit_peak(out) + 10 ** (rng.uniform(-60, -15) / 20) * background(rng, sources)
    elif kind == "whole other":
        out = recorded(rng, sources) if rng.random() < 0.5 else background(rng, sources)
        if rng.random() < 0.6:
            out = coloured(rng, out, room=0.3)[:MIX_SAMPLES]
    else:
        out = coloured(rng, background(rng, sources), room=0.2)[:MIX_SAMPLES]
        out = out / (np.sqrt((out ** 2).mean()) + 1e-9)
        heard = np.zeros(MIX_SAMPLES, np.float32)
        for _ in range(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2])):
            if kind == "like a cat":
                event, label = cat_like_event(rng, sources), UNSURE
            elif kind == "strange":
                event, label = strange_event(rng, sources), UNSURE
            elif kind.endswith("cry"):
                event, label = cry(rng, sources), OTHER
            elif kind.endswith("purr"):
                event, label = purr(rng, sources), CAT
            elif kind.endswith("other"):
                event, label = resped(rng, other_event(rng, sources), 0.78, 1.3), OTHER
            else:
                event, label = resped(rng, pick(rng, sources.cats), 0.78, 1.3), CAT
            if kind.startswith("bent"):
                event = bent(rng, event, 0.2)
            if rng.random() < 0.3:
                # Noise that comes and goes with the sound, as from a noise gate, must say nothing: all kinds get it.
                event = event + 10 ** (rng.uniform(-55, -30) / 20) * synthesis.noise(rng, len(event))
            place(rng, heard, labels, coloured(rng, event), out, label)
        out = out + heard
    return synthesis.unit_peak(out), labels


def place(rng, heard, labels, event, behind, label):
    """Adds an event at a random place, 0 to 35 dB above the background, and labels the steps in which it is audible."""
    event = event[:MIX_SAMPLES]
    begin = int(rng.integers(-len(event) // 4, MIX_SAMPLES - len(event) // 2))
    event = event[max(0, -begin):]
    begin = max(0, begin)
    event = event[: MIX_SAMPLES - begin]
    if len(event) < 1_000:
        return
    loudest = np.percentile(envelope(event), 90)
    floor = 10 * np.log10((behind[begin:begin + len(event)] ** 2).mean() + 1e-7)
    event = event * 10 ** ((floor + rng.uniform(0, 35) - loudest) / 20)
    heard[begin:begin + len(event)] += event
    if label == OTHER:
        return
    # A step is a cat where the event is near its own peak, and unsure in its tails.
    level = np.full(MIX_SAMPLES // 320, -200.0)
    own = envelope(np.concatenate([np.zeros(begin % 320, np.float32), event]))
    level[begin // 320:begin // 320 + len(own)] = own[: len(level) - begin // 320]
    per_step = np.array([level[int(step * 3.2) - (step > 0):int(step * 3.2) + 4].max() for step in range(STEPS)])
    near = np.convolve(per_step > level.max() - 45, [1, 1, 1], "same") > 0
    labels[near & (labels != CAT)] = UNSURE
    if label == CAT:
        labels[per_step > level.max() - 20] = CAT


def steps_of_clip(samples):
    """Labels the steps of a recording with a cat in it: loud steps are a cat, quiet ones are not, others are unsure."""
    level = envelope(samples)
    per_step = np.array([level[int(step * 3.2) - (step > 0):int(step * 3.2) + 4].max() for step in range(STEPS)])
    floor = np.percentile(level, 5)
    labels = np.full(STEPS, UNSURE, np.int8)
    labels[per_step > max(level.max() - 18, floor + 8)] = CAT
    if level.max() - floor > 30:
        labels[np.convolve(per_step > level.max() - 45, [1, 1, 1], "same") == 0] = OTHER
    return labels

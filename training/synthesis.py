"""Synthesizes sounds other than cats: noise, hum, tones, sirens, music, speech, and `meow_like`, which comes close."""

import io
import subprocess

import numpy as np
import soundfile
from scipy.signal import lfilter

import corpus

RATE_HZ = corpus.RATE_HZ

SENTENCES = {
    "en": ["Good morning, did you sleep well?", "One two three four five six seven eight nine zero", "Where did you put the keys?",
           "No, I will call you back later this afternoon.", "Here kitty kitty, come and eat", "Well, you know, maybe now and how"],
    "de": ["Guten Morgen, hast du gut geschlafen?", "Ich komme gleich nach Hause, mach bitte das Fenster zu."],
    "fr": ["Bonjour, il est huit heures et quart.", "Viens ici mon petit, on va manger."],
    "es": ["Buenos dias, la comida esta lista.", "No me digas que perdiste las llaves otra vez."],
    "it": ["Andiamo, oggi fa molto caldo.", "Mamma mia, dove sono le chiavi?"],
    "pl": ["Gdzie jest moja kawa?"],
    "ru": ["Доброе утро, как дела?"],
}
VARIANTS = ["m1", "m3", "m5", "m7", "f1", "f2", "f3", "f4", "f5", "croak", "whisper"]


def noise(rng, count):
    """Makes noise whose spectrum falls with a random slope and whose level changes slowly."""
    spectrum = np.fft.rfft(rng.standard_normal(count).astype(np.float32))
    hz = np.fft.rfftfreq(count, 1 / RATE_HZ) + 20
    spectrum *= (hz / 500) ** (-rng.uniform(0, 1.2))
    out = np.fft.irfft(spectrum, count).astype(np.float32)
    knots = rng.uniform(-4, 4, 6)
    swell = 10 ** (np.interp(np.linspace(0, 5, count), np.arange(6), knots) / 20)
    return unit_peak(out * swell)


def hum(rng, count):
    """Makes the hum of mains or a motor: harmonics of one low frequency."""
    time = np.arange(count) / RATE_HZ
    base = rng.choice([50, 60, 100, rng.uniform(30, 200)])
    out = sum(rng.uniform(0, 1) / n * np.sin(2 * np.pi * base * n * time + rng.uniform(0, 6)) for n in range(1, 20))
    return unit_peak(out.astype(np.float32) + 0.02 * noise(rng, count))


def tones(rng, count):
    """Makes beeps, alarms and sirens: a carrier that is keyed or swept, with overtones."""
    time = np.arange(count) / RATE_HZ
    carrier = rng.uniform(300, 3_000)
    kind = rng.integers(3)
    if kind == 0:
        hz = np.full(count, carrier)
        gate = ((time * rng.uniform(0.5, 6)) % 1 < rng.uniform(0.2, 0.8)).astype(np.float32)
    elif kind == 1:
        hz = carrier * (1 + rng.uniform(0.1, 0.5) * np.sin(2 * np.pi * rng.uniform(0.1, 4) * time))
        gate = np.ones(count)
    else:
        hz = carrier * np.where((time * rng.uniform(0.5, 4)) % 1 < 0.5, 1, rng.uniform(1.1, 1.6))
        gate = np.ones(count)
    phase = 2 * np.pi * np.cumsum(hz) / RATE_HZ
    out = sum(rng.uniform(0, 1) / n ** 1.5 * np.sin(n * phase) for n in range(1, 5))
    return unit_peak(lfilter([0.1], [1, -0.9], gate) * out)


def music(rng, count):
    """Makes notes of a scale with decaying or held harmonics, and sometimes a drum."""
    out = np.zeros(count, np.float32)
    scale = np.array([0, 2, 4, 5, 7, 9, 11, 12]) + rng.integers(-5, 6)
    beat = rng.uniform(0.15, 0.5)
    held = rng.random() < 0.4
    vibrato = rng.uniform(0, 0.012)
    slope = rng.uniform(0.8, 2)
    for step in range(int(count / RATE_HZ / beat) + 1):
        begin = int(step * beat * RATE_HZ)
        for _ in range(rng.integers(1, 4)):
            hz = 220 * 2 ** ((rng.choice(scale) + 12 * rng.integers(-1, 3)) / 12)
            length = min(int(RATE_HZ * rng.uniform(0.1, 1.2)), count - begin)
            if length < 400:
                continue
            time = np.arange(length) / RATE_HZ
            phase = 2 * np.pi * hz * time + hz * vibrato / 5.5 * np.sin(2 * np.pi * 5.5 * time)
            note = sum(np.sin(n * phase) / n ** slope for n in range(1, 1 + min(10, int(7_000 / hz))))
            decay = np.minimum(1, (time[-1] - time) * 20) if held else np.exp(-time * rng.uniform(2, 10))
            out[begin:begin + length] += (note * decay * np.minimum(1, time * 100)).astype(np.float32)
        if rng.random() < 0.3:
            length = min(2_000, count - begin)
            out[begin:begin + length] += rng.standard_normal(length).astype(np.float32) * np.exp(-np.arange(length) / 400)
    return unit_peak(out)


def ring_tone(rng, count):
    """Makes the ring tone of a phone or doorbell: a short figure of bell-like or square notes, again and again."""
    notes = rng.integers(2, 7)
    figure_hz = 440 * 2 ** ((rng.integers(0, 24) + rng.choice([0, 2, 4, 5, 7, 9, 12], notes)) / 12)
    length = int(RATE_HZ * rng.uniform(0.06, 0.3))
    time = np.arange(length) / RATE_HZ
    ratio, index = rng.choice([1, 1.4, 2, 3.5]), rng.uniform(0, 4)
    is_square, fall = rng.random() < 0.3, rng.uniform(0, 12)
    out = np.zeros(count, np.float32)
    for number, begin in enumerate(range(0, count, length)):
        hz = figure_hz[number % notes]
        if number % (notes + 2) >= notes and notes > 3:
            continue
        phase = 2 * np.pi * hz * time
        note = np.sin(phase + index * np.exp(-4 * time) * np.sin(ratio * phase))
        if is_square:
            note = sum(np.sin(n * phase) / n for n in range(1, 12, 2) if n * hz < 7_500)
        note = note * np.exp(-fall * time) * np.minimum(1, np.minimum(time, time[-1] - time) * 300)
        out[begin:begin + length] += note[: count - begin]
    return unit_peak(out)


def game_sound(rng, count):
    """Makes a sound of a game or cartoon: a sweep, a spring, a bleep or a run of notes, often through few bits."""
    time = np.arange(count) / RATE_HZ
    place = np.linspace(0, 1, count)
    low, high = np.exp(rng.uniform(np.log(120), np.log(900))), np.exp(rng.uniform(np.log(700), np.log(3_500)))
    kind = rng.integers(4)
    if kind == 0:
        hz = low * (high / low) ** (place if rng.random() < 0.5 else 1 - place)
    elif kind == 1:
        hz = low * (1 + rng.uniform(0.1, 0.8) * np.exp(-3 * place) * np.sin(2 * np.pi * rng.uniform(6, 25) * time))
    elif kind == 2:
        hz = low * (high / low) ** (np.floor(place * rng.integers(3, 12)) / 12)
    else:
        hz = low * 2 ** (rng.integers(0, 13, 12) / 12)[np.minimum(11, (place * 12).astype(int))]
    phase = 2 * np.pi * np.cumsum(hz) / RATE_HZ
    shape = rng.integers(3)
    out = np.sin(phase) if shape == 0 else np.sign(np.sin(phase)) if shape == 1 else 2 * ((phase / (2 * np.pi)) % 1) - 1
    if shape:
        # Above the top of the band an edge folds back; a smooth one does not matter here.
        out = lfilter([0.35], [1, -0.65], out)
    out = out * np.minimum(1, place * 40) * np.minimum(1, (1 - place) * rng.uniform(1.5, 20))
    if rng.random() < 0.3:
        bits = 2 ** rng.integers(3, 6)
        out = np.round(out * bits) / bits
    return unit_peak(out.astype(np.float32))


def purr_like(rng):
    """Makes a train of soft pulses, 18 to 32 a second, that swells with each breath, more or less like a purr.

    The network learns only the teacher's opinion of it.
    """
    count = int(RATE_HZ * rng.uniform(1.5, 5))
    time = np.arange(count) / RATE_HZ
    breath_s = rng.uniform(0.5, 1.3)
    breathing = 0.5 + 0.5 * np.sign(np.sin(np.pi * time / breath_s))
    rate_hz = rng.uniform(18, 32) * (1 + 0.06 * (breathing - 0.5) + 0.01 * np.cumsum(rng.standard_normal(count)) / np.sqrt(RATE_HZ))
    pulse = (0.5 + 0.5 * np.cos(2 * np.pi * np.cumsum(rate_hz) / RATE_HZ)) ** rng.uniform(1, 8)
    hz = np.fft.rfftfreq(count, 1 / RATE_HZ) + 10
    colour = 1 / (1 + (hz / rng.uniform(150, 700)) ** rng.uniform(1.5, 3)) + rng.uniform(0, 0.6) * np.exp(-((hz - rng.uniform(200, 1_500)) / 250) ** 2)
    rough = np.fft.irfft(np.fft.rfft(rng.standard_normal(count)) * colour, count)
    level = lfilter([0.001], [1, -0.999], rng.uniform(0.2, 0.8) + (1 - rng.uniform(0.2, 0.8)) * breathing)
    return unit_peak((rough * (rng.uniform(0, 0.3) + pulse) * level).astype(np.float32))


def meow_like(rng):
    """Makes a voiced sound with a moving pitch and moving formants, more or less like a meow.

    It is neither clearly a cat nor clearly something else, so the network learns only the teacher's opinion of it.
    """
    count = int(RATE_HZ * np.exp(rng.uniform(np.log(0.2), np.log(2.0))))
    place = np.linspace(0, 1, count)
    knots = lambda low, high, number: np.interp(place, np.linspace(0, 1, number), rng.uniform(low, high, number))
    pitch_hz = np.exp(rng.uniform(np.log(220), np.log(1_100))) * 2 ** (rng.uniform(0, 0.6) * np.sin(np.pi * place ** rng.uniform(0.5, 2)) + knots(-0.15, 0.15, 5))
    pitch_hz = pitch_hz * (1 + rng.uniform(0, 0.02) * np.sin(2 * np.pi * rng.uniform(4, 30) * place * count / RATE_HZ))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    openness = np.sin(np.pi * place ** rng.uniform(0.6, 1.6)) if rng.random() < 0.7 else knots(0, 1, 4)
    first, second = rng.uniform(400, 800) + rng.uniform(200, 900) * openness, rng.uniform(1_200, 2_200) + rng.uniform(-600, 1_200) * openness
    out, slope = np.zeros(count), rng.uniform(0.3, 1.3)
    for n in range(1, int(7_500 / pitch_hz.min()) + 1):
        hz = n * pitch_hz
        gain = 0.05 + np.exp(-((hz - first) / 350) ** 2) + 0.7 * np.exp(-((hz - second) / 500) ** 2)
        out += (hz < 7_500) * gain / n ** slope * np.sin(n * phase + rng.uniform(0, 6))
    out = out / np.abs(out).max() + 10 ** (rng.uniform(-50, -12) / 20) * noise(rng, count)
    return unit_peak((out * np.minimum(1, place * rng.uniform(4, 30)) * np.minimum(1, (1 - place) * rng.uniform(2, 12))).astype(np.float32))


def speech(part):
    """Returns utterances of espeak-ng, in the voices of one part. Needs the program espeak-ng."""
    spoken = []
    for number, variant in enumerate(VARIANTS):
        if number % corpus.PARTS != part:
            continue
        for language, sentences in SENTENCES.items():
            for index, sentence in enumerate(sentences):
                pitch, speed = 20 + (index * 37 + number * 11) % 75, 120 + (index * 29 + number * 17) % 90
                command = ["espeak-ng", "-v", f"{language}+{variant}", "-p", str(pitch), "-s", str(speed), "--stdout", sentence]
                done = subprocess.run(command, capture_output=True, check=True)
                samples, rate_hz = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
                spoken.append(unit_peak(corpus.to_canonical(samples, rate_hz)))
    return spoken


def unit_peak(samples):
    """Scales to a peak of 1."""
    return (samples / max(float(np.abs(samples).max()), 1e-9)).astype(np.float32)

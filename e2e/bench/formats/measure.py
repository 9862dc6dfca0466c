"""Makes recordings of each rate and format, measures `hub analyze` and ffmpeg's decoder on each by turns, and prints one
table. Started by `run`."""

import argparse
import array
import os
import pathlib
import platform
import random
import resource
import statistics
import subprocess
import wave

BINARIES = pathlib.Path(os.environ["MEOWLINK_BINARIES"])
MEOW = pathlib.Path(__file__).parents[3] / "sound/tests/clips/meow_alone.wav"

# Cat events an hour.
EVENTS_AN_HOUR = 20

# The aims: how fast a recording of 16 kHz is analysed, and what share of that speed the other rates have.
AIM_TIMES = 2000
AIM_SHARE = 0.8

WAV_RATES = [16_000, 44_100, 48_000]

# What a format is, the ending of its file, and how ffmpeg writes it. Each has 48 kHz.
FORMATS = [
    ("FLAC", "flac", []),
    ("MP3, 128 kbit/s", "mp3", ["-b:a", "128k"]),
    ("Ogg Vorbis", "ogg", ["-c:a", "libvorbis"]),
    ("Opus, 64 kbit/s", "opus", ["-c:a", "libopus", "-b:a", "64k"]),
    ("Opus for speech, 16 kbit/s", "voice.opus", ["-c:a", "libopus", "-application", "voip", "-b:a", "16k"]),
    ("AAC, 128 kbit/s", "m4a", ["-c:a", "aac", "-b:a", "128k"]),
]


def original(path, seconds):
    """A quiet room with meows in it, 16 kHz."""
    with wave.open(str(MEOW)) as clip:
        assert (clip.getframerate(), clip.getnchannels(), clip.getsampwidth()) == (16_000, 1, 2)
        meow = array.array("h", clip.readframes(clip.getnframes()))
    chance = random.Random(1)
    # Noise that repeats, because drawing it takes long.
    noise = array.array("h", (int(chance.gauss(0, 60)) for _ in range(7 * 16_000 + 131)))
    sound = array.array("h")
    while len(sound) < seconds * 16_000:
        sound.extend(noise)
    del sound[seconds * 16_000 :]
    step = 3600 * 16_000 // EVENTS_AN_HOUR
    for start in range(step // 3, len(sound) - len(meow), step):
        for place, sample in enumerate(meow):
            sound[start + place] = max(-32_768, min(32_767, sound[start + place] + sample))
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
        out.writeframes(sound.tobytes())


def ffmpeg(*words):
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, words)], check=True)


def recordings(folder, seconds):
    """Makes the files. What each is, and its path."""
    source = folder / "16000.wav"
    original(source, seconds)
    made = []
    for rate in WAV_RATES:
        path = folder / f"{rate}.wav"
        if path != source:
            ffmpeg("-i", source, "-ar", rate, path)
        made.append((f"WAV, {rate / 1000:g} kHz", path))
    for name, ending, words in FORMATS:
        path = folder / f"48000.{ending}"
        ffmpeg("-i", folder / "48000.wav", *words, path)
        made.append((name, path))
    return made


def cpu_s(command):
    """Processor time of a program, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--folder", type=pathlib.Path, required=True)
    arguments.add_argument("--minutes", type=int, default=30)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    seconds = options.minutes * 60
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    print(f"{os.cpu_count()} x {cpu}, {platform.system()} {platform.release()}; programs in {BINARIES};")
    print(f"{options.minutes} minutes with {EVENTS_AN_HOUR} events an hour, {options.rounds} rounds that take turns.\n")

    files = recordings(options.folder, seconds)
    times = {path: ([], []) for _, path in files}
    for _ in range(options.rounds):
        for _, path in files:
            hub, decoder = times[path]
            hub.append(cpu_s([BINARIES / "hub", "analyze", path]))
            # One thread, as the hub has.
            decoder.append(cpu_s(["ffmpeg", "-nostdin", "-threads", "1", "-i", path, "-f", "null", "-"]))

    print(f"{'recording':>28} {'hub analyze':>12} {'ffmpeg alone':>13} {'ratio':>6} {'of 16 kHz':>10}")
    first = min(times[files[0][1]][0])
    for name, path in files:
        hub, decoder = times[path]
        # The ratio is that of each pair, because another load on the machine slows both.
        ratio = statistics.median(a / b for a, b in zip(hub, decoder))
        speed, alone, share = seconds / min(hub), seconds / min(decoder), first / min(hub)
        print(f"{name:>28} {speed:>11.0f}x {alone:>12.0f}x {ratio:>6.1f} {100 * share:>8.0f} %")
    print("\nTimes real time by processor time, the best round; the ratio is hub / ffmpeg, the median of the rounds.")
    print(f"Aims: {AIM_TIMES}x at 16 kHz, and WAV of other rates at {100 * AIM_SHARE:.0f} % of it.")


main()

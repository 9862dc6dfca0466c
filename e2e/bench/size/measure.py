"""Sizes of programs and of the crates in them: measure.py NAME=PROGRAM..."""

import collections
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# Crates that add less are summed up, in bytes.
SMALL = 30_000
# What the compiler makes of generic code has the name of the crate that defines it. These are parts of Rust itself.
RUST = {"core", "alloc", "std", "hashbrown", "addr2line", "gimli", "object", "miniz_oxide", "rustc_demangle"}


def stripped_bytes(program):
    """Size of the program as packages have it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "program"
        shutil.copy(program, copy)
        subprocess.run(["strip", copy], check=True)
        return copy.stat().st_size


def crate_of(symbol):
    """The crate that a symbol comes from. C and assembly have none."""
    found = re.match(r"_ZN(\d+)", symbol)
    if not found:
        return "C and assembly"
    name = symbol[found.end() :][: int(found[1])]
    # "<T as Trait>::function" begins with the path of T.
    name = re.sub(r"^_?(\$[A-Za-z0-9]+\$|[&*(\[ ])*(mut |dyn )?", "", name.replace("$LT$", "").replace("$RF$", ""))
    name = re.split(r"\.\.|::|\$| ", name)[0] or "core"
    # Code for every T has the name of no crate.
    return "Rust's own" if name in RUST or len(name) < 2 or name == "mut" else name


def crates(program):
    listed = subprocess.run(["nm", "--print-size", "--defined-only", program], check=True, capture_output=True, text=True)
    sizes = collections.Counter()
    for line in listed.stdout.splitlines():
        fields = line.split()
        # Address, size, kind, name. What lies in memory alone (kind b) takes no room in the file.
        if len(fields) == 4 and fields[2] not in "bB":
            sizes[crate_of(fields[3])] += int(fields[1], 16)
    return sizes


def main():
    programs = dict(argument.split("=", 1) for argument in sys.argv[1:])
    found = {name: crates(program) for name, program in programs.items()}
    whole = {name: stripped_bytes(program) for name, program in programs.items()}
    names = list(programs)
    print("kB" + " " * 30 + "".join(f"{name:>30}" for name in names))

    def row(title, values):
        print(f"{title:32}" + "".join(f"{value / 1000:30,.0f}" for value in values))

    row("whole program", whole.values())
    total = sum(found.values(), collections.Counter())
    small = [crate for crate in total if max(found[name][crate] for name in names) < SMALL]
    for crate, _ in total.most_common():
        if crate not in small:
            row("  " + crate, [found[name][crate] for name in names])
    row(f"  {len(small)} smaller crates", [sum(found[name][crate] for crate in small) for name in names])
    row("  constants, tables, unwinding", [whole[name] - sum(found[name].values()) for name in names])


if __name__ == "__main__":
    main()

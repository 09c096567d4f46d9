"""Solves environment.yml and environment-gpu.yml for Linux as conda would, on a machine without CUDA; installs nothing.

    python tools/solve.py                  # conda-forge; says "not solved" where it cannot be reached
    python tools/solve.py --channel URL

pip's part of a file is not solved."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

import yaml
from rattler import MatchSpec, Platform, VirtualPackage, VirtualPackageOverrides, solve

ROOT = Path(__file__).resolve().parent.parent


async def solution(name: str, channel: str | None) -> str:
    """What came out for one file, after its name."""
    content = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    channels = [channel] if channel else [part for part in content["channels"] if part != "nodefaults"]
    specs = [MatchSpec(entry) for entry in content["dependencies"] if isinstance(entry, str)]
    here = [package.into_generic() for package in VirtualPackage.detect(VirtualPackageOverrides())]
    machine = [package for package in here if package.name.normalized != "__cuda"]
    platforms = [Platform("linux-64"), Platform("noarch")]
    try:
        records = await solve(channels, specs, platforms=platforms, virtual_packages=machine)
    except Exception as error:  # whatever conda's solver or the network has to say
        return f"not solved: {' '.join(str(error).split())[:300]}"
    return f"solved, {len(records)} packages"


async def solutions(channel: str | None) -> list[str]:
    """One line for each file."""
    return [f"{name}: {await solution(name, channel)}" for name in ("environment.yml", "environment-gpu.yml")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channel", help="instead of the files' own")
    channel = parser.parse_args().channel
    lines = asyncio.run(solutions(channel))
    print("\n".join(lines), flush=True)
    return 0 if all(": solved" in line for line in lines) else 1


if __name__ == "__main__":
    os._exit(main())  # py-rattler's threads can crash a Python that ends in the ordinary way

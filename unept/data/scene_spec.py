"""Names of the generated scenes: `scenes`, `scenes:v1`, `scenes:v2` and `scenes:v2?emblems=3`.

`scenes` alone is the default version, and this file is the one place that says which that is. A record never depends on
it: rows and studies say `scenes` for the first version, as they did when there was no other, and `scenes:v2` for the
second, whatever the default is when they are read.
"""

from __future__ import annotations

from dataclasses import dataclass

KIND = "scenes"
VERSIONS = ("v1", "v2")
DEFAULT_VERSION = "v2"
FORMS = f"{KIND}, {KIND}:v1, {KIND}:v2 or {KIND}:v2?emblems=NUMBER"
MAX_EMBLEMS = 4
DEFAULT_EMBLEMS = 2


@dataclass(frozen=True, kw_only=True)
class SceneSpec:
    """Which generated scenes a specification names.

    Attributes:
        version: One of VERSIONS.
        emblems: Emblems in a scene; the first version has one.
    """

    version: str = DEFAULT_VERSION
    emblems: int = 1

    @property
    def full(self) -> str:
        """The specification with its version, and with the number of emblems where it is not the default."""
        option = "" if self.version == "v1" or self.emblems == DEFAULT_EMBLEMS else f"?emblems={self.emblems}"
        return f"{KIND}:{self.version}{option}"


def parse_scene_spec(spec: str) -> SceneSpec:
    """Return what a specification of generated scenes names. ValueError of one line where it names nothing."""
    kind, colon, rest = spec.partition(":")
    version, mark, option = rest.partition("?") if colon else (DEFAULT_VERSION, "", "")
    if kind != KIND or version not in VERSIONS:
        raise ValueError(f"data {spec!r}: scenes are generated and have no path: expected {FORMS}")
    if version == "v1":
        if mark:
            raise ValueError(f"data {spec!r}: scenes:v1 has no options: expected {FORMS}")
        return SceneSpec(version=version)
    name, equals, number = option.partition("=")
    if not mark:
        return SceneSpec(version=version, emblems=DEFAULT_EMBLEMS)
    allowed = [str(count) for count in range(1, MAX_EMBLEMS + 1)]
    if name != "emblems" or not equals or number not in allowed:
        raise ValueError(f"data {spec!r}: expected {KIND}:v2?emblems=NUMBER with 1 to {MAX_EMBLEMS} emblems")
    return SceneSpec(version=version, emblems=int(number))


def is_generated(spec: str) -> bool:
    """Return True for a specification of generated scenes, which have no files."""
    return spec.partition(":")[0] == KIND


def canonical_spec(spec: str) -> str:
    """Return the shortest specification of the same data: `scenes:v1` and `scenes` are one while v1 is the default."""
    return spec_of_record(recorded_spec(spec))


def recorded_spec(spec: str) -> str:
    """Return a specification as records have it: it says the same whichever version is the default.

    Other data sets' specifications are returned as they are.
    """
    if not is_generated(spec):
        return spec
    parsed = parse_scene_spec(spec)
    return KIND if parsed.version == "v1" else parsed.full


def spec_of_record(recorded: str) -> str:
    """Return the shortest specification of what a record names: `scenes` alone for the default version."""
    full = f"{KIND}:v1" if recorded == KIND else recorded
    return KIND if full == f"{KIND}:{DEFAULT_VERSION}" else full

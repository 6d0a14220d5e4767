"""Measured values, what is hoped of them, and how they print."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value, which is to be at most `target`.

    A `ratio` compares two things of the same run, so that it means the same on every machine: it counts for the exit
    code. Anything else depends on the machine and on what else it does: it is printed beside its target.
    """

    name: str
    value: float
    unit: str = ""
    target: float | None = None
    ratio: bool = False
    remark: str = ""

    @property
    def missed(self) -> bool:
        return self.target is not None and self.value > self.target

    @property
    def fails(self) -> bool:
        return self.ratio and self.missed

    def __str__(self) -> str:
        aim = "" if self.target is None else f"at most {self.target:g} {self.unit}".rstrip()
        verdict = "" if self.target is None else "missed" if self.missed else "reached"
        return f"{self.name:<58} {f'{self.value:.3g} {self.unit}':>12}  {aim:<16} {verdict:<8} {self.remark}".rstrip()


def compared(name: str, ours: Sequence[float], theirs: Sequence[float], target: float | None = 1.0) -> Figure:
    """The ratio of two medians, of seconds that were measured in turns. Without a target it is told, not judged."""
    mine, other = median(ours), median(theirs)
    remark = f"{mine * 1000:.2f} ms, moto_server {other * 1000:.2f} ms"
    return Figure(name, mine / other, "", target, ratio=True, remark=remark)


def spread(values: Sequence[float], unit: str, factor: float = 1.0) -> str:
    """The range of what a median was taken of, as a remark."""
    return f"{len(values)} runs, {min(values) * factor:.3g} to {max(values) * factor:.3g} {unit}"


def exit_code(figures: Iterable[Figure]) -> int:
    return 1 if any(figure.fails for figure in figures) else 0

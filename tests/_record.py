"""A run that has been, as experiments keep it."""

from experiments._records import Record


def record(curves=None, **summary):
    base = {"verdict": "ended", "loss": 0.0, "steps": 0}
    return Record("k", 1, {}, base | summary, {}, curves or {}, {}, "")

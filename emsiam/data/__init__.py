"""Images by id, and views of them: data sets, T, batches, the probe set."""

from . import batches, folders, images, probe_set, sets, shapes, views

__all__ = ["batches", "folders", "images", "probe_set", "sets", "shapes", "views"]

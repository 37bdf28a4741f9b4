"""One file a table of the paper: `python -m experiments.NAME`, from the root of the repository. Not in the wheel."""

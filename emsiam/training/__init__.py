"""Training as a run: when what is measured, and how it goes on where it was stopped."""

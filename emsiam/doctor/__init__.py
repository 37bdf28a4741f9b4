"""Is it collapse? Anybody's embeddings, networks and runs, examined."""

"""Methods x sets x seeds x protocols: what `bench_embeddings.py` is made of."""

"""Ways to use the generator beside the model's own, each with the twin it is to be compared with; `bench_search.py`."""

"""What `bench_train` measures: its cases, what they cost in operations, and the PyTorch peer."""

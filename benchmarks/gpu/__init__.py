"""Everything that needs an NVIDIA GPU, in fifteen minutes: ``python -m benchmarks.gpu``."""

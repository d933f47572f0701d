"""The pipeline: executes notebooks, stores runs, records what they came from, switches profiles."""

"""What a run is: its identity, its directory and its state. Torch-free."""

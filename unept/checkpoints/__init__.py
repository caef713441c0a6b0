"""Model files: our own safetensors and the authors' released checkpoints."""

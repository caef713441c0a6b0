"""Peak memory of a training step: predicted by tracing it on tensors without data, and verified at the allocator."""

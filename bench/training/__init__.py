"""One training of one model, on one process or many: `unept-bench train`. The loop is `training.loop.train`."""

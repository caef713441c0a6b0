"""One training of one model, in one process or many: `unept-bench train`. The loop is `training.loop.train`."""

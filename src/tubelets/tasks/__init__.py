"""One folder a task: head, batches, loss, metrics and card section belong together."""
